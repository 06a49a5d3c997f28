"""What is written of each cell while several are trained at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from wit.errors import TrainingError
from wit.training.callbacks import History, Log, ShownProgress
from wit.training.side_by_side.figures import FiguresOfCells


class Histories(History):
    """The history and the progress of each cell, in a folder of its own, as of a single one."""

    def __init__(self, outs: Sequence[Path], logs: Sequence[Log], figures: FiguresOfCells) -> None:
        """Keeps where to write, and whose figures."""
        self.of_cells = [History(out, log) for out, log in zip(outs, logs, strict=True)]
        self.progress = [ShownProgress(out) for out in outs]
        self.figures = figures
        self.failures: list[TrainingError | None] = [None] * len(outs)

    def forget_after(self, step: int) -> None:
        """As of a single one."""
        for history in self.of_cells:
            history.forget_after(step)

    def has(self, prefix: str, step: int) -> bool:
        """Whether every cell that goes on has such a figure at that step."""
        pairs = zip(self.of_cells, self.failures, strict=True)
        return all(history.has(prefix, step) for history, failure in pairs if failure is None)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """From here on steps are timed."""
        for progress in self.progress:
            progress.on_train_begin(args, state, control)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes what the trainer logs, with each cell's own figures in the place of everyone's.

        A cell that diverges is remembered, and no more is written of it.

        Raises:
            TrainingError: None is left that has not.
        """
        is_step = "loss" in (logs or {})
        for index, history in enumerate(self.of_cells):
            if self.failures[index] is None:
                own = {**(logs or {}), **(self.figures.taken[index] if is_step else {})}
                try:
                    history.on_log(args, state, control, own)
                except TrainingError as error:
                    self.failures[index] = error
                self.progress[index].on_log(args, state, control, own)
        if all(self.failures):
            raise self.failures[0] or TrainingError("no cell is left")
