"""What happens beside the training steps: history, progress, checkpoints, held-out likelihood."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from wit.config import Runtime
from wit.errors import ConfigError, TrainingError
from wit.progress import Progress, write_progress
from wit.training.checkpoints import delete_checkpoint, mark_complete, resumable_checkpoint
from wit.training.shards import SHARDS

HISTORY = "history.jsonl"
MAX_SKIPPED = 20  # steps in a row: the scale has been halved so often
SHOWN_EVERY = 0.5  # seconds, for it is read once in a second or so
MAX_SAVING_SHARE = 0.05  # of the time may go into checkpoints, however often they are asked for
NOT_OF_ALL = ("train_loss", "total_flos")  # said of a training, but of its last attempt alone

Log = Callable[[dict[str, float], int], None]


class History(TrainerCallback):
    """Writes every logged figure to ``history.jsonl`` and to ``log``; stops at a loss of NaN."""

    def __init__(self, scratch: Path, log: Log) -> None:
        """Keeps where to write."""
        self.file = scratch / HISTORY
        self.log = log
        self.num_skipped = 0  # steps in a row

    def forget_after(self, step: int) -> None:
        """Drops what a killed attempt wrote after the checkpoint that is resumed from."""
        if self.file.exists() and is_first_rank():
            lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            # At step 0 everything is measured anew.
            kept = [line for line in whole if step and json.loads(line)["step"] <= step]
            aside = self.file.with_suffix(".new")
            aside.write_text("".join(kept), encoding="utf-8")
            aside.replace(self.file)

    def has(self, prefix: str, step: int) -> bool:
        """Whether a figure whose name starts so was written at that step."""
        if not self.file.exists():
            return False
        lines = map(json.loads, self.file.read_text(encoding="utf-8").splitlines())
        return any(
            name.startswith(prefix) for line in lines if line["step"] == step for name in line
        )

    def write(self, figures: dict[str, float], step: int) -> None:
        """Adds figures of one step; of several ranks the first one does it."""
        if not is_first_rank():
            return
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **figures}) + "\n")
        self.log(figures, step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes what the trainer logs.

        Raises:
            TrainingError: The loss or the gradient is not finite.
        """
        if "train_runtime" in (logs or {}) and state.global_step < state.max_steps:
            return  # it pauses, and its end is still to come
        figures = {
            name: float(value)
            for name, value in (logs or {}).items()
            if isinstance(value, int | float) and name not in NOT_OF_ALL
        }
        # In float16 the loss is scaled up until gradients overflow: the step is left out then.
        is_skipped = args.fp16 and not math.isfinite(figures.get("grad_norm", 0.0))
        self.num_skipped = self.num_skipped + 1 if is_skipped else 0
        if is_skipped and self.num_skipped <= MAX_SKIPPED:
            figures["skipped_steps"] = float(self.num_skipped)
            del figures["grad_norm"]
        for name in ("loss", "grad_norm"):
            if not math.isfinite(figures.get(name, 0.0)):
                raise TrainingError(
                    f"{name} is {figures[name]} at step {state.global_step}: training diverged. "
                    "Lower the learning rate or clip with max_grad_norm"
                )
        self.write(figures, state.global_step)


class ShownProgress(TrainerCallback):
    """Keeps ``progress.json`` up to date, for whoever watches from another process."""

    def __init__(self, scratch: Path) -> None:
        """Keeps where to write."""
        self.scratch = scratch
        self.began = (0, 0.0)  # at which step, and when
        self.last_shown = -math.inf  # when

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """From here on, or from where a checkpoint lets it go on, steps are timed."""
        self.began = (state.global_step, time.monotonic())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Says the step, the number of steps, the loss, and how long the rest will take."""
        (first, began), step, now = self.began, state.global_step, time.monotonic()
        is_due = now - self.last_shown >= SHOWN_EVERY or step == state.max_steps
        if is_first_rank() and is_due:
            self.last_shown = now
            loss = (logs or {}).get("loss")
            pace = (now - began) / (step - first) if step > first else None
            left = None if pace is None else pace * (state.max_steps - step)
            write_progress(self.scratch, Progress(step, state.max_steps, loss, left))


class TimedCheckpoints(TrainerCallback):
    """Asks for a checkpoint every so many seconds, and marks those that are complete."""

    def __init__(self, seconds: float) -> None:
        """Keeps the distance in time."""
        self.seconds = seconds
        self.last_saved = time.monotonic()
        self.started_saving = 0.0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Asks for a checkpoint when it is time."""
        is_last = state.global_step >= state.max_steps
        is_due = time.monotonic() - self.last_saved > self.seconds
        if not is_last and first_rank_says(is_due):  # ranks have to save together
            control.should_save = True
            self.started_saving = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Marks the checkpoint, deletes those before it, and waits longer if saving is slow."""
        newest = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        wait_for_all_ranks()  # each has written its part
        if is_first_rank():
            mark_complete(newest)
            for older in set(newest.parent.glob("checkpoint-*")) - {newest}:
                delete_checkpoint(older)
        self.last_saved = time.monotonic()
        took = self.last_saved - self.started_saving
        self.seconds = max(self.seconds, took / MAX_SAVING_SHARE)


class AfterEpoch(TrainerCallback):
    """Calls ``measure(step)`` before the first step and after every epoch."""

    def __init__(self, measure: Callable[[int], None], is_measured: Callable[[int], bool]) -> None:
        """Keeps what to call, and what tells whether an attempt before this one did so."""
        self.measure = measure
        self.is_measured = is_measured

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measures the untrained model, or one that was killed between an epoch and this."""
        if _is_at_epoch(state) and not self.is_measured(state.global_step):
            self.measure(state.global_step)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measures the model as it is now."""
        if _is_at_epoch(state):  # else it pauses within one
            self.measure(state.global_step)


def _is_at_epoch(state: TrainerState) -> bool:
    return float(state.epoch or 0).is_integer()


class AtRung(TrainerCallback):
    """Calls ``measure()`` after a step, saves a checkpoint of it, and ends the training there."""

    def __init__(self, step: int, measure: Callable[[], None]) -> None:
        """Keeps after which step, and what to call."""
        self.step = step
        self.measure = measure

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measures before the checkpoint is there: who finds it need not measure again."""
        if state.global_step == self.step:
            self.measure()
            control.should_save = control.should_training_stop = True


def train_resumably(
    trainer: Trainer, history: History, scratch: Path, runtime: Runtime, *more: TrainerCallback
) -> None:
    """Trains to the end, from the last checkpoint in ``scratch`` if there is one."""
    if is_first_rank():
        resumable_checkpoint(scratch)  # deletes what is half-written
    wait_for_all_ranks()
    checkpoint, step = resumable_checkpoint(scratch)
    is_sharded = trainer.is_distributed_loading_by_transformers
    if checkpoint and is_sharded != (Path(checkpoint) / SHARDS).exists():
        was, now = ("not sharded", "sharded") if is_sharded else ("sharded", "not sharded")
        raise ConfigError(
            f"{checkpoint}: was written by a training that was {was}, so one that is {now} cannot "
            "go on from it. Set runtime sharding as it was (a single one of num_processes shards "
            "nothing), or delete the checkpoint to begin anew"
        )
    history.forget_after(step)
    wait_for_all_ranks()
    trainer.remove_callback(PrinterCallback)
    checkpoints = TimedCheckpoints(runtime.checkpoint_seconds)
    for callback in (history, ShownProgress(scratch), *more, checkpoints):
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=checkpoint)


def num_ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first_rank() -> bool:
    """Whether this process writes files and reports: the only one, or the first of several."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait_for_all_ranks() -> None:
    """Returns once every rank has come here."""
    if dist.is_initialized():
        dist.barrier()


def first_rank_says(answer: bool) -> bool:
    """The answer of the first rank, whose clock decides; every rank has to call this."""
    answers = [answer]
    if dist.is_initialized():
        dist.broadcast_object_list(answers, src=0)
    return answers[0]
