"""The same work on many things in several processes, with the results in order."""

import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from wit.errors import WorkerDiedError
from wit.lifeline import end_with_parent

T = TypeVar("T")
R = TypeVar("R")
WAITING_PER_PROCESS = 3  # things read ahead; what bounds the memory they take

_make = b""  # pickled
_work: Callable[[Any], Any] | None = None


def in_order(
    make: Callable[[], Callable[[T], R]], things: Iterable[T], num_processes: int
) -> Iterator[R]:
    """What becomes of every thing, in the order of the things.

    Args:
        make: Makes what does the work, once in every process; must be picklable.
        things: Read as they are needed.
        num_processes: Besides this one.

    Raises:
        WorkerDiedError: A process was killed.
    """
    # Spawned, not forked: a fork of a process with threads can deadlock.
    pool = ProcessPoolExecutor(
        num_processes,
        get_context("spawn"),
        initializer=_begin,
        # As bytes: to read it is to import much, and before that a process must be ready to end.
        initargs=(pickle.dumps(make),),
    )
    waiting: deque[Future[R]] = deque()
    try:
        for thing in things:
            waiting.append(pool.submit(_do, thing))
            if len(waiting) == num_processes * WAITING_PER_PROCESS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise WorkerDiedError(
            "a process that prepared rows died (out of memory, or killed). Run again, with fewer "
            "of them: --set-runtime data_workers=1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(make: bytes) -> None:
    global _make
    end_with_parent()
    _make = make
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each process is one thread of the work
    # Ctrl-C reaches the whole process group; the parent decides what becomes of its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _do(thing: Any) -> Any:
    global _work
    if _work is None:  # not in ``_begin``, whose errors nobody would see
        make: Callable[[], Callable[[Any], Any]] = pickle.loads(_make)
        _work = make()
    return _work(thing)
