"""Weighted SFT against TRL's plain ``SFTTrainer``, and packed against padded, in one run each."""

import gc
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
from datasets import Dataset
from transformers import AutoConfig, PrinterCallback, Trainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from wit.bench.arms import MIB, Run, in_turns, peak_since, reset_peak, timed
from wit.bench.flops import flops_per_token, mean_length, measured_peak
from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.builtin import BASE_DIR, DATA_DIR
from wit.config import Runtime
from wit.data.prepare import TRAIN, make_instructions, make_tokenizer, read_split
from wit.losses import IGNORE_INDEX
from wit.models import choose_device, load_model
from wit.recipes import InstructionsRecipe, SFTRecipe, TokenizerRecipe
from wit.tokenizers import Tokenizer, load_tokenizer
from wit.training.arguments import training_arguments
from wit.training.sft import make_trainer
from wit.weights import TokenWeights

NUM_ROWS = 512  # of the embedded instructions: 16 optimizer steps of 32
WARM_UP_STEPS = 2
RECIPE = SFTRecipe(
    weights=TokenWeights(prompt=1, response=1),
    seed=0,
    learning_rate=1e-3,
    num_epochs=1,
    examples_per_step=32,
)
Way = Literal["packed", "padded", "plain"]
WAYS: dict[Way, str] = {
    "packed": "weighted SFT, weights (1, 1), rows packed end to end",
    "padded": "weighted SFT, weights (1, 1), padded micro-batches sorted by length",
    "plain": "TRL SFTTrainer, loss_type=nll, completion_only_loss=False",
}
CONTESTS: dict[str, tuple[Way, Way]] = {
    "sft": ("packed", "plain"),
    "packing": ("packed", "padded"),
}
MAX_MEMORY = 1.02  # of the baseline's peak


class Parts(NamedTuple):
    """What every trainer gets."""

    rows: Dataset
    tokenizer: Tokenizer
    scratch: Path


class Counter:
    """Counts what goes through a model, whoever trains it."""

    def __init__(self, model: torch.nn.Module) -> None:
        """Listens to its forwards."""
        self.counts = {"rows": 0, "tokens": 0, "targets": 0}
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: Any, args: Any, inputs: dict[str, torch.Tensor]) -> None:
        labels = inputs.get("labels")
        num_rows, num_tokens = rows_and_tokens(inputs)
        self.counts["rows"] += int(num_rows)
        self.counts["tokens"] += int(num_tokens)
        if labels is not None:  # else whoever has them counts them
            self.counts["targets"] += int((labels[:, 1:] != IGNORE_INDEX).sum())


def rows_and_tokens(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Of a micro-batch, padded or packed; padding is neither."""
    if (positions := inputs.get("position_ids")) is None:
        mask = inputs["attention_mask"]
        return torch.stack([mask.new_tensor(len(mask)), mask.sum()])
    # A packed row begins where positions do; padding is rows of one token, which data never are.
    begins = torch.nn.functional.pad(positions == 0, (0, 1), value=True)
    num_padding = (begins[:, :-1] & begins[:, 1:]).sum()
    return (
        torch.stack([begins[:, :-1].sum(), positions.new_tensor(positions.numel())]) - num_padding
    )


def measure(contest: str, repeats: int, num_rows: int = NUM_ROWS) -> BenchResult:
    """Trains in two ways, in turns, each in a process of its own.

    Args:
        contest: One of ``CONTESTS``: against TRL's plain trainer, or packed against padded.
        repeats: Turns.
        num_rows: Of the embedded instructions.

    Raises:
        StageError: One way did more or less than the other.
    """
    ours, baseline = CONTESTS[contest]
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        arms = {way: (run, (way, Path(folder), num_rows)) for way in (ours, baseline)}
        runs = in_turns(arms, repeats)
        limit = limit_of(BASE_DIR, _rows(Path(folder), num_rows))
    return BenchResult(
        name=contest,
        ours=WAYS[ours],
        baseline=WAYS[baseline],
        figures=figures_of(contest, runs[ours], runs[baseline], limit),
        sizes={"model": "embedded base", "rows per step": RECIPE.examples_per_step},
        same_work=same_work({way: runs[way][0].counts for way in (ours, baseline)}),
        machine=machine_name(),
        versions=versions_of("torch", "transformers", "trl"),
    )


def figures_of(
    contest: str, ours: list[Run], baseline: list[Run], limit: tuple[float, str]
) -> tuple[Figure, ...]:
    """Tokens per second, which have a limit of which it is said what it is, and peak memory."""
    speeds, peaks = (
        [tuple(measured(run) for run in runs) for runs in (ours, baseline)]
        for measured in (tokens_per_second, peak_mib)
    )
    return (
        Figure(
            quantity="tokens/s",
            ours=speeds[0],
            baseline=speeds[1],
            at_least=1.0,
            limit=limit[0] / median(speeds[1]),
            limit_is=limit[1],
        ),
        Figure(
            quantity="peak memory, MiB",
            ours=peaks[0],
            baseline=peaks[1],
            at_most=MAX_MEMORY if contest == "sft" else None,
        ),
    )


def limit_of(base: Path, rows: Dataset) -> tuple[float, str]:
    """Tokens per second if the device did nothing but the model's products, at its best; why."""
    length = mean_length([len(ids) for ids in rows["input_ids"]])
    per_token = flops_per_token(AutoConfig.from_pretrained(base, trust_remote_code=False), length)
    peak = measured_peak(choose_device("auto"), torch.float32)
    return peak.flops / per_token, f"{per_token:,.0f} operations per token; {peak.source}"


def tokens_per_second(run: Run) -> float:
    """Without padding."""
    return run.counts["tokens"] / run.seconds


def peak_mib(run: Run) -> float:
    """What training took at its peak."""
    return run.peak_bytes / MIB


def prepare(folder: Path) -> None:
    """Tokenises the embedded instructions, once for all ways."""
    tokenizer, instructions = folder / "tokenizer", folder / "instructions"
    tokenizer.mkdir()
    instructions.mkdir()
    make_tokenizer(TokenizerRecipe(), BASE_DIR, tokenizer)
    recipe = InstructionsRecipe(path="builtin", held_out_fraction=0.0)
    make_instructions(recipe, DATA_DIR / "instructions.jsonl", tokenizer, instructions)


def run(way: Way, prepared: Path, num_rows: int) -> Run:
    """One way, in the process that calls it."""
    gc.freeze()  # as a worker does: what was imported stays, and need not be looked at again
    rows = _rows(prepared, num_rows)
    tokenizer = load_tokenizer(prepared / "tokenizer")
    makers = {"packed": _packed, "padded": _padded, "plain": _plain}
    with tempfile.TemporaryDirectory() as scratch:
        return train(makers[way], Parts(rows, tokenizer, Path(scratch)), RECIPE.examples_per_step)


def _rows(prepared: Path, num_rows: int) -> Dataset:
    return read_split(prepared / "instructions", TRAIN).select(range(num_rows))


def train(make: Callable[[Parts], Trainer], parts: Parts, examples_per_step: int) -> Run:
    """Trains on all rows, after a warm-up on the first of them."""
    before = reset_peak()
    first = parts.rows.select(range(min(len(parts.rows), WARM_UP_STEPS * examples_per_step)))
    silent(make(parts._replace(rows=first))).train()
    gc.collect()
    trainer = silent(make(parts))
    counter = Counter(trainer.model)  # pyright: ignore[reportArgumentType]
    seconds = timed(trainer.train)
    counts = {**counter.counts, "steps": trainer.state.global_step}
    return Run(seconds, peak_since(before), counts)


def silent(trainer: Trainer) -> Trainer:
    """Without a line of print for every step."""
    trainer.remove_callback(PrinterCallback)
    return trainer


def _packed(parts: Parts, *, packing: bool = True) -> Trainer:
    where = Runtime(packing=packing)
    return make_trainer(RECIPE, BASE_DIR, parts.rows, parts.tokenizer, parts.scratch, where)


def _padded(parts: Parts) -> Trainer:
    return _packed(parts, packing=False)


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
