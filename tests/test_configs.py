"""Every YAML that we ship or test with is valid, and there are some."""

from pathlib import Path

import pytest
from samples import ROOT

from wit.loading import load_runtime, load_study

STUDIES = sorted(
    {*(ROOT / "configs" / "studies").rglob("*.yaml"), *(ROOT / "tests" / "studies").rglob("*.yaml")}
)
RUNTIMES = sorted((ROOT / "configs" / "runtimes").rglob("*.yaml"))


def test_every_yaml_is_a_study_or_a_runtime() -> None:
    found = {*(ROOT / "configs").rglob("*.y*ml"), *(ROOT / "tests" / "studies").rglob("*.y*ml")}
    assert found == {*STUDIES, *RUNTIMES}
    assert len(STUDIES) >= 2
    assert len(RUNTIMES) >= 2


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_valid_and_bears_the_name_of_its_file(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    assert study.cells


@pytest.mark.parametrize("path", RUNTIMES, ids=lambda path: path.stem)
def test_a_runtime_is_valid_and_keeps_artifacts_in_the_checkout(path: Path) -> None:
    assert load_runtime(path).artifact_root == ROOT / "artifacts"
