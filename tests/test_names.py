"""No name leads out of the artifact root."""

import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
from commands import wit
from hypothesis import given
from pydantic import TypeAdapter, ValidationError
from tiny import make_tiny_base

from wit.config import Cell, Runtime
from wit.outcome import study_folder
from wit.recipes import Name
from wit.weights import TokenWeights

NAMES = st.text(max_size=12) | st.sampled_from(
    ["..", ".", "/etc", "a/../../b", "a/b", "~", "$HOME", "-rf", "a\0b", "a\n", "..a", "a\\b", "C:"]
)
names = TypeAdapter(Name)


@given(name=NAMES | st.from_regex(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$", fullmatch=True))
def test_a_name_that_is_allowed_stays_in_its_folder(name: str) -> None:
    root = Path("/somewhere/root")
    try:
        names.validate_python(name)
    except ValidationError:
        return
    folder = study_folder(Runtime(artifact_root=root), name)
    assert folder.resolve().parent == root / "studies"
    cell = Cell(weights=TokenWeights(prompt=0.25, response=1e-6), seed=10**9)
    derived = f"{name}-{cell}"[-80:].lstrip("-._")  # as flows/cell.py calls a study of one cell
    assert names.validate_python(derived) == derived


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", "", "a\n"])
def test_names_of_a_study_file_that_lead_elsewhere_are_refused(
    name: str, base: Path, tmp_path: Path
) -> None:
    study = {
        "name": "x",
        "base": {"path": str(base)},
        "instructions": {"path": "builtin"},
        "preferences": {"path": "builtin"},
        "weights": ["instruction-tuning"],
        "benchmarks": [{"name": "wit_cloze", "role": "select"}],
    }
    for wrong in (
        {"name": name},
        {"benchmarks": [{"name": name, "role": "select"}]},
        {"instructions": {"sources": {name: {"path": "builtin"}}}},
        {
            "weights": [
                {"prompt": 0, "response": 1, "sources": {name: {"prompt": 1, "response": 1}}}
            ]
        },
    ):
        file = tmp_path / "study.yaml"
        file.write_text(json.dumps(study | wrong))
        root = tmp_path / "root"
        ended = wit("run", file, "--set-runtime", f"artifact_root={root}")
        assert ended.returncode == 2, wrong
        assert "Traceback" not in ended.stderr
        assert not root.exists()


@pytest.mark.parametrize("command", [["report"], ["best", "--register", "x"], ["compare"]])
def test_a_study_asked_for_by_a_name_that_leads_elsewhere_is_not_found(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    root = tmp_path / "root"
    place = ["--set-runtime", f"artifact_root={root}"]
    ended = wit(command[0], "../../outside", *command[1:], *place)
    assert ended.returncode == 2
    assert not list((tmp_path / "outside").iterdir())
