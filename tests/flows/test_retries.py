"""Stages that are tried again: killed, without room; and those that are not."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.schemas.objects import State

import tasks.stage
from tasks.data import prepare
from tasks.training import tune
from wit.artifacts import HALVINGS, Artifact
from wit.config import Cell, Runtime
from wit.errors import DiskFullError, TrainingError, WorkerDiedError
from wit.lineage import StudyRun
from wit.loading import load_study
from wit.plan import Plan, make_plan
from wit.stages import make_artifact
from wit.workers import Workers, workers_for

ONE_CELL = "weights=[{prompt: 0.5, response: 1}]"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.stage, "RETRY_SECONDS", (0.05, 0.05))


def runtime_in(root: Path) -> Runtime:
    return Runtime(
        artifact_root=root,
        device="cpu",
        threads_per_worker=1,
        checkpoint_seconds=0.05,
        tracking_uri="http://127.0.0.1:9",
    )


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """One; what replaces it when a test has killed it serves the next test too."""
    with workers_for("x", runtime_in(tmp_path_factory.mktemp("workers"))) as workers:
        yield workers


def planned(study_file: Path, root: Path, *overrides: str) -> Plan:
    runtime = runtime_in(root)
    plan = make_plan(load_study(study_file, [ONE_CELL, *overrides]), runtime)
    for artifact in (plan.tokenizer, plan.instructions):
        make_artifact(artifact, runtime)
    return plan


@flow
def train(artifact: Artifact, cell: Cell, study: StudyRun, workers: Workers) -> list[State]:
    future = tune.submit(artifact, str(cell), study, workers)
    future.wait()
    return [future.state]


def trained(plan: Plan, workers: Workers) -> State:
    study = StudyRun(plan.study.name, None, "0" * 12, None, plan.tokenizer.root)
    cell = plan.cells[0]
    [state] = train(cell.sft, cell.cell, study, workers)
    return state


def kill_worker(workers: Workers) -> None:
    for executor in list(workers._executors.values()):
        for process in list(executor._processes.values()):
            os.kill(process.pid, signal.SIGKILL)


def kill_when(workers: Workers, is_time: Callable[[], bool], times: int = 1) -> threading.Thread:
    """Kills so many workers one after the other, each when it is time."""

    def kill() -> None:
        killed: set[int] = set()
        while len(killed) < times:
            time.sleep(0.01)
            processes = [
                process.pid
                for executor in list(workers._executors.values())
                for process in list(executor._processes.values())
            ]
            for pid in set(processes) - killed:
                if is_time():
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def newest_step(sft: Artifact) -> int:
    marks = sft.scratch.glob("checkpoints/checkpoint-*/complete")
    return max((int(mark.parent.name.split("-")[1]) for mark in marks), default=-1)


def test_a_stage_whose_process_is_killed_goes_on_by_itself(
    prefect: None, workers: Workers, study_file: Path, tmp_path: Path
) -> None:
    plan = planned(study_file, tmp_path, "sft.num_epochs=20")
    sft = plan.cells[0].sft
    thread = kill_when(workers, lambda: newest_step(sft) > 0)
    state = trained(plan, workers)
    thread.join()
    assert state.is_completed(), state.message
    assert state.message == f"made {sft.path}, at attempt 2"
    assert sft.verified().exists()


def test_one_that_is_killed_again_and_again_is_given_up_and_says_how_often_it_was_tried(
    prefect: None, workers: Workers, study_file: Path, tmp_path: Path
) -> None:
    plan = planned(study_file, tmp_path)
    thread = kill_when(workers, lambda: True, 4)
    state = trained(plan, workers)
    thread.join()
    assert state.is_failed()
    error = state.result(raise_on_failure=False)
    assert type(error) is WorkerDiedError
    assert str(error).endswith("(tried 4 times)")


def test_a_training_that_diverges_is_tried_once(
    prefect: None, workers: Workers, study_file: Path, tmp_path: Path
) -> None:
    plan = planned(study_file, tmp_path, "sft.learning_rate=1e30", "sft.num_epochs=4")
    state = trained(plan, workers)
    error = state.result(raise_on_failure=False)
    assert type(error) is TrainingError
    assert "tried" not in str(error)


def mount(disk: Path, num_bytes: int, *more: str) -> None:
    options = ",".join([*more, f"size={num_bytes}"])
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount(disk, 2**20)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_stage_waits_for_room_on_the_disk(
    prefect: None, workers: Workers, study_file: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(study_file, disk)
    full = trained(plan, workers)
    error = full.result(raise_on_failure=False)
    assert type(error) is DiskFullError
    assert str(error).endswith("(tried 4 times)")
    assert not plan.cells[0].sft.scratch.exists()

    class Meanwhile(tuple[float, ...]):
        """Somebody makes room when the first retry is waited for."""

        def __getitem__(self, index: Any) -> Any:
            mount(disk, 16 * 2**20, "remount")
            return super().__getitem__(index)

    monkeypatch.setattr(tasks.stage, "RETRY_SECONDS", Meanwhile([0.05]))
    state = trained(plan, workers)
    assert state.is_completed(), state.message
    assert state.message.endswith("at attempt 2")


class Pause:
    """In place of the time before a retry: it ends when another stage has been made meanwhile."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self, seconds: float) -> None:
        self.has_begun.set()
        assert self.may_end.wait(60), "the other stage waits for the worker"


@flow
def train_and_prepare(plan: Plan, workers: Workers, pause: Pause) -> list[State]:
    """The preferences are asked for when the training waits for its retry."""
    cell = plan.cells[0]
    study = StudyRun(plan.study.name, None, "0" * 12, None, plan.tokenizer.root)
    training = tune.submit(cell.sft, cell.label(), study, workers)
    while newest_step(cell.sft) < 0:
        time.sleep(0.01)
    kill_worker(workers)
    assert pause.has_begun.wait(60)
    prepare.submit(plan.preferences, study, workers).wait()
    pause.may_end.set()
    training.wait()
    return [training.state]


def test_a_stage_that_waits_for_its_retry_holds_no_worker(
    prefect: None,
    workers: Workers,
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pause = Pause()
    monkeypatch.setattr(workers, "pause", pause)
    plan = planned(study_file, tmp_path, "sft.num_epochs=20")
    [state] = train_and_prepare(plan, workers, pause)
    assert state.is_completed(), state.message
    assert plan.preferences.verified()


GROUP = Path("/sys/fs/cgroup/memory")  # where processes get limits of their own


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """What lists the processes that may have 4 MiB more than they have."""
    group = GROUP / f"wit-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("memory cannot be limited here")
    (group / "memory.limit_in_bytes").write_text(str(4 * 2**20))
    yield group / "cgroup.procs"
    while (group / "cgroup.procs").read_text():
        time.sleep(0.05)
    group.rmdir()


def test_after_the_kernel_killed_it_for_its_memory_it_takes_fewer_rows(
    prefect: None, workers: Workers, study_file: Path, tmp_path: Path, little_memory: Path
) -> None:
    plan = planned(study_file, tmp_path, "sft.num_epochs=20")
    sft = plan.cells[0].sft

    def limit() -> None:
        while newest_step(sft) < 0:
            time.sleep(0.01)
        [executor] = workers._executors.values()
        [process] = executor._processes.values()
        little_memory.write_text(str(process.pid))

    thread = threading.Thread(target=limit)
    thread.start()
    state = trained(plan, workers)
    thread.join()
    assert state.is_completed(), state.message
    assert state.message.endswith("micro_batch_size=8, for memory ran out, at attempt 2")
    assert not list(sft.path.rglob(HALVINGS)), "it is no part of the artifact"
