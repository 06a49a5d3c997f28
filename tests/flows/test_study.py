import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from commands import Ended, wit

from flows.cell import run_cell
from flows.study import run_study
from wit.analysis.data_summary import DataSummary
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.errors import StudyFailedError
from wit.form_fields import Weights
from wit.forms import CellRequest, StudyRequest
from wit.lineage import lineage, table
from wit.loading import load_study
from wit.models import load_model
from wit.outcome import StudyOutcome
from wit.plan import CellPlan, make_plan

WIT = [sys.executable, "-m", "wit.cli"]


def run(study_file: Path, root: Path, *overrides: str) -> StudyOutcome:
    runtime = [f"artifact_root={root}", "device=cpu", "threads_per_worker=1"]
    request = StudyRequest(
        study_file=str(study_file), settings=list(overrides), runtime_settings=runtime
    )
    state = run_study(request, return_state=True)
    ended = state.result(raise_on_failure=False)
    assert isinstance(ended, StudyOutcome | StudyFailedError), ended
    outcome = ended if isinstance(ended, StudyOutcome) else ended.outcome
    assert state.is_completed() == (not outcome.failures), "a scheduler sees the state alone"
    return outcome


def statuses(outcome: StudyOutcome) -> dict[str, str]:
    return {stage.fingerprint: stage.status for stage in outcome.stages}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def first(prefect: None, study_file: Path, root: Path) -> StudyOutcome:
    return run(study_file, root)


def plan_of(study_file: Path, root: Path, *overrides: str):
    return make_plan(load_study(study_file, overrides), Runtime(artifact_root=root))


def test_the_first_run_makes_every_stage(first: StudyOutcome, root: Path, study_file: Path) -> None:
    plan = plan_of(study_file, root)
    assert first.failures == []
    assert first.exit_code == 0
    assert statuses(first) == {a.fingerprint: "made" for a, _ in plan.artifacts()}
    assert len(first.stages) == 6 + 4 * 2
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


def test_another_beta_remakes_dpo_and_its_evaluation_alone(
    first: StudyOutcome, root: Path, study_file: Path
) -> None:
    other = run(study_file, root, "dpo.beta=0.5")
    made = {stage.stage for stage in other.stages if stage.status == "made"}
    assert made == {"dpo", "evaluation"}
    assert other.counts == {"made": 4, "reused": 10}
    assert statuses(other).keys() & statuses(first).keys() >= {
        stage.fingerprint for stage in first.stages if stage.stage == "sft"
    }


def test_every_score_can_be_traced_to_its_data(
    first: StudyOutcome, root: Path, study_file: Path
) -> None:
    run(study_file, root)  # the table is that of the version which ran last
    uri = first.tracking_uri
    scores = table("tiny", uri)
    selected = scores[scores["benchmark"] == "wit_choice"]
    assert sorted(selected["stage"]) == ["base", "dpo", "dpo", "sft", "sft"]
    cell = plan_of(study_file, root).cells[1]
    node = lineage(cell.dpo.fingerprint, uri)
    sft = node.parents["policy"]
    assert sft.fingerprint == cell.sft.fingerprint
    assert sft.parents["instructions"].fingerprint == cell.sft.parents["instructions"].fingerprint
    assert sft.parents["base"].fingerprint == cell.sft.parents["base"].fingerprint
    assert [child.fingerprint for child in node.children] == [cell.dpo_evaluation.fingerprint]


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
    damaged = [plan.base_evaluation, plan.items]
    for artifact in damaged:
        artifact.path.mkdir(parents=True)  # as somebody makes it by hand
    outcome = run(study_file, tmp_path)
    seen = statuses(outcome)

    def of(cell: CellPlan) -> list[str]:
        return [seen[artifact.fingerprint] for artifact in cell.artifacts]

    assert of(sound) == ["made"] * 4
    assert of(broken) == ["reused", "failed", "failed", "blocked"]
    assert seen[plan.overlap.fingerprint] == "blocked"
    assert outcome.exit_code == 1
    said = {failure.fingerprint: failure.message for failure in outcome.failures}
    not_finite = {print for print, message in said.items() if "not finite" in message}
    assert not_finite == {broken.sft_evaluation.fingerprint, broken.dpo.fingerprint}
    assert said.keys() - not_finite == {artifact.fingerprint for artifact in damaged}
    scores = table("tiny", outcome.tracking_uri)
    assert set(scores[scores["status"] == "failed"]["cell"]) == {str(broken.cell)}
    assert not broken.dpo.scratch.exists(), "nothing half-written stays"


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
    for blocked in (cell.dpo, cell.dpo_evaluation, plan.overlap):
        assert seen[blocked.fingerprint] == "blocked"
    assert [failure.fingerprint for failure in outcome.failures] == [plan.preferences.fingerprint]


def test_one_cell_can_be_run_alone(prefect: None, study_file: Path, tmp_path: Path) -> None:
    runtime_file = tmp_path / "runtime.yaml"
    runtime_file.write_text("{artifact_root: root, device: cpu, threads_per_worker: 1}")
    request = CellRequest(
        study_file=str(study_file),
        weights=Weights(prompt=0.25),
        seed=3,
        runtime_file=str(runtime_file),
    )
    state = run_cell(request, return_state=True)
    outcome = state.result(raise_on_failure=False)
    assert isinstance(outcome, StudyOutcome), state.message
    assert outcome.counts == {"made": 6 + 4}
    scores = table(outcome.study, outcome.tracking_uri)
    assert set(scores["cell"]) == {"base", "p0.25-r1-s3"}
    assert set(scores["status"]) == {"finished"}


def words(study_file: Path, root: Path, *more: str) -> list[str]:
    runtime = {"artifact_root": str(root), "device": "cpu", "threads_per_worker": "1"}
    runtime["checkpoint_seconds"] = "0.05"
    options = [word for k, v in runtime.items() for word in ("--set-runtime", f"{k}={v}")]
    return ["run", str(study_file), *options, *more]


LONGER = ["--set", "sft.num_epochs=8", "--set", "weights=[{prompt: 0.5, response: 1}]"]


def scores_of(evaluation: Artifact) -> dict:
    scores = json.loads((evaluation.path / "scores.json").read_text())
    return {key: scores[key] for key in ("scores", "held_out_nll", "preference_accuracy")}


@pytest.fixture(scope="module")
def undisturbed(
    prefect_url: str, study_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The longer study's root, which was made without MLflow, and what was said."""
    root = tmp_path_factory.mktemp("undisturbed")
    nobody = ["--set-runtime", "tracking_uri=http://127.0.0.1:9"]
    here = {"PREFECT_API_URL": prefect_url}
    return root, said_by(wit(*words(study_file, root, *LONGER, *nobody), environment=here), 0)


def test_killed_and_run_again_ends_like_an_undisturbed_study(
    prefect_url: str, study_file: Path, tmp_path: Path, undisturbed: tuple[Path, str]
) -> None:
    cell = plan_of(study_file, tmp_path, *LONGER[1::2]).cells[0]
    process = subprocess.Popen(
        [*WIT, *words(study_file, tmp_path, *LONGER)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 240
    while not list(cell.sft.scratch.glob("checkpoints/*/complete")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 2, "workers, and Prefect's server"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not cell.sft.exists()
    _, orphans = psutil.wait_procs(started, timeout=60)
    assert not orphans
    here = {"PREFECT_API_URL": prefect_url}
    said_by(wit(*words(study_file, tmp_path, *LONGER), environment=here), 0)
    reference = plan_of(study_file, undisturbed[0], *LONGER[1::2]).cells[0]
    for ours, theirs in zip(cell.artifacts, reference.artifacts, strict=True):
        assert ours.fingerprint == theirs.fingerprint
    assert scores_of(cell.sft_evaluation) == scores_of(reference.sft_evaluation)
    assert scores_of(cell.dpo_evaluation) == scores_of(reference.dpo_evaluation)


def said_by(ended: Ended, exit_code: int) -> str:
    said = " ".join((ended.stdout + ended.stderr).split())
    assert ended.returncode == exit_code, said
    assert "Traceback" not in said
    return said


def test_a_place_that_cannot_be_written_exits_with_2(study_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = said_by(wit(*words(study_file, tmp_path / "file")), 2)
    assert "--set-runtime artifact_root=DIR" in said


def test_a_study_runs_without_its_mlflow_and_is_sent_later(
    undisturbed: tuple[Path, str], study_file: Path
) -> None:
    root, said = undisturbed
    assert "MLflow at http://127.0.0.1:9 cannot be reached" in said
    assert said.count("'wit lineage --sync'") == 1
    assert "p0.5-r1-s0" in said, "the table is that of the artifacts"
    assert (root / "studies" / "tiny" / "report.html").exists()
    uri = f"sqlite:///{root}/mlflow.db"
    place = ["--set-runtime", f"artifact_root={root}"]
    plan = plan_of(study_file, root, *LONGER[1::2])
    num_runs = 1 + sum(artifact.exists() for artifact, _ in plan.artifacts())
    assert num_runs == 1 + 6 + 4
    assert f"sent {num_runs} runs" in said_by(wit("lineage", "--sync", *place), 0)
    scores = table("tiny", uri)
    assert sorted(set(scores["stage"])) == ["base", "dpo", "sft"]
    assert set(scores["status"]) == {"finished"}


def test_a_gpu_that_is_not_there_exits_with_2_and_leaves_nothing(
    study_file: Path, tmp_path: Path
) -> None:
    there = ["--set-runtime", "device=cuda"]
    ended = wit(*words(study_file, tmp_path, *there), environment={"CUDA_VISIBLE_DEVICES": ""})
    assert "use 'auto' or 'cpu'" in said_by(ended, 2)
    assert not list(tmp_path.iterdir())


def test_a_prefect_that_does_not_answer_exits_with_2_before_anything_is_made(
    study_file: Path, tmp_path: Path
) -> None:
    nobody = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    ended = wit(*words(study_file, tmp_path), environment=nobody)
    assert "unset PREFECT_API_URL" in said_by(ended, 2)
    assert not (tmp_path / "tokenizer").exists()


def test_wrong_input_exits_with_2_and_leaves_nothing(
    prefect_url: str, study_file: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    for override, said in (
        ("sft.learning_rat=1", "Did you mean 'learning_rate'"),
        (f"instructions.path={tmp_path}/none.json", "no such file"),
        (f"instructions.path={empty}", "holds no rows"),
    ):
        root = tmp_path / "root"
        command = words(study_file, root, "--set", override)
        assert said in said_by(wit(*command, environment={"PREFECT_API_URL": prefect_url}), 2)
        assert not list(root.glob("instructions/[!.]*"))
        assert not list(root.glob("sft/[!.]*"))
