"""Processes that make artifacts, and what becomes of them when they or their parent are killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from forked import Forking, workers_are_forked
from found_processes import raised_after, what_outlives
from tiny import make_tiny_base

from wit.config import Runtime
from wit.errors import ConfigError, RunEndedError, WorkerDiedError
from wit.guard import MARK
from wit.loading import load_study
from wit.plan import Plan, make_plan
from wit.stages import make_artifact
from wit.worker_environment import DYNAMO, gpus_of_worker, read_when_loaded, visible_gpus
from wit.workers import Workers, workers_for


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(
        artifact_root=tmp_path / "root", device="cpu", num_workers=1, checkpoint_seconds=0.05
    )


@pytest.fixture
def plan(tmp_path: Path, runtime: Runtime, forking: Forking) -> Iterator[Plan]:
    """In its tests workers are forked."""
    base = make_tiny_base(tmp_path / "base")
    file = tmp_path / "study.yaml"
    file.write_text(
        f"name: x\nbase: {{path: {base}}}\npreferences: {{path: builtin, max_rows: 8}}\n"
        "instructions: {path: builtin, max_rows: 32}\nweights: [instruction-tuning]\n"
        "sft: {num_epochs: 16, examples_per_step: 8}\n"
        "benchmarks: [{name: wit_cloze, role: select}]\n"
    )
    with workers_are_forked(forking):
        yield make_plan(load_study(file), runtime)


def test_a_killed_worker_is_replaced(plan: Plan, runtime: Runtime) -> None:
    """That its stage goes on where it was: flows/test_retries.py."""
    with workers_for("x", runtime) as workers:
        assert workers.make(plan.tokenizer) == "made"
        [executor] = workers._executors.values()
        [process] = executor._processes.values()
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match=r"worker-0\.log"):
            workers.make(plan.instructions)
        assert not plan.instructions.exists()
        assert workers.make(plan.instructions) == "made"


MAIN = """
import sys, this
from pathlib import Path
from wit.config import Runtime
from wit.workers import workers_for
if __name__ == "__main__":
    with workers_for("x", Runtime(artifact_root=Path(sys.argv[1]), device="cpu")) as workers:
        workers.warm_up()
        [executor] = workers._executors.values()
        print(*executor.submit(eval, "set(__import__('sys').modules)").result())
"""


def test_a_worker_is_warm_before_its_first_stage_and_has_not_run_our_main_module(
    tmp_path: Path,
) -> None:
    (tmp_path / "main.py").write_text(MAIN)
    command = [sys.executable, tmp_path / "main.py", tmp_path / "root"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {"wit.training.sft", "wit.evaluation.evaluate"} <= loaded
    assert not {"this", "prefect"} & loaded


def test_stages_go_to_the_worker_that_has_its_imports(plan: Plan, runtime: Runtime) -> None:
    with workers_for("x", runtime.model_copy(update={"num_workers": 2})) as workers:
        workers.warm_up()
        for artifact in (plan.tokenizer, plan.instructions):
            assert workers.make(artifact) == "made"
        assert list(workers._executors) == [0]


def wait_for_a_worker(root: Path) -> None:
    with workers_for("x", Runtime(artifact_root=root, device="cpu")) as workers:
        workers._start(0).submit(time.sleep, 600).result()


def test_a_worker_ends_with_its_parent_without_the_guard(tmp_path: Path, forking: Forking) -> None:
    def has_worker() -> bool:
        return any(tmp_path.rglob("worker-0.log"))

    owner = forking.Process(target=wait_for_a_worker, args=(tmp_path,))
    assert what_outlives(owner, once=has_worker) == []


def test_an_error_of_a_stage_arrives_as_what_it_is(plan: Plan, runtime: Runtime) -> None:
    with workers_for("x", runtime) as workers:
        workers.make(plan.tokenizer)
        recipe = plan.instructions.recipe.model_copy(update={"columns": {"prompt": "nowhere"}})
        wrong = plan.instructions.model_copy(update={"recipe": recipe})
        with pytest.raises(Exception, match="nowhere") as caught:
            workers.make(wrong)
        assert type(caught.value).__module__ == ConfigError.__module__
        assert workers.make(plan.instructions) == "made", "the worker did not survive"


def test_after_the_end_nothing_new_is_begun(plan: Plan, runtime: Runtime) -> None:
    with workers_for("x", runtime) as workers:
        pass
    with pytest.raises(RunEndedError, match="was ended"):
        workers.make(plan.tokenizer)
    assert not plan.tokenizer.exists()


def test_whoever_waits_for_a_retry_ends_with_the_run(plan: Plan, runtime: Runtime) -> None:
    raised: list[Exception] = []

    def wait(workers: Workers) -> None:
        try:
            workers.pause(600)
        except RunEndedError as error:
            raised.append(error)

    with workers_for("x", runtime) as workers:
        workers.pause(0.01)
        waiter = threading.Thread(target=wait, args=[workers])
        waiter.start()
    waiter.join(30)
    assert not waiter.is_alive()
    assert len(raised) == 1


def test_what_is_killed_by_the_end_of_the_run_is_not_tried_again(
    plan: Plan, runtime: Runtime
) -> None:
    for artifact in (plan.tokenizer, plan.instructions):
        make_artifact(artifact, runtime)
    sft, workers = plan.cells[0].sft, Workers(runtime, runtime.artifact_root)
    ended = raised_after(
        lambda _: workers.stop(at_once=True), sft.scratch, lambda: workers.make(sft)
    )
    assert type(ended) is RunEndedError
    assert not ended.may_pass
    assert sft.is_resumable()


@pytest.mark.parametrize(
    ("environment", "expected"), [("", []), ("3", ["3"]), ("0, GPU-8a,5", ["0", "GPU-8a", "5"])]
)
def test_gpus_are_those_that_the_environment_allows(
    monkeypatch: pytest.MonkeyPatch, environment: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", environment)
    assert visible_gpus() == expected


def test_workers_share_gpus_only_when_there_are_too_few() -> None:
    alone = [gpus_of_worker(number, ["0", "2"]) for number in range(4)]
    assert alone == [["0"], ["2"], ["0"], ["2"]]
    pairs = [gpus_of_worker(number, ["0", "1", "2", "3", "4"], 2) for number in range(3)]
    assert pairs == [["0", "1"], ["2", "3"], ["0", "1"]]
    assert gpus_of_worker(0, ["0"], 2) == ["0"], "too few: the training refuses"
    assert gpus_of_worker(0, []) == []


def test_the_guard_ends_what_is_marked_and_nothing_else() -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    mark = f"test-{os.getpid()}-{time.monotonic_ns()}"
    marked = subprocess.Popen(sleep, env={**os.environ, MARK: f"{mark}/run"})
    other = subprocess.Popen(sleep, env={**os.environ, MARK: f"another-{mark}/run"})
    guard = subprocess.Popen([sys.executable, "-m", "wit.guard", mark], stdin=subprocess.PIPE)
    try:
        assert guard.stdin is not None
        time.sleep(0.5)
        assert marked.poll() is None, "it ended before its parent did"
        guard.stdin.close()  # what the end of its parent does, however that ended
        assert marked.wait(60) == -signal.SIGTERM
        guard.wait(60)
        assert psutil.pid_exists(other.pid)
        assert other.poll() is None
    finally:
        for process in (marked, other, guard):
            process.kill()
            process.wait()


def test_only_what_is_asked_to_compile_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_off(attention: str, *gpus: str) -> str | None:
        runtime = Runtime.model_validate({"device": "cpu", "attention": attention})
        return read_when_loaded(runtime, list(gpus)).get(DYNAMO)

    monkeypatch.delenv(DYNAMO, raising=False)
    assert is_off("auto") == "1"
    assert is_off("flex_attention") is None
    assert is_off("auto", "0") is None
    monkeypatch.setenv(DYNAMO, "0")
    assert is_off("auto") == "0", "the user knows better"
