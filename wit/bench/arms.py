"""Contestants of a benchmark, each in a process of its own: its peak memory is its own."""

import contextlib
import ctypes
import gc
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wit.bench.result import same_work

MIB = 2**20
STATUS = Path("/proc/self/status")  # of this process, on Linux


class Run(NamedTuple):
    """What one contestant took in one turn, and what it counted of its work."""

    seconds: float
    peak_bytes: int  # of the GPU; else above what the process held before it had a model
    counts: dict[str, int]  # rows, tokens, steps


def in_turns(
    arms: Mapping[str, tuple[Callable[..., Run], tuple[Any, ...]]], repeats: int
) -> dict[str, list[Run]]:
    """Runs every contestant so often, one after the other, each time in a new process.

    Args:
        arms: By name a function of a module, and its arguments.
        repeats: Turns.

    Raises:
        StageError: Two of them did not do the same work.
    """
    found: dict[str, list[Run]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, (function, arguments) in arms.items():
            # Not a pool of ``multiprocessing``, whose processes may not start any of their own.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                found[name].append(process.submit(function, *arguments).result())
        same_work({name: runs[-1].counts for name, runs in found.items()})
    return found


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes; a GPU has finished by then."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def reset_peak() -> int:
    """Begins to watch memory; returns what ``peak_since`` subtracts."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return 0
    if STATUS.exists():
        _give_back_what_is_free()
        (STATUS.parent / "clear_refs").write_text("5")  # its highest mark is what it holds now
    return peak_resident()


def _give_back_what_is_free() -> None:
    """Else what was freed before is used again, and no one sees it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library than GNU's
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_since(before: int) -> int:
    """Bytes at the peak: of the GPU's allocator, or of this process beyond ``before``."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return peak_resident() - before


def peak_resident() -> int:
    """Bytes that this process held at most, since it was started or the mark was reset."""
    if STATUS.exists():
        # What ``getrusage`` says includes the process that started this one.
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
