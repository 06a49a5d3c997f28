"""A study that trains one cell of each objective, and is run again without that."""

import json
from pathlib import Path

import pytest
from commands import wit
from flow_runs import plan_of, run, runtime_words, statuses

GRID = "weights=[{prompt: 0, response: 0.5}, {prompt: 0, response: 1}]"


@pytest.mark.usefixtures("prefect")
def test_replicates_are_shown_and_trained_only_when_they_are_asked_for(
    study_file: Path, tmp_path: Path
) -> None:
    once = run(study_file, tmp_path, GRID, "dedupe=rays")
    assert [stage.stage for stage in once.stages].count("sft") == 1
    assert not once.failures
    given = [
        "--json",
        *(word for key in runtime_words(tmp_path) for word in ("--set-runtime", key)),
    ]
    base, trained, replicate = json.loads(wit("compare", "tiny", *given).stdout)
    assert [cell["cell"] for cell in (base, trained, replicate)] == [
        "base",
        "p0-r0.5-s0",
        "p0-r1-s0",
    ]
    assert replicate["replicate_of"] == trained["cell"]
    assert replicate["models"] == trained["models"]
    assert "not trained: as p0-r0.5" in Path(once.report or "").read_text()
    whole = run(study_file, tmp_path, GRID)
    made = {name for name, status in statuses(whole).items() if status == "made"}
    second = next(c for c in plan_of(study_file, tmp_path, GRID).cells if str(c.cell) == "p0-r1-s0")
    assert made == {artifact.fingerprint for artifact in second.artifacts}
    cells = json.loads(wit("compare", "tiny", *given).stdout)
    assert [cell["replicate_of"] for cell in cells] == [None] * 3
