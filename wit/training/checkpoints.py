"""Checkpoints that are complete or absent, whatever ended the training: a kill, or a loss of power.

What marks one as complete is written last, and says how large each of its files is.
"""

import json
import os
import shutil
from pathlib import Path

from wit.artifacts import CHECKPOINTS, COMPLETE
from wit.files import write_durably


def mark_complete(checkpoint: Path) -> None:
    """Has all of its files reach the disk, then the mark."""
    sizes = _sizes(checkpoint)
    for name in sizes:
        with (checkpoint / name).open("rb") as file:
            os.fsync(file.fileno())
    write_durably(checkpoint / COMPLETE, json.dumps(sizes).encode())


def is_complete(checkpoint: Path) -> bool:
    """Whether it is marked, and all of its files are as they were then."""
    try:
        sizes = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return sizes == _sizes(checkpoint)


def delete_checkpoint(checkpoint: Path) -> None:
    """Deletes the mark first: what a kill leaves half deleted must not look complete."""
    (checkpoint / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def resumable_checkpoint(scratch: Path) -> tuple[str | None, int]:
    """The newest complete checkpoint and its step; all others are deleted.

    With the one that is written next there are two, whatever ended the attempts before.
    """
    by_step = {_step(checkpoint): checkpoint for checkpoint in _checkpoints(scratch)}
    complete = [step for step, checkpoint in by_step.items() if is_complete(checkpoint)]
    newest = max(complete, default=0)
    for step, checkpoint in by_step.items():
        if step != newest:
            delete_checkpoint(checkpoint)
    return (str(by_step[newest]), newest) if newest else (None, 0)


def _checkpoints(scratch: Path) -> list[Path]:
    return list((scratch / CHECKPOINTS).glob("checkpoint-*"))


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _sizes(checkpoint: Path) -> dict[str, int]:
    """In bytes, of every file but the mark."""
    files = [file for file in checkpoint.rglob("*") if file.is_file() and file.name != COMPLETE]
    return {str(file.relative_to(checkpoint)): file.stat().st_size for file in sorted(files)}
