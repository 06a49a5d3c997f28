"""Checkpoints that are complete or absent, whatever ended the training: a kill, or a loss of power.

What marks one as complete is written last, and says how large each of its files is.
"""

import json
import os
import shutil
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

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
    """The newest complete checkpoint and its step; others are deleted."""
    folder = scratch / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    for checkpoint in folder.glob("checkpoint-*"):
        if not is_complete(checkpoint):
            delete_checkpoint(checkpoint)
    newest = get_last_checkpoint(str(folder))
    return newest, int(newest.rpartition("-")[2]) if newest else 0


def _sizes(checkpoint: Path) -> dict[str, int]:
    """In bytes, of every file but the mark."""
    files = [file for file in checkpoint.rglob("*") if file.is_file() and file.name != COMPLETE]
    return {str(file.relative_to(checkpoint)): file.stat().st_size for file in sorted(files)}
