"""The flow of a study that aligns in two rounds on pairs of the policy's own responses."""

import json
from pathlib import Path

import pytest
from flow_runs import plan_of, run, runtime_words, statuses
from typer.testing import CliRunner

from wit.cli import app
from wit.data.prepare import TRAIN, read_card, read_table
from wit.lineage import table
from wit.outcome import StudyOutcome

# Of what a model without sense says, the last letter is now and then the right one.
TWICE = "{num_responses: 4, max_new_tokens: 8, extract: '[a-z]', rounds: 2}"
STUDY = (
    "weights=[{prompt: 0, response: 1}]",
    f"alignments={{plain: {{}}, twice: {{on_policy: {TWICE}}}}}",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("on-policy")


@pytest.fixture(scope="module")
def first(prefect: None, study_file: Path, root: Path) -> StudyOutcome:
    return run(study_file, root, *STUDY)


def test_rounds_are_made_one_after_the_other(
    first: StudyOutcome, root: Path, study_file: Path
) -> None:
    plan = plan_of(study_file, root, *STUDY)
    assert statuses(first) == {a.fingerprint: "made" for a, _ in plan.artifacts()}
    made = [stage.stage for stage in first.stages]
    assert [made.count(stage) for stage in ("pairs", "reference", "dpo")] == [2, 3, 3]
    [cell] = plan.cells
    pairs, again = (step for step in cell.aligned[1].made if step.stage == "pairs")
    assert 0 < read_card(pairs.path)["pair_share"] <= 1
    assert read_table(pairs.path, TRAIN) != read_table(again.path, TRAIN)
    scores = table("tiny", first.tracking_uri, version=first.version)
    aligned = scores[scores.stage == "dpo"].groupby("alignment").fingerprint.unique()
    assert [*aligned["twice"]] == [cell.aligned[1].model.fingerprint], "of the last round alone"


def test_lineage_leads_from_the_last_round_to_the_sft_model(
    first: StudyOutcome, root: Path, study_file: Path
) -> None:
    [cell] = plan_of(study_file, root, *STUDY).cells
    last = cell.aligned[1].model
    words = [word for key in runtime_words(root) for word in ("--set-runtime", key)]
    shown = CliRunner().invoke(app, ["lineage", last.fingerprint, "--json", *words])
    said = json.dumps(json.loads(shown.stdout))
    for step in (cell.sft, *cell.aligned[1].made):
        assert step.fingerprint in said
