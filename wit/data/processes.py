"""The same work on many things in several processes, with the results in order."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from wit.errors import WorkerDiedError

T = TypeVar("T")
R = TypeVar("R")
WAITING_PER_PROCESS = 3  # things read ahead; what bounds the memory they take
POLL_SECONDS = 1.0

_make: Callable[[], Callable[[Any], Any]] | None = None
_work: Callable[[Any], Any] | None = None


def in_order(
    make: Callable[[], Callable[[T], R]], things: Iterable[T], num_processes: int
) -> Iterator[R]:
    """What becomes of every thing, in the order of the things.

    Args:
        make: Makes what does the work, once in every process; must be picklable.
        things: Read as they are needed.
        num_processes: With 1, this process does the work.

    Raises:
        WorkerDiedError: A process was killed.
    """
    if num_processes == 1:
        yield from map(make(), things)
        return
    # Spawned, not forked: a fork of a process with threads can deadlock.
    pool = ProcessPoolExecutor(
        num_processes, get_context("spawn"), initializer=_begin, initargs=(os.getpid(), make)
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


def _begin(parent: int, make: Callable[[], Callable[[Any], Any]]) -> None:
    global _make
    _make = make
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each process is one thread of the work
    # Ctrl-C reaches the whole process group; the parent decides what becomes of its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process soon after its parent, however that ended."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _do(thing: Any) -> Any:
    global _work
    if _work is None:  # not in ``_begin``, whose errors nobody would see
        assert _make is not None
        _work = _make()
    return _work(thing)
