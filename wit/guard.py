"""Processes that end together, whatever ends their parent.

What ``wit up`` and ``wit run`` start carries a mark in its environment, and so does all that is
started in turn. Process groups and parents would not do: Prefect puts flow runs into sessions of
their own, and a worker that is killed leaves them to init.

``python -m wit.guard MARK ROLE ...`` waits until its standard input closes, which is when its
parent has ended, be it by SIGKILL; then it ends every process of that mark.
"""

import sys
import time
from collections.abc import Callable

import psutil

MARK = "WIT_UP"  # environment variable: MARK/NAME
FLOW_RUN = "PREFECT__FLOW_RUN_ID"  # Prefect sets it for a flow run, which hands it on
GRACE_SECONDS = 10.0  # between the request to end and the kill
POLL_SECONDS = 0.1
Environment = dict[str, str]


def end_marked(mark: str, *roles: str) -> None:
    """Ends flow runs, then the programs of one role after the other, then what is left.

    Flow runs come first, for they report to the server that they ended. A worker that is asked
    to end kills its run without a word, which would stay Running for ever.

    Args:
        mark: Of all that is meant; ``MARK/NAME``: of one program and what it started.
        *roles: Names of programs begin with them.
    """
    _end(lambda its: _is_marked(its, mark) and FLOW_RUN in its)
    for role in roles:
        _end(lambda its, role=role: its.get(MARK, "").startswith(f"{mark}/{role}"))
    _end(lambda its: _is_marked(its, mark))


def _is_marked(its: Environment, mark: str) -> bool:
    return f"{its.get(MARK)}/".startswith(f"{mark}/")


def _end(is_meant: Callable[[Environment], bool]) -> None:
    """Asks those on top to end, whose children end with them; then kills all that still live."""
    deadline = time.monotonic() + GRACE_SECONDS
    asked: set[psutil.Process] = set()
    while found := _processes(is_meant):
        is_late = time.monotonic() > deadline
        for process in found:
            try:
                if is_late:
                    process.kill()
                elif process not in asked and process.parent() not in found:
                    process.terminate()
                    asked.add(process)
            except psutil.NoSuchProcess:
                continue
        time.sleep(POLL_SECONDS)


def _processes(is_meant: Callable[[Environment], bool]) -> set[psutil.Process]:
    found = set()
    for process in psutil.process_iter():
        try:
            if is_meant(process.environ()):
                found.add(process)
        except psutil.Error:  # it has ended, or is somebody else's
            continue
    return found


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_marked(*sys.argv[1:])
