"""The flow of a study with several alignments: made, reused, some added, one of which fails."""

import json
from pathlib import Path

import pytest
from flow_runs import plan_of, run, runtime_words, statuses
from typer.testing import CliRunner

from wit.cli import app
from wit.lineage import table
from wit.outcome import StudyOutcome

ONE_CELL = "weights=[{prompt: 0, response: 1}]"
TWO = "alignments={plain: {}, ipo: {objective: ipo}}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aligned")


@pytest.fixture(scope="module")
def first(prefect: None, study_file: Path, root: Path) -> StudyOutcome:
    return run(study_file, root, ONE_CELL, TWO)


def test_sft_and_its_reference_are_made_once(
    first: StudyOutcome, root: Path, study_file: Path
) -> None:
    plan = plan_of(study_file, root, ONE_CELL, TWO)
    assert statuses(first) == {a.fingerprint: "made" for a, _ in plan.artifacts()}
    made = [stage.stage for stage in first.stages]
    assert [made.count(stage) for stage in ("sft", "reference", "dpo")] == [1, 1, 2]
    named = {stage.label for stage in first.stages if stage.stage == "dpo"}
    assert named == {"dpo p0-r1-s0 plain", "dpo p0-r1-s0 ipo"}
    assert "Alignment objectives" in Path(first.report or "").read_text()


def test_compare_best_and_the_table_tell_them_apart(first: StudyOutcome, root: Path) -> None:
    scores = table("tiny", first.tracking_uri, version=first.version)
    aligned = scores[scores.stage == "dpo"].groupby("alignment").fingerprint.unique()
    assert [len(models) for models in aligned] == [1, 1]
    given = ["--json", *(word for key in runtime_words(root) for word in ("--set-runtime", key))]
    compared = CliRunner().invoke(app, ["compare", "tiny", *given])
    _, cell = json.loads(compared.stdout)
    assert cell["models"]["dpo"]["objective"] == "dpo"
    assert cell["other_alignments"]["ipo"]["objective"] == "ipo"
    assert cell["other_alignments"]["ipo"]["fingerprint"] == aligned["ipo"][0]
    best = CliRunner().invoke(app, ["best", "tiny", "--alignment", "ipo", *given])
    assert json.loads(best.stdout)["model"]["fingerprint"] == aligned["ipo"][0]


def test_one_more_that_fails_fails_alone(first: StudyOutcome, root: Path, study_file: Path) -> None:
    """And it is all that is to be made: the others are there."""
    three = "alignments={plain: {}, ipo: {objective: ipo}, gentle: {beta: 0.02}, low: {beta: 0.01}}"
    [cell] = plan_of(study_file, root, ONE_CELL, three).cells
    broken = cell.aligned[2]
    broken.model.path.mkdir(parents=True)  # as somebody makes it by hand
    outcome = run(study_file, root, ONE_CELL, three)
    seen = statuses(outcome)
    assert seen.items() >= {(stage.fingerprint, "reused") for stage in first.stages}
    assert seen[broken.model.fingerprint] == "failed"
    assert {seen[e.fingerprint] for e in broken.evaluations} == {"blocked"}
    fourth = (cell.aligned[3].model, *cell.aligned[3].evaluations)
    assert {seen[a.fingerprint] for a in fourth} == {"made"}
    [failure] = outcome.failures
    assert failure.label == "dpo p0-r1-s0 gentle"
    scores = table("tiny", outcome.tracking_uri, version=outcome.version)
    lacking = scores[scores.status != "finished"]
    assert set(lacking.alignment) == {"gentle"}
