"""A study that one machine has made, and a second machine that has nothing but the store."""

from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from object_store import SECRET, make_bucket

from flows.study import run_study
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.loading import load_study
from wit.outcome import StudyOutcome
from wit.plan import Plan, make_plan
from wit.stages import make_artifact


@pytest.fixture(scope="module")
def url(object_store: str) -> str:
    return f"{make_bucket(object_store, f'bucket-{uuid4().hex[:12]}')}/folder"


@pytest.fixture(scope="module")
def one_cell(study_file: Path) -> Path:
    study = yaml.safe_load(study_file.read_text())
    file = study_file.with_name("one-cell.yaml")
    file.write_text(yaml.safe_dump({**study, "name": "one-cell", "weights": study["weights"][:1]}))
    return file


@pytest.fixture(scope="module")
def made(one_cell: Path, url: str, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """By the first machine."""
    root = tmp_path_factory.mktemp("one")
    runtime = Runtime(
        artifact_root=root, artifact_store=url, device="cpu", tracking_uri=f"sqlite:///{root}/m.db"
    )
    plan = make_plan(load_study(one_cell), runtime)
    for artifact, _ in plan.artifacts():
        assert make_artifact(artifact, runtime) == "made"
    return plan


def contents(artifact: Artifact) -> dict[str, bytes]:
    files = (file for file in artifact.verified().path.rglob("*") if file.is_file())
    return {str(file.relative_to(artifact.path)): file.read_bytes() for file in files}


def test_another_machine_reuses_all_of_it_and_trains_nothing(
    prefect: None, one_cell: Path, url: str, made: Plan, tmp_path: Path
) -> None:
    root = tmp_path / "two"
    runtime = [f"artifact_root={root}", f"artifact_store={url}", "device=cpu"]
    state = run_study(str(one_cell), None, None, runtime, return_state=True)
    outcome = state.result(raise_on_failure=False)
    assert isinstance(outcome, StudyOutcome), outcome
    assert outcome.counts == {"reused": 6 + 4}
    here = make_plan(load_study(one_cell), Runtime(artifact_root=root))
    for (ours, _), (theirs, _) in zip(here.artifacts(), made.artifacts(), strict=True):
        assert contents(ours) == contents(theirs)
    assert not list(root.rglob("*.partial"))
    assert "p0-r1" in Path(str(outcome.report)).read_text()
    assert not [f for f in root.rglob("*") if f.is_file() and SECRET.encode() in f.read_bytes()]
