"""Trainings on ranks that are interrupted at their first checkpoint, and the same left alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trainers import Parts, recipe, tied
from transformers import TrainerCallback

from wit.artifacts import COMPLETE
from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.errors import ConfigError
from wit.tokenizers import load_tokenizer
from wit.training.adapters import merged
from wit.training.callbacks import (
    History,
    first_rank_says,
    is_first_rank,
    train_resumably,
    wait_for_all_ranks,
)
from wit.training.sft import MODEL, make_trainer, save_model, whole_model
from wit.training.trainer import WeightedSFTTrainer

SHARDED = Runtime(device="cpu", num_processes=2, sharding="fsdp")
WHOLE = Runtime(device="cpu", num_processes=2)
AT_ONCE = {"checkpoint_seconds": 0.001}
UNSHARDED = "whole on every rank"
KNOBS: dict[str, dict[str, Any]] = {
    UNSHARDED: {},
    "plain": {},
    "adapters": {"adapter": {"rank": 4, "tokens": "none"}, "learning_rate": 1e-2},
    "mora": {"adapter": {"method": "mora", "rank": 4, "tokens": "none"}, "learning_rate": 1e-2},
    "tied embeddings": {},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {},  # see ``in_float16``
}
RECIPES = {
    name: recipe(**{"learning_rate": 1e-3, "num_epochs": 1, **knobs})
    for name, knobs in KNOBS.items()
}


class Interrupted(Exception):
    """A training has its first checkpoint."""


class Interruption(TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if first_rank_says(any(Path(args.output_dir).glob(f"*/{COMPLETE}"))):
            raise Interrupted


def in_float16(trainer: WeightedSFTTrainer) -> None:
    """What the library refuses to do without a GPU, though torch can.

    The scale of the loss is so large that the first two steps overflow and are skipped.
    """
    trainer.args.fp16 = trainer.accelerator.native_amp = True
    trainer.accelerator.state._mixed_precision = "fp16"
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**23)


def train(name: str, parts: Parts, out: Path, runtime: Runtime, *more: TrainerCallback) -> None:
    base, instructions, tokenizer = parts
    rows = read_split(instructions, TRAIN)
    trainer = make_trainer(RECIPES[name], base, rows, load_tokenizer(tokenizer), out, runtime)
    if name == "float16":
        in_float16(trainer)
    train_resumably(trainer, History(out, lambda *_: None), out, runtime, *more)
    model = whole_model(trainer, RECIPES[name], base)
    if is_first_rank():
        save_model(merged(model), tokenizer, out / MODEL)


def train_all(parts: Parts, out: Path) -> None:
    """Makes ``OUT/NAME/whole`` and ``OUT/NAME/resumed`` of each training; every rank calls this.

    ``OUT/for one`` is an interrupted training that was not sharded and has not been resumed.
    """
    base, *others = parts
    if is_first_rank():
        tied(base, out / "tied base")
    wait_for_all_ranks()
    for name in RECIPES:
        of = (out / "tied base" if name == "tied embeddings" else base, *others)
        left_alone = WHOLE if name == UNSHARDED else SHARDED
        train(name, of, folder(out / name / "whole"), left_alone)
        resumed = folder(out / name / "resumed")
        interrupt(name, of, resumed, left_alone)
        if name == UNSHARDED:
            with pytest.raises(ConfigError, match="was not sharded"):
                train(name, of, resumed, SHARDED)
        train(name, of, resumed, left_alone)
    interrupt(UNSHARDED, parts, folder(out / "for one"), WHOLE)


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def interrupt(name: str, parts: Parts, out: Path, runtime: Runtime) -> None:
    with pytest.raises(Interrupted):
        train(name, parts, out, runtime.model_copy(update=AT_ONCE), Interruption())
