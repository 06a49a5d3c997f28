"""The flow of a study, from nothing to its report: what is made, and what is not made again."""

from pathlib import Path

import pytest
import torch
from flow_runs import ended, plan_of, run, runtime_words, statuses
from prefect.client.orchestration import SyncPrefectClient

from flows.cell import run_cell
from flows.evaluation import run_evaluation
from flows.report import run_report
from flows.study import run_study
from wit.analysis.data_summary import DataSummary
from wit.artifacts import Artifact
from wit.form_fields import BenchmarkChoice, Weights
from wit.forms import CellRequest, EvaluationRequest, StudyRequest
from wit.lineage import lineage, table
from wit.models import load_model
from wit.outcome import StudyOutcome
from wit.plan import CellPlan
from wit.report_form import ReportRequest


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def first(prefect: None, study_file: Path, root: Path) -> StudyOutcome:
    return run(study_file, root)


def test_the_first_run_makes_every_stage(first: StudyOutcome, root: Path, study_file: Path) -> None:
    plan = plan_of(study_file, root)
    assert first.failures == []
    assert first.exit_code == 0
    assert statuses(first) == {a.fingerprint: "made" for a, _ in plan.artifacts()}
    assert len(first.stages) == (5 + 2) + 2 * 11
    assert all(artifact.verified().exists() for artifact, _ in plan.artifacts())
    assert not list(root.rglob("*.partial"))
    report = Path(first.report).read_text()
    assert "p0.5-r1" in report
    found = "test items in the training text: 1 of 16 items of wit_choice"
    assert first.notes == (f"{found} (the report names them)",)
    assert found in report
    assert "instructions, row 64" in report
    kept = DataSummary.load(Path(first.report).parent)
    assert kept == DataSummary.of_plan(plan)
    assert kept.overlap.num_rows == {
        name: card["rows"]["train"] for name, card in kept.cards.items()
    }


def test_the_second_run_makes_nothing(first: StudyOutcome, root: Path, study_file: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*.safetensors")}
    again = run(study_file, root)
    assert again.counts == {"reused": len(first.stages)}
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*.safetensors")} == before


def test_a_finished_study_asks_nobody(
    first: StudyOutcome, client: SyncPrefectClient, root: Path, study_file: Path
) -> None:
    """Who is asked for its parts: wit/test_handed_out.py."""
    before = {run.id for run in client.read_flow_runs() if run.deployment_id}
    settings = [*runtime_words(root), "execution=deployments"]
    request = StudyRequest(study_file=str(study_file), runtime_settings=settings)
    assert ended(run_study, request).counts == {"reused": len(first.stages)}
    assert {run.id for run in client.read_flow_runs() if run.deployment_id} == before


def test_a_report_is_made_again(first: StudyOutcome, root: Path) -> None:
    Path(first.report).unlink()
    request = ReportRequest(study="tiny", runtime_settings=runtime_words(root))
    state = run_report(request, return_state=True)
    assert state.is_completed(), state.message
    assert "p0.5-r1" in Path(first.report).read_text()


def test_another_beta_remakes_dpo_and_its_evaluation_alone(
    first: StudyOutcome, root: Path, study_file: Path
) -> None:
    other = run(study_file, root, "dpo.beta=0.5")
    made = {stage.stage for stage in other.stages if stage.status == "made"}
    assert made == {"dpo", "evaluation"}
    assert other.counts == {"made": 2 * 5, "reused": len(first.stages) - 2 * 5}
    assert statuses(other).keys() & statuses(first).keys() >= {
        stage.fingerprint for stage in first.stages if stage.stage == "sft"
    }


def test_every_score_can_be_traced_to_its_data(
    first: StudyOutcome, root: Path, study_file: Path
) -> None:
    uri = first.tracking_uri
    scores = table("tiny", uri, version=first.version)
    selected = scores[scores["benchmark"] == "wit_choice"]
    assert sorted(selected["stage"]) == ["base", "dpo", "dpo", "sft", "sft"]
    aligned = scores[scores["benchmark"].isin(["kl_reference", "log_ratio_margin"])]
    assert sorted(aligned["stage"]) == ["dpo"] * 4, "beside the SFT parent"
    assert aligned["stderr"].notna().all()
    cell = plan_of(study_file, root).cells[1]
    node = lineage(cell.dpo.fingerprint, uri)
    sft = node.parents["policy"]
    assert sft.fingerprint == cell.sft.fingerprint
    assert sft.parents["instructions"].fingerprint == cell.sft.parents["instructions"].fingerprint
    assert sft.parents["base"].fingerprint == cell.sft.parents["base"].fingerprint
    assert {child.fingerprint for child in node.children} == {
        evaluation.fingerprint for evaluation in cell.dpo_evaluations
    }


def make_with_nan(sft: Artifact) -> None:
    """An SFT artifact that is whole and whose weights are not numbers."""
    model = load_model(sft.parents["base"].path)
    with torch.no_grad():
        model.lm_head.weight[3, 3] = float("nan")
    with sft.lock(), sft.writing() as out:
        model.save_pretrained(out / "model")


def test_stages_that_fail_fail_alone(prefect: None, study_file: Path, tmp_path: Path) -> None:
    plan = plan_of(study_file, tmp_path)
    sound, broken = plan.cells
    make_with_nan(broken.sft)
    damaged = [plan.base_evaluations[0], plan.items]
    for artifact in damaged:
        artifact.path.mkdir(parents=True)  # as somebody makes it by hand
    outcome = run(study_file, tmp_path)
    seen = statuses(outcome)

    def of(cell: CellPlan) -> list[str]:
        return [seen[artifact.fingerprint] for artifact in cell.artifacts]

    assert of(sound) == ["made"] * 11
    # Its reference finds the weights that are no numbers, so that no DPO begins.
    assert of(broken) == ["reused", *["failed"] * 5, *["blocked"] * 5]
    assert seen[plan.overlap.fingerprint] == "blocked"
    assert outcome.exit_code == 1
    said = {failure.fingerprint: failure.message for failure in outcome.failures}
    not_finite = {print for print, message in said.items() if "not finite" in message}
    assert not_finite == {e.fingerprint for e in (*broken.sft_evaluations, *broken.references)}
    assert said.keys() - not_finite == {artifact.fingerprint for artifact in damaged}
    scores = table("tiny", outcome.tracking_uri)
    assert set(scores[scores["status"] == "failed"]["cell"]) == {str(broken.cell)}
    [blocked] = scores[scores["status"] == "blocked"].to_dict("records")
    assert (blocked["cell"], blocked["stage"]) == (str(broken.cell), "dpo")
    assert blocked["error"].startswith("its reference failed")
    assert not broken.dpo.scratch.exists(), "nothing half-written stays"


# That others go on is proven above, of a benchmark's items and of a cell.
@pytest.mark.slow
def test_without_preferences_there_is_no_dpo_and_all_else_goes_on(
    prefect: None, study_file: Path, tmp_path: Path
) -> None:
    one_cell = "weights=[{prompt: 0, response: 1}]"
    plan = plan_of(study_file, tmp_path, one_cell)
    plan.preferences.path.mkdir(parents=True)
    outcome = run(study_file, tmp_path, one_cell)
    seen = statuses(outcome)
    cell = plan.cells[0]
    assert seen[cell.sft.fingerprint] == "made"
    for blocked in (cell.dpo, *cell.dpo_evaluations, plan.overlap):
        assert seen[blocked.fingerprint] == "blocked"
    assert [failure.fingerprint for failure in outcome.failures] == [plan.preferences.fingerprint]


def test_one_cell_can_be_run_alone(first: StudyOutcome, study_file: Path, root: Path) -> None:
    runtime_file = root.parent / "runtime.yaml"
    place = f"artifact_root: {root}"
    runtime_file.write_text(f"{{{place}, device: cpu, threads_per_worker: 1}}")
    weights = Weights(prompt=0.25)
    names = {"study_file": str(study_file), "runtime_file": str(runtime_file)}
    outcome = ended(run_cell, CellRequest(weights=weights, seed=3, **names))
    assert outcome.counts == {"reused": 5 + 2, "made": 11}
    scores = table(outcome.study, outcome.tracking_uri)
    assert set(scores["cell"]) == {"base", "p0.25-r1-s3"}
    assert set(scores["status"]) == {"finished"}


def test_an_evaluation_trains_nothing(first: StudyOutcome, study_file: Path, root: Path) -> None:
    request = EvaluationRequest(
        study_file=str(study_file),
        benchmarks=[BenchmarkChoice(name="wit_choice", role="select", limit=4)],
        models=["base", "dpo"],
        runtime_settings=runtime_words(root),
    )
    stages = ended(run_evaluation, request).stages
    made = {(stage.stage, stage.cell) for stage in stages if stage.status == "made"}
    evaluated = {("evaluation", cell) for cell in (None, "p0-r1-s0", "p0.5-r1-s0")}
    assert evaluated <= made
    assert not {stage for stage, _ in made} & {"sft", "dpo"}
