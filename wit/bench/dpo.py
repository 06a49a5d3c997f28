"""DPO that reads the reference's log-probabilities, against TRL's with the reference in memory.

Every contestant trains in a process of its own, so that its peak memory is its own.
"""

import gc
import multiprocessing
import resource
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from transformers import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.bench.sft import machine_name
from wit.builtin import BASE_DIR, DATA_DIR
from wit.config import Runtime
from wit.data.prepare import make_preferences, make_tokenizer
from wit.data.splits import TRAIN, read_split
from wit.models import choose_device, load_model
from wit.recipes import PreferencesRecipe, TokenizerRecipe
from wit.settings import Settings
from wit.tokenizers import Tokenizer, load_tokenizer
from wit.training.alignment_trainer import AlignmentTrainer
from wit.training.arguments import training_arguments
from wit.training.reference import columns_of, logps_in_batches, with_fused_head

NUM_PAIRS = 256  # of the embedded preferences
RECIPE = DPORecipe(seed=0, num_epochs=1, examples_per_step=16, learning_rate=1e-5)
Way = Literal["reference", "ours", "trl"]
WAYS: dict[Way, str] = {
    "reference": "the stage that scores the responses once",
    "ours": "DPO that reads what that stage found",
    "trl": "TRL's DPOTrainer with the reference model in memory",
}
MIB = 2**20


class Contestant(Settings):
    """What one way took."""

    way: Way
    seconds: tuple[float, ...]  # of each repeat
    pairs_per_second: float  # by the median
    tokens_per_second: float  # both sides of a pair, each with its prompt; without padding
    peak_memory_bytes: int  # of the GPU; else above what the process held without a model


class Measurement(Settings):
    """All ways on the same pairs in one run, and their ratios."""

    contestants: tuple[Contestant, ...]
    reference_ratio: float  # tokens/s of the stage over those of training that reads it
    speed_ratio: float  # median of the repeats' pairs/s of training, ours over TRL's
    speed_ratios: tuple[float, ...]
    # The same where the stage's own time counts too, and one alignment is all that reads it.
    speed_ratio_with_stage: float
    memory_ratio: float  # ours over TRL's
    num_pairs: int
    num_tokens: int
    num_weights: int
    machine: str
    versions: dict[str, str]


class Run(NamedTuple):
    """What one process found."""

    seconds: float
    num_bytes: int
    num_tokens: int
    num_weights: int


class Parts(NamedTuple):
    """What every way gets."""

    base: Path
    tokenizer: Tokenizer
    rows: Dataset
    scratch: Path


def measure(repeats: int, base: Path | None = None) -> Measurement:
    """Runs all ways in turns, each after a warm-up in its process.

    Args:
        repeats: Turns.
        base: Folder of a model whose vocabulary holds the embedded tokenizer's; unset: that one.
    """
    found: dict[Way, list[Run]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            for way, runs in found.items():
                scratch = Path(folder) / f"{way}-{repeat}"
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    runs.append(process.apply(run, (way, base or BASE_DIR, scratch)))
    by_way = {way: _contestant(way, runs) for way, runs in found.items()}
    turns = list(zip(*(by_way[way].seconds for way in WAYS), strict=True))
    speed_ratios = tuple(trl / ours for _, ours, trl in turns)
    one: Run = found["ours"][0]
    return Measurement(
        contestants=tuple(by_way.values()),
        reference_ratio=by_way["reference"].tokens_per_second / by_way["ours"].tokens_per_second,
        speed_ratio=statistics.median(speed_ratios),
        speed_ratios=speed_ratios,
        speed_ratio_with_stage=statistics.median(t / (s + o) for s, o, t in turns),
        memory_ratio=by_way["ours"].peak_memory_bytes / by_way["trl"].peak_memory_bytes,
        num_pairs=NUM_PAIRS,
        num_tokens=one.num_tokens,
        num_weights=one.num_weights,
        machine=machine_name(),
        versions={name: version(name) for name in ("torch", "transformers", "trl")},
    )


def show_measurement(console: Console, found: Measurement) -> None:
    """Prints the ratios and what they rest on."""
    table = Table()
    for column in ("way", "pairs/s", "tokens/s", "peak memory"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for one in found.contestants:
        speed, tokens = f"{one.pairs_per_second:,.1f}", f"{one.tokens_per_second:,.0f}"
        table.add_row(WAYS[one.way], speed, tokens, f"{one.peak_memory_bytes / MIB:,.0f} MiB")
    console.print(table)
    spread = f"{min(found.speed_ratios):.2f} to {max(found.speed_ratios):.2f}"
    console.print(f"reference stage: {found.reference_ratio:.2f} x the tokens/s of training")
    console.print(
        f"DPO that reads it: {found.speed_ratio:.2f} x the pairs/s of TRL's ({spread}); "
        f"{found.speed_ratio_with_stage:.2f} x if the stage's time counts"
    )
    console.print(f"peak memory: {found.memory_ratio:.2f} x TRL's")
    console.print(
        f"{found.num_pairs} pairs, {found.num_tokens:,} tokens, {found.num_weights:,} weights, "
        f"{len(found.speed_ratios)} repeats; {found.machine}"
    )


def run(way: Way, base: Path, scratch: Path) -> Run:
    """One way, in the process that calls it."""
    parts = _prepared(base, scratch)
    time_of = {"reference": _time_reference, "ours": _time_ours, "trl": _time_trl}[way]
    before = _peak_resident()
    time_of(parts._replace(rows=parts.rows.select(range(2 * RECIPE.examples_per_step))))
    gc.collect()
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = time_of(parts)
    num_bytes = torch.cuda.max_memory_allocated() if has_gpu else _peak_resident() - before
    lengths = {
        side: sum(map(len, parts.rows[f"{side}_ids"])) for side in ("prompt", "chosen", "rejected")
    }
    num_weights = sum(weight.numel() for weight in load_model(base).parameters())
    return Run(seconds, num_bytes, sum(lengths.values()) + lengths["prompt"], num_weights)


def _contestant(way: Way, runs: list[Run]) -> Contestant:
    seconds = statistics.median(run.seconds for run in runs)
    return Contestant(
        way=way,
        seconds=tuple(run.seconds for run in runs),
        pairs_per_second=NUM_PAIRS / seconds,
        tokens_per_second=runs[0].num_tokens / seconds,
        peak_memory_bytes=max(run.num_bytes for run in runs),
    )


def _prepared(base: Path, scratch: Path) -> Parts:
    tokenizer, preferences = scratch / "tokenizer", scratch / "preferences"
    for folder in (tokenizer, preferences):
        folder.mkdir(parents=True)
    make_tokenizer(TokenizerRecipe(), BASE_DIR, tokenizer)
    recipe = PreferencesRecipe(path="builtin", held_out_fraction=0.0)
    make_preferences(recipe, DATA_DIR / "preferences.jsonl", tokenizer, preferences)
    rows = read_split(preferences, TRAIN).select(range(NUM_PAIRS))
    return Parts(base, load_tokenizer(tokenizer), rows, scratch)


def _time_reference(parts: Parts) -> float:
    model = _model(parts)
    started = time.perf_counter()
    _logps(model, parts.rows)
    return _seconds_since(started)


def _time_ours(parts: Parts) -> float:
    model, rows = _model(parts), parts.rows
    for name, values in zip(columns_of(rows, ReferenceRecipe()), _logps(model, rows), strict=True):
        column: Any = values
        rows = rows.add_column(name, column)
    trainer = AlignmentTrainer(
        model,
        knobs=RECIPE,
        args=DPOConfig(**_arguments(parts), precompute_ref_log_probs=True),
        train_dataset=rows,
        processing_class=parts.tokenizer,
    )
    return _time_training(trainer)


def _time_trl(parts: Parts) -> float:
    class OfPreparedRows(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    trainer = OfPreparedRows(
        model=_model(parts),
        ref_model=_model(parts),
        args=DPOConfig(**_arguments(parts), beta=RECIPE.beta),
        train_dataset=parts.rows,
        processing_class=parts.tokenizer,
    )
    return _time_training(trainer)


def _time_training(trainer: DPOTrainer) -> float:
    trainer.remove_callback(PrinterCallback)
    started = time.perf_counter()
    trainer.train()
    return _seconds_since(started)


def _logps(model: Any, rows: Dataset) -> np.ndarray:
    found = np.empty((2, len(rows)), dtype=np.float32)
    with torch.no_grad():
        batch_size = 2 * Runtime().evaluation_batch_size
        for places, values in logps_in_batches(model, rows, ReferenceRecipe(), batch_size):
            found[places] = values
    return found


def _model(parts: Parts) -> Any:
    return with_fused_head(load_model(parts.base, choose_device("auto")))


def _arguments(parts: Parts) -> dict[str, Any]:
    return training_arguments(RECIPE, 0, Runtime(), parts.scratch / "run", len(parts.rows))


def _seconds_since(started: float) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _peak_resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
