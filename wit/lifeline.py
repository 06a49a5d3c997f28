"""Processes that end with the one that wants their result, however that ended.

Between the two is a pipe, whose other end the kernel closes when its holder ends. So nobody polls,
no number of a process can have been given to another one, and a zombie does not count as alive.

``python -m wit.lifeline MODULE ARGUMENT ...`` runs a module as ``python -m MODULE`` does, in a
process that ends with the one that holds the other end of its standard input. What it starts in
the same way ends with that one too: it inherits the input.
"""

import gc
import multiprocessing
import os
import runpy
import sys
import threading

# How often Python looks for garbage in a process that imports much: none of a million objects is.
RARELY = (50_000, 20, 100)
LIFELINE = "wit.lifeline"  # this module, as a command line names it


def end_with_parent() -> None:
    """Ends this process with its parent; for processes that multiprocessing spawned."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    _end_with_holder(parent.sentinel)


def _end_with_holder(pipe: int) -> None:
    """Ends this process once the other end of a pipe is closed, whatever it is doing then."""

    def wait() -> None:
        while os.read(pipe, 1024):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_holder(sys.stdin.fileno())
    gc.set_threshold(*RARELY)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
