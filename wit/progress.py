"""How far a training is, as its process writes it and others read it."""

import json
from pathlib import Path
from typing import NamedTuple

PROGRESS = "progress.json"


class Progress(NamedTuple):
    """Optimizer steps done and wanted, and the loss of the last one."""

    step: int
    num_steps: int
    loss: float | None

    def __str__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.3f}"
        return f"step {self.step} of {self.num_steps}{loss}"


def write_progress(scratch: Path, progress: Progress) -> None:
    """Replaces the progress of a stage; a reader never meets half a file."""
    aside = scratch / f"{PROGRESS}.new"
    aside.write_text(json.dumps(progress), encoding="utf-8")
    aside.replace(scratch / PROGRESS)


def read_progress(scratch: Path) -> Progress | None:
    """The progress of a stage; nothing while it has none."""
    try:
        return Progress(*json.loads((scratch / PROGRESS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
