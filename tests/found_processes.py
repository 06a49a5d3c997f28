"""Processes that a test started, found by what they were given, whoever is their parent now."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from uuid import uuid4

import psutil

from wit.artifacts import CHECKPOINTS, COMPLETE, JOB
from wit.forking import ForkedProcess

MARK = "WIT_TEST"
START_SECONDS = 120.0  # at most until a program has come to where it is waited for
END_SECONDS = 15.0  # at most until processes have ended that end by themselves
Environment = dict[str, str]


def marked_environment(**more: str) -> Environment:
    """This process's, with a mark of its own."""
    return {**os.environ, MARK: uuid4().hex, **more}


def marked(environment: Environment) -> list[psutil.Process]:
    """All that live with the mark of that environment; zombies have none."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == environment[MARK]:
                found.append(process)
        except psutil.Error:  # it has ended, or is somebody else's
            continue
    return found


def what_stays(environment: Environment) -> list[psutil.Process]:
    """Those that are left after some seconds; returns early once there are none."""
    deadline = time.monotonic() + END_SECONDS
    while (left := marked(environment)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def end_marked(environment: Environment) -> None:
    """Kills those that are left."""
    for process in marked(environment):
        process.kill()


def what_outlives(owner: ForkedProcess, once: Callable[[], bool]) -> list[psutil.Process]:
    """What is left of a process's children some time after it alone was killed.

    Args:
        owner: It, before its start.
        once: Whether it has come so far that it shall be killed.
    """
    owner.environment = environment = marked_environment()
    owner.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not once():
            assert time.monotonic() < deadline
            time.sleep(0.1)  # to look at all processes takes time from those that start
        owner.kill()
        owner.join()
        return what_stays(environment)
    finally:
        end_marked(environment)


def ranks_in(folder: Path) -> list[psutil.Process]:
    """The launcher of a training in that folder and its ranks, in the order of their start."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder / JOB) in process.cmdline():
                found.append((process.create_time(), process.pid, process))
        except psutil.Error:
            continue
    return [process for _, _, process in sorted(found, key=lambda place: place[:2])]


def kill_a_rank(folder: Path) -> None:
    """The last of two ranks, as the kernel does when memory runs out."""
    _launcher, _first, last = ranks_in(folder)
    os.kill(last.pid, signal.SIGKILL)


def raised_after(
    meddle: Callable[[Path], object], folder: Path, train: Callable[[], object]
) -> Exception:
    """What a training raises if somebody meddles with it once it has a checkpoint.

    Args:
        meddle: Keeps the training from coming to its end; called with its folder.
        folder: Where it is made.
        train: The training.
    """
    raised = []

    def attempt() -> None:
        try:
            train()
        except Exception as error:
            raised.append(error)

    thread = Thread(target=attempt)
    thread.start()
    while not any(folder.glob(f"{CHECKPOINTS}/*/{COMPLETE}")):
        assert thread.is_alive(), f"it was over before it had a checkpoint: {raised}"
        time.sleep(0.01)
    meddle(folder)
    thread.join()
    [error] = raised
    return error
