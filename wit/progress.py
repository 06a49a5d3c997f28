"""How far a training is, as its process writes it and others read it."""

import json
from pathlib import Path
from typing import NamedTuple

PROGRESS = "progress.json"


class Progress(NamedTuple):
    """Optimizer steps done and wanted, the loss of the last one, and how long the rest will take.

    That is told from the pace since this process began or went on; checkpoints are in it.
    """

    step: int
    num_steps: int
    loss: float | None
    seconds_left: float | None = None  # None: no step has been timed

    def __str__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.3f}"
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        return f"step {self.step} of {self.num_steps}{loss}{left}"


def duration(seconds: float) -> str:
    """As people say it, to two digits or so."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def write_progress(scratch: Path, progress: Progress) -> None:
    """Replaces the progress of a stage; a reader never meets half a file, but may meet none."""
    aside, file = scratch / f"{PROGRESS}.new", scratch / PROGRESS
    aside.write_text(json.dumps(progress), encoding="utf-8")
    file.unlink(missing_ok=True)  # one that is renamed over another is written to the disk at once
    aside.rename(file)


def read_progress(scratch: Path) -> Progress | None:
    """The progress of a stage; nothing while it has none."""
    try:
        return Progress(*json.loads((scratch / PROGRESS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
