"""`wit run`: killed and run again, without its MLflow, and refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from commands import Ended, wit
from flow_runs import plan_of, runtime_words

from wit.artifacts import Artifact
from wit.lineage import table

pytestmark = pytest.mark.timeout(900)
WIT = [sys.executable, "-m", "wit.cli"]


def words(study_file: Path, root: Path, *more: str) -> list[str]:
    runtime = [*runtime_words(root), "checkpoint_seconds=0.05"]
    options = [word for setting in runtime for word in ("--set-runtime", setting)]
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
    prefect_home: Path,
    prefect_url: str,
    study_file: Path,
    tmp_path: Path,
    undisturbed: tuple[Path, str],
) -> None:
    cell = plan_of(study_file, tmp_path, *LONGER[1::2]).cells[0]
    process = subprocess.Popen(
        [*WIT, *words(study_file, tmp_path, *LONGER)],
        env={**os.environ, "PREFECT_HOME": str(prefect_home)},
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
