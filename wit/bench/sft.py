"""Weighted SFT against TRL's plain ``SFTTrainer``, on the same rows of the embedded study."""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import Dataset
from rich.console import Console
from transformers import PrinterCallback, Trainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from wit.builtin import BASE_DIR, DATA_DIR
from wit.config import InstructionsRecipe, Runtime, SFTRecipe, TokenizerRecipe
from wit.data.collate import RoleCollator
from wit.data.prepare import TRAIN, make_instructions, make_tokenizer, read_split
from wit.models import load_model
from wit.settings import Settings
from wit.tokenizers import load_tokenizer
from wit.training.arguments import training_arguments
from wit.training.sft import WeightedSFTTrainer
from wit.weights import TokenWeights

NUM_ROWS = 512  # of the embedded instructions: 16 optimizer steps of 32
BASELINE = "TRL SFTTrainer, loss_type=nll, completion_only_loss=False"


class Measurement(Settings):
    """Throughput of two trainers on the same rows, in one run."""

    baseline: str = BASELINE
    weighted_tokens_per_second: tuple[float, ...]  # one per repeat
    baseline_tokens_per_second: tuple[float, ...]
    ratio: float  # median of the repeats' ratios, weighted over baseline
    ratios: tuple[float, ...]
    num_tokens: int  # per repeat, without padding
    machine: str
    versions: dict[str, str]


def measure(repeats: int) -> Measurement:
    """Trains with both, in turns after one warm-up each, and compares.

    Args:
        repeats: Turns that count.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        tokenizer, rows = _prepare(scratch)
        turns = [
            (_time(_weighted, rows, tokenizer, scratch), _time(_plain, rows, tokenizer, scratch))
            for _ in range(repeats + 1)
        ][1:]
    num_tokens = sum(len(ids) for ids in rows["input_ids"])
    ratios = tuple(plain / weighted for weighted, plain in turns)
    return Measurement(
        weighted_tokens_per_second=tuple(round(num_tokens / weighted) for weighted, _ in turns),
        baseline_tokens_per_second=tuple(round(num_tokens / plain) for _, plain in turns),
        ratio=statistics.median(ratios),
        ratios=ratios,
        num_tokens=num_tokens,
        machine=_machine(),
        versions={name: version(name) for name in ("torch", "transformers", "trl")},
    )


def show_measurement(console: Console, measurement: Measurement) -> None:
    """Prints the ratio and what it rests on."""
    ours, theirs = (
        statistics.median(speeds)
        for speeds in (
            measurement.weighted_tokens_per_second,
            measurement.baseline_tokens_per_second,
        )
    )
    spread = f"{min(measurement.ratios):.3f} to {max(measurement.ratios):.3f}"
    console.print(f"{measurement.ratio:.3f} x the tokens/s of {measurement.baseline} ({spread})")
    console.print(f"{ours:,.0f} against {theirs:,.0f} tokens/s, {len(measurement.ratios)} repeats")
    console.print(measurement.machine)


def _prepare(scratch: Path) -> tuple[Path, Dataset]:
    tokenizer, instructions = scratch / "tokenizer", scratch / "instructions"
    tokenizer.mkdir()
    instructions.mkdir()
    make_tokenizer(TokenizerRecipe(), BASE_DIR, tokenizer)
    recipe = InstructionsRecipe(path="builtin", held_out_fraction=0.0)
    make_instructions(recipe, DATA_DIR / "instructions.jsonl", tokenizer, instructions)
    return tokenizer, read_split(instructions, TRAIN).select(range(NUM_ROWS))


def _time(make: Callable[..., Trainer], rows: Dataset, tokenizer: Path, scratch: Path) -> float:
    recipe = SFTRecipe(
        weights=TokenWeights(prompt=1, response=1),
        seed=0,
        learning_rate=1e-3,
        num_epochs=1,
        examples_per_step=32,
    )
    runtime = Runtime(device="auto")
    arguments = training_arguments(recipe, 0, runtime, scratch, len(rows))
    config = SFTConfig(
        **arguments, completion_only_loss=False, dataset_kwargs={"skip_prepare_dataset": True}
    )
    trainer = make(config, rows, tokenizer, recipe)
    trainer.remove_callback(PrinterCallback)
    started = time.perf_counter()
    trainer.train()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _weighted(config: SFTConfig, rows: Dataset, folder: Path, recipe: SFTRecipe) -> Trainer:
    tokenizer = load_tokenizer(folder)
    return WeightedSFTTrainer(
        model=load_model(BASE_DIR),
        args=config,
        train_dataset=rows,
        data_collator=RoleCollator(recipe.weights, tokenizer.pad_token_id),
        processing_class=tokenizer,
    )


def _plain(config: SFTConfig, rows: Dataset, folder: Path, _recipe: SFTRecipe) -> Trainer:
    ids = rows["input_ids"]
    return SFTTrainer(
        model=load_model(BASE_DIR),
        args=config,
        train_dataset=Dataset.from_dict({"input_ids": ids, "labels": ids}),
        processing_class=load_tokenizer(folder),
    )


def _machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, no GPU"
