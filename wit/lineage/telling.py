"""When MLflow is told: before the work goes on, or beside it, by a thread.

A call takes milliseconds, in which nothing is trained, and much more where two processes write into
one SQLite or the server is far away. What is told in turn by one thread comes in its order still.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

_log = logging.getLogger(__name__)


class Telling:
    """Does what it is given at once, and raises what that raises."""

    def tell(self, act: Callable[[], Any]) -> None:
        """Calls ``act``."""
        act()

    def wait(self) -> None:
        """Returns when all is told."""


class TellingBeside(Telling):
    """Does what it is given in its order, in a thread that the end of the process waits for."""

    def __init__(self) -> None:
        """Imports what the thread needs: two threads that import at once see half of a module."""
        from wit.lineage.store import import_mlflow

        import_mlflow()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow")
        self._last: Future[None] | None = None

    def tell(self, act: Callable[[], Any]) -> None:
        """Has ``act`` called; what it raises is logged, for whoever asked for it has gone on."""
        self._last = self._thread.submit(partial(_call, act))

    def wait(self) -> None:
        """Returns when all is told."""
        if self._last is not None:
            self._last.result()


def _call(act: Callable[[], Any]) -> None:
    try:
        act()
    except Exception:
        _log.exception("what MLflow should know is not told")
