"""Processes that a test started, found by what they were given, whoever is their parent now."""

import os
import signal
import time
from pathlib import Path
from uuid import uuid4

import psutil

from wit.artifacts import JOB

MARK = "WIT_TEST"
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


def what_stays(environment: Environment, seconds: float) -> list[psutil.Process]:
    """Those that are left after so many seconds; returns early once there are none."""
    deadline = time.monotonic() + seconds
    while (left := marked(environment)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def end_marked(environment: Environment) -> None:
    """Kills those that are left."""
    for process in marked(environment):
        process.kill()


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
