"""Trainings of a few steps, and what they show."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.sft_trainer import SFTTrainer

from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.models import load_model
from wit.recipes import SFTRecipe
from wit.tokenizers import load_tokenizer
from wit.training.callbacks import HISTORY
from wit.training.sft import make_trainer
from wit.training.trainer import WeightedSFTTrainer
from wit.weights import TokenWeights

ROWS = 20  # not a multiple of a step's 8: the last step of an epoch is short
Parts = tuple[Path, Path, Path]


def recipe(prompt: float = 0.2, response: float = 1.0, **knobs: object) -> SFTRecipe:
    defaults = {"learning_rate": 1e-2, "num_epochs": 2, "examples_per_step": 8, "seed": 0}
    weights = TokenWeights(prompt=prompt, response=response)
    return SFTRecipe(**{"weights": weights, **defaults, **knobs})


def weighted(
    parts: Parts, folder: Path, recipe: SFTRecipe, rows: Dataset | None = None, **runtime: object
) -> WeightedSFTTrainer:
    base, instructions, tokenizer = parts
    rows = rows or read_split(instructions, TRAIN).select(range(ROWS))
    where = Runtime(device="cpu", **runtime)
    return make_trainer(recipe, base, rows, load_tokenizer(tokenizer), folder, where)


def trained(trainer: SFTTrainer) -> list[dict[str, float]]:
    """What it logged at each step."""
    seen: list[dict[str, float]] = []

    class Collect(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in logs:
                seen.append({name: float(value) for name, value in logs.items()})

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Collect())
    trainer.train()
    return seen


def losses(figures: list[dict[str, float]]) -> list[float]:
    return [logged["loss"] for logged in figures]


def losses_of(folder: Path) -> dict[int, float]:
    """By step, of the training that was made there; a step that is there twice is an error."""
    lines = map(json.loads, (folder / HISTORY).read_text().splitlines())
    pairs = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def assert_same_training(one: Path, other: Path, rel: float) -> None:
    assert losses_of(one) == pytest.approx(losses_of(other), rel=rel)
    weights = load_model(one / "model").state_dict()
    for name, weight in load_model(other / "model").state_dict().items():
        # Of gradients near 0 Adam makes steps as large as of others, so rounding shows: padded
        # micro-batches of 1 and of 3 rows leave adapters that are 2e-5 apart; a step is 1e-3.
        torch.testing.assert_close(weight, weights[name], rtol=5 * rel, atol=rel / 4)


def tied(base: Path, folder: Path) -> Path:
    """A base as another one, but with one matrix for embeddings and LM head."""
    shutil.copytree(base, folder)
    model = load_model(base)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder)
    return folder
