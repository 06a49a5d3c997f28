"""Trainings on ranks that are interrupted at their first checkpoint, and the same left alone.

``python interrupted_ranks.py BASE INSTRUCTIONS TOKENIZER OUT`` on every rank; of each training
``OUT/NAME/whole`` and ``OUT/NAME/resumed`` are made. All in one go, since ranks take long to start.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from trainers import Parts, recipe, tied
from transformers import TrainerCallback

from wit.artifacts import COMPLETE
from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.tokenizers import load_tokenizer
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
KNOBS: dict[str, dict[str, Any]] = {
    "whole on every rank": {},
    "plain": {},
    "adapters": {"lora": {"rank": 4}, "learning_rate": 1e-2},
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
        save_model(model, tokenizer, out / MODEL)


def main() -> None:
    base, instructions, tokenizer, out = map(Path, sys.argv[1:])
    PartialState(cpu=True)
    if is_first_rank():
        tied(base, out / "tied base")
    wait_for_all_ranks()
    for name in RECIPES:
        parts = (out / "tied base" if name == "tied embeddings" else base, instructions, tokenizer)
        whole, resumed = (out / name / how for how in ("whole", "resumed"))
        for folder in (whole, resumed):
            folder.mkdir(parents=True, exist_ok=True)
        left_alone = WHOLE if name == "whole on every rank" else SHARDED
        interrupted = left_alone.model_copy(update=AT_ONCE)
        train(name, parts, whole, left_alone)
        try:
            train(name, parts, resumed, interrupted, Interruption())
            raise AssertionError("it came to its end")
        except Interrupted:
            train(name, parts, resumed, interrupted)


if __name__ == "__main__":
    main()
