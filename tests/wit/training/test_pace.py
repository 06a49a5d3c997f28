"""How long a training says that it still takes."""

from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from wit.progress import Progress, read_progress
from wit.training import callbacks
from wit.training.callbacks import ShownProgress


@pytest.mark.parametrize("first", [0, 60])  # from the start, or from a checkpoint
def test_the_rest_is_told_from_the_steps_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    now = 1000.0
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now)
    shown, control = ShownProgress(tmp_path), TrainerControl()
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    state = TrainerState(global_step=first, max_steps=100)
    shown.on_train_begin(args, state, control)
    shown.on_log(args, state, control, {"loss": 2.0})
    assert read_progress(tmp_path) == Progress(first, 100, 2.0, None)
    for step in range(first + 1, 101):
        now += 3.0
        state.global_step = step
        shown.on_log(args, state, control, {"loss": 1.0})
        assert read_progress(tmp_path) == Progress(step, 100, 1.0, 3.0 * (100 - step))


def test_progress_is_written_now_and_then_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now)
    shown, control = ShownProgress(tmp_path), TrainerControl()
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    state = TrainerState(max_steps=5)
    shown.on_train_begin(args, state, control)
    seen = []
    for step in range(1, 6):
        state.global_step = step
        shown.on_log(args, state, control, {"loss": 1.0})
        progress = read_progress(tmp_path)
        assert progress
        seen.append(progress.step)
        now += 0.6 * callbacks.SHOWN_EVERY
    assert seen == [1, 1, 3, 3, 5]
