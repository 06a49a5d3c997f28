"""`wit run`: without its MLflow, and refused; killed and run again: test_kill_storm.py."""

from pathlib import Path

import pytest
from commands import Ended, wit
from flow_runs import plan_of, runtime_words

from wit.lineage import table

pytestmark = pytest.mark.timeout(900)


def words(study_file: Path, root: Path, *more: str) -> list[str]:
    options = [word for setting in runtime_words(root) for word in ("--set-runtime", setting)]
    return ["run", str(study_file), *options, *more]


ONE_CELL = ["--set", "weights=[{prompt: 0.5, response: 1}]"]


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
    prefect_url: str, study_file: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    nobody = ["--set-runtime", "tracking_uri=http://127.0.0.1:9"]
    here = {"PREFECT_API_URL": prefect_url}
    said = said_by(wit(*words(study_file, root, *ONE_CELL, *nobody), environment=here), 0)
    assert "MLflow at http://127.0.0.1:9 cannot be reached" in said
    assert said.count("'wit lineage --sync'") == 1
    assert "p0.5-r1-s0" in said, "the table is that of the artifacts"
    assert (root / "studies" / "tiny" / "report.html").exists()
    uri = f"sqlite:///{root}/mlflow.db"
    place = ["--set-runtime", f"artifact_root={root}"]
    plan = plan_of(study_file, root, ONE_CELL[1])
    num_runs = 1 + sum(artifact.exists() for artifact, _ in plan.artifacts())
    assert num_runs == 1 + (5 + 2) + (2 * 5 + 1)
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
