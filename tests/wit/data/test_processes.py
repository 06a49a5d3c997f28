"""Work in several processes: in order, a few things ahead, and none left behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import psutil
import pytest

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
import time
from functools import partial
from wit.data.processes import in_order
if __name__ == "__main__":
    for _ in in_order(partial(partial, time.sleep), [0, 0, 60, 60], 2):
        print("begun", flush=True)
"""


def test_results_are_in_order_and_come_from_other_processes() -> None:
    results = list(in_order(MAKE, range(12), 2))
    assert [square for square, _ in results] == [n**2 for n in range(12)]
    assert os.getpid() not in {process for _, process in results}
    [(_, process)] = in_order(MAKE, [3], 1)
    assert process == os.getpid()


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


def test_processes_end_soon_after_a_parent_that_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    parent.stdout.readline()
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
