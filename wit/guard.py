"""Processes that end together, whatever ends their parent.

What ``wit up`` starts carries a mark in its environment, and so does all that is started in turn.
Process groups and parents would not do: Prefect puts flow runs into sessions of their own, and a
worker that is killed leaves them to init.

``python -m wit.guard MARK NAME ...`` waits until its standard input closes, which is when its
parent has ended, be it by SIGKILL; then it ends every process of that mark.
"""

import sys
import time
from collections.abc import Iterator

import psutil

MARK = "WIT_UP"  # environment variable: MARK/NAME
GRACE_SECONDS = 10.0  # between the request to end and the kill
POLL_SECONDS = 0.1


def marked(mark: str, name: str = "") -> Iterator[psutil.Process]:
    """Living processes that carry the mark, of the program ``name`` or of all."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{mark}/{name}"):
                yield process
        except psutil.Error:  # ended meanwhile, or somebody else's
            continue


def end_marked(mark: str, *names: str) -> None:
    """Ends the programs ``names`` one after the other with all their children, then the rest."""
    for name in (*names, ""):
        _end(mark, name)


def _end(mark: str, name: str) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    asked: set[int] = set()
    while living := list(marked(mark, name)):
        for process in living:
            try:
                if time.monotonic() > deadline:
                    process.kill()
                elif process.pid not in asked:
                    process.terminate()
                    asked.add(process.pid)
            except psutil.NoSuchProcess:
                continue
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_marked(*sys.argv[1:])
