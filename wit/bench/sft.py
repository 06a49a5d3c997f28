"""Weighted SFT against TRL's plain ``SFTTrainer``, and packed against padded, in one run each."""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from datasets import Dataset
from rich.console import Console
from transformers import PrinterCallback, Trainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from wit.builtin import BASE_DIR, DATA_DIR
from wit.config import Runtime
from wit.data.prepare import TRAIN, make_instructions, make_tokenizer, read_split
from wit.models import load_model
from wit.recipes import InstructionsRecipe, SFTRecipe, TokenizerRecipe
from wit.settings import Settings
from wit.tokenizers import Tokenizer, load_tokenizer
from wit.training.arguments import training_arguments
from wit.training.sft import make_trainer
from wit.weights import TokenWeights

NUM_ROWS = 512  # of the embedded instructions: 16 optimizer steps of 32
PLAIN = "TRL SFTTrainer, loss_type=nll, completion_only_loss=False"
PADDED = "the same trainer with padded micro-batches of 32 rows, sorted by length"
RECIPE = SFTRecipe(
    weights=TokenWeights(prompt=1, response=1),
    seed=0,
    learning_rate=1e-3,
    num_epochs=1,
    examples_per_step=32,
)


class Parts(NamedTuple):
    """What both trainers get."""

    rows: Dataset
    tokenizer: Tokenizer
    scratch: Path


class Measurement(Settings):
    """Throughput of two trainers on the same rows, in one run."""

    baseline: str
    tokens_per_second: tuple[float, ...]  # one per repeat
    baseline_tokens_per_second: tuple[float, ...]
    ratio: float  # median of the repeats' ratios, ours over baseline
    ratios: tuple[float, ...]
    num_tokens: int  # per repeat, without padding
    machine: str
    versions: dict[str, str]


def measure(contest: Literal["sft", "packing"], repeats: int) -> Measurement:
    """Trains with both, in turns after one warm-up each, and compares.

    Args:
        contest: Weighted against plain, or packed against padded.
        repeats: Turns that count.
    """
    ours, theirs = (_weighted, _plain) if contest == "sft" else (_packed, _weighted)
    with tempfile.TemporaryDirectory() as folder:
        parts = _prepare(Path(folder))
        turns = [(_time(ours, parts), _time(theirs, parts)) for _ in range(repeats + 1)][1:]
    num_tokens = sum(len(ids) for ids in parts.rows["input_ids"])
    ratios = tuple(baseline / own for own, baseline in turns)
    return Measurement(
        baseline=PLAIN if contest == "sft" else PADDED,
        tokens_per_second=tuple(round(num_tokens / own) for own, _ in turns),
        baseline_tokens_per_second=tuple(round(num_tokens / baseline) for _, baseline in turns),
        ratio=statistics.median(ratios),
        ratios=ratios,
        num_tokens=num_tokens,
        machine=machine_name(),
        versions={name: version(name) for name in ("torch", "transformers", "trl")},
    )


def show_measurement(console: Console, measurement: Measurement) -> None:
    """Prints the ratio and what it rests on."""
    ours, theirs = (
        statistics.median(speeds)
        for speeds in (
            measurement.tokens_per_second,
            measurement.baseline_tokens_per_second,
        )
    )
    spread = f"{min(measurement.ratios):.3f} to {max(measurement.ratios):.3f}"
    console.print(f"{measurement.ratio:.3f} x the tokens/s of {measurement.baseline} ({spread})")
    console.print(f"{ours:,.0f} against {theirs:,.0f} tokens/s, {len(measurement.ratios)} repeats")
    console.print(measurement.machine)


def _prepare(scratch: Path) -> Parts:
    tokenizer, instructions = scratch / "tokenizer", scratch / "instructions"
    tokenizer.mkdir()
    instructions.mkdir()
    make_tokenizer(TokenizerRecipe(), BASE_DIR, tokenizer)
    recipe = InstructionsRecipe(path="builtin", held_out_fraction=0.0)
    make_instructions(recipe, DATA_DIR / "instructions.jsonl", tokenizer, instructions)
    rows = read_split(instructions, TRAIN).select(range(NUM_ROWS))
    return Parts(rows, load_tokenizer(tokenizer), scratch)


def _time(make: Callable[[Parts], Trainer], parts: Parts) -> float:
    trainer = make(parts)
    trainer.remove_callback(PrinterCallback)
    started = time.perf_counter()
    trainer.train()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _weighted(parts: Parts, **runtime: bool) -> Trainer:
    where = Runtime.model_validate(runtime)
    return make_trainer(RECIPE, BASE_DIR, parts.rows, parts.tokenizer, parts.scratch, where)


def _packed(parts: Parts) -> Trainer:
    return _weighted(parts, packing=True)


def _plain(parts: Parts) -> Trainer:
    arguments = training_arguments(RECIPE, 0, Runtime(), parts.scratch, len(parts.rows))
    ids = parts.rows["input_ids"]
    return SFTTrainer(
        model=load_model(BASE_DIR),
        args=SFTConfig(
            **arguments, completion_only_loss=False, dataset_kwargs={"skip_prepare_dataset": True}
        ),
        train_dataset=Dataset.from_dict({"input_ids": ids, "labels": ids}),
        processing_class=parts.tokenizer,
    )


def machine_name() -> str:
    """The GPU, or the processor and its cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, no GPU"
