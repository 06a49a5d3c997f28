"""Processes that import nothing: they are forked from one that has imported everything once.

A spawned process takes ten seconds of a core to import what it trains with. That `wit.workers`
can spawn and fork its own is proven by wit/test_forking.py; all tests in which `wit run` is a
process of its own fork them, and those of `wit up` spawn them.
"""

import gc
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from unittest.mock import patch

from wit.forking import ForkedProcess, Forking

IMPORTS = (
    "pytest",  # every child imports the main module of its parent
    "unsynced",
    "mlflow.server.fastapi_app",
    "mlflow.store.tracking.sqlalchemy_store",
    "transformers.models.llama.modeling_llama",
    "wit.data.overlap",
    "wit.data.prepare",
    "wit.evaluation.evaluate",
    "wit.evaluation.items",
    "wit.training.dpo",
    "wit.training.ranks",
)
TESTS = Path(__file__).parent
IS_IMPORTING = "WIT_TEST_IMPORTS"  # set in the environment of the process that is forked


def start_forking() -> Forking:
    """The first process that is started waits for the imports."""
    context = Forking()
    context.set_forkserver_preload([__name__])
    # Of the checkouts that may be there, the one that is tested.
    places = os.pathsep.join(map(str, (TESTS.parent, TESTS)))
    with patch.dict(os.environ, {"PYTHONPATH": places, IS_IMPORTING: "1"}):
        forkserver.ensure_running()
    return context


@contextmanager
def workers_are_forked(context: Forking) -> Iterator[None]:
    """In the block, those that `wit.workers` starts from this process."""
    with patch("wit.workers.process_context", lambda _: context):
        yield


def run_at_once(context: Forking, target: Callable[..., object], *calls: tuple) -> None:
    """Calls a function in as many processes as there are tuples of arguments.

    Args:
        context: Starts them.
        target: Its last argument is a barrier, at which it has all meet.
        *calls: Its other arguments.
    """
    start = context.Barrier(len(calls))
    processes = [context.Process(target=target, args=(*call, start)) for call in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(calls)


def ranks_of(
    context: Forking, number: int, target: Callable[..., object], *arguments: object
) -> list[ForkedProcess]:
    """So many processes that torch will know for ranks, not started yet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(listener.getsockname()[1])}
    ranks = [context.Process(target=target, args=arguments) for _ in range(number)]
    for index, rank in enumerate(ranks):
        own = {"RANK": str(index), "LOCAL_RANK": str(index)}
        of_all = {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
        rank.environment |= place | own | of_all | {"ACCELERATE_USE_CPU": "true"}
    return ranks


def run_on_ranks(context: Forking, target: Callable[..., object], *arguments: object) -> None:
    """Calls a function in two processes that torch knows for ranks, until both have ended."""
    ranks = ranks_of(context, 2, target, *arguments)
    for rank in ranks:
        rank.start()
    wait([rank.sentinel for rank in ranks])
    if any(rank.exitcode for rank in ranks):
        for rank in ranks:
            rank.kill()  # it would wait for the other
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]


if IS_IMPORTING in os.environ:
    gc.disable()  # of the million objects of an import none is garbage
    for name in IMPORTS:
        __import__(name)
    gc.freeze()
    gc.enable()
