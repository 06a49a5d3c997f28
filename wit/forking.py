"""Workers that import nothing: forked from a process that imports while a run is prepared.

What stages need takes eight seconds of a core to import, and so it would in every worker that is
spawned. Here one process does it, as soon as it is known what will run; it does nothing else, so
no thread of it can hold a lock at the moment of a fork. Libraries read the number of their threads
when they are loaded, so it has that of the workers; and a device's driver does not outlive a fork,
so where there are GPUs workers are spawned.
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess
from typing import Any

PRELOADED = "wit.preloaded"  # the module that imports all the others
_begun: list[dict[str, str]] = []  # one at most: what the process was given


class ForkedProcess(ForkServerProcess):
    """Has the environment that a spawned one would have: that of this process as it is now."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Keeps it; until the process is started, it may be changed."""
        super().__init__(*args, **options)
        self.environment = dict(os.environ)

    def run(self) -> None:
        """What the process does."""
        os.environ.clear()
        os.environ.update(self.environment)
        super().run()


class Forking(ForkServerContext):
    """In place of ``multiprocessing.get_context("spawn")``."""

    Process = ForkedProcess


def begin_importing(environment: Mapping[str, str]) -> None:
    """Starts the process that workers are forked from, and waits for nothing.

    Args:
        environment: What libraries read when they are loaded, and ours does not have.
    """
    if sys.platform != "linux" or _begun:  # on macOS a fork breaks what Apple's libraries hold
        return
    forkserver.set_forkserver_preload([PRELOADED])
    _begun.append(dict(environment))
    _ensure_running(environment)


def process_context(environment: Mapping[str, str]) -> BaseContext:
    """How a worker is started that libraries shall find this environment in."""
    if dict(environment) not in _begun:
        return get_context("spawn")
    _ensure_running(environment)  # else one that was killed would begin anew without it
    return Forking()


def _ensure_running(environment: Mapping[str, str]) -> None:
    # It looks for modules where we do; else it would begin with the folder that we are in, which
    # may have an ``evaluate.py`` of its own.
    places = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    resource_tracker.ensure_running()  # it would let signals through
    # Ctrl-C waits until the new process knows what to do then.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _added({**environment, **places}):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _added(environment: Mapping[str, str]) -> Iterator[None]:
    """Other threads find all else of the environment as it is."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
