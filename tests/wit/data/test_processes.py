"""Work in several processes: in order, a few things ahead, and none left behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from found_processes import end_marked, marked, marked_environment, what_stays

from wit.data.processes import WAITING_PER_PROCESS, in_order
from wit.errors import DataError, WorkerDiedError


def make_slow_square(_name: str) -> Callable[[int], tuple[int, int]]:
    def square(number: int) -> tuple[int, int]:
        if number == 13:
            raise DataError("thirteen")
        if number == 99:
            os._exit(1)
        time.sleep(0.02 * (number % 3))
        return number**2, os.getpid()

    return square


MAKE = partial(make_slow_square, "square")

PROGRAM = """
from slow_to_import import make
from wit.data.processes import in_order
if __name__ == "__main__":
    for _ in in_order(make, [0, 0, 60, 60], 2):
        print("begun", flush=True)
"""
# As what makes tokens: a child imports it before it begins.
SLOW_TO_IMPORT = """
import multiprocessing, time
if multiprocessing.current_process().name != "MainProcess":
    open({file!r}, "w").close()
    time.sleep({seconds})
def make():
    return time.sleep
"""


def test_results_are_in_order_and_come_from_other_processes() -> None:
    results = list(in_order(MAKE, range(12), 2))
    assert [square for square, _ in results] == [n**2 for n in range(12)]
    assert os.getpid() not in {process for _, process in results}


def test_only_a_few_things_are_read_ahead_and_an_error_comes_in_its_turn() -> None:
    read = []

    def things() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    results = in_order(MAKE, things(), 2)
    for number in range(13):
        assert next(results)[0] == number**2
        assert len(read) <= number + 2 * WAITING_PER_PROCESS
    with pytest.raises(DataError, match="thirteen"):
        next(results)


def test_a_process_that_dies_is_an_error_that_says_so() -> None:
    with pytest.raises(WorkerDiedError, match="data_workers=1"):
        list(in_order(MAKE, [1, 99, 2], 2))


@contextmanager
def parent_of_two(folder: Path, seconds: float) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A parent of two processes that take so long to import what they need, and its environment."""
    code = SLOW_TO_IMPORT.format(file=str(folder / "importing"), seconds=seconds)
    (folder / "slow_to_import.py").write_text(code)
    environment = marked_environment(PYTHONPATH=os.pathsep.join([str(folder), *sys.path]))
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        try:
            yield parent, environment
        finally:
            end_marked(environment)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_processes_end_soon_after_a_parent_that_was_killed(tmp_path: Path) -> None:
    with parent_of_two(tmp_path, 0) as (parent, environment):
        assert parent.stdout is not None
        parent.stdout.readline()
        assert len(marked(environment)) == 4, "parent, two children, their resource tracker"
        parent.kill()
        assert what_stays(environment) == []


def test_processes_that_still_import_end_too(tmp_path: Path) -> None:
    with parent_of_two(tmp_path, 600) as (parent, environment):
        wait_until((tmp_path / "importing").exists)
        parent.kill()
        assert what_stays(environment) == []


@pytest.mark.parametrize("num_started", [2, 3, 4])  # the parent, the tracker and then children
@pytest.mark.parametrize("delay", [0, pytest.param(0.1, marks=pytest.mark.slow)])
def test_processes_that_have_just_been_started_end_too(
    tmp_path: Path, num_started: int, delay: float
) -> None:
    with parent_of_two(tmp_path, 0) as (parent, environment):
        wait_until(lambda: len(marked(environment)) >= num_started)
        time.sleep(delay)
        parent.kill()
        assert what_stays(environment) == []
