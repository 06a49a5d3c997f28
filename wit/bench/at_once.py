"""Adapters of several cells trained at once on one base, against one cell after another."""

import gc
import multiprocessing
import os
import tempfile
from collections import Counter as Sums
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from datasets import Dataset

from wit.adapter_recipes import AdapterKnobs
from wit.bench.arms import MIB, Run, in_turns, peak_since, reset_peak, timed
from wit.bench.flops import flops_per_token, mean_length, measured_peak
from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.bench.sft import WARM_UP_STEPS, prepare, rows_and_tokens, silent
from wit.builtin import BASE_DIR
from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.losses import IGNORE_INDEX
from wit.models import choose_device, load_model
from wit.recipes import SFTRecipe
from wit.tokenizers import load_tokenizer
from wit.training.sft import make_trainer
from wit.training.side_by_side.train import make_trainer as make_trainer_of_cells
from wit.weights import TokenWeights

NUM_ROWS = 256  # of the embedded instructions
EXAMPLES_PER_STEP = 8  # as in the quickstart
CELLS = ((0.0, 0), (0.5, 0), (0.0, 1), (0.5, 1))  # weight of prompts, seed
AT_LEAST = 1.8  # times as fast as one cell after another


class Task(NamedTuple):
    """What a process is told."""

    prepared: Path
    num_rows: int
    num_threads: int
    cells: tuple[int, ...] = tuple(range(len(CELLS)))


def measure(repeats: int, num_rows: int = NUM_ROWS) -> BenchResult:
    """Trains the same cells in each way, in turns, each in processes of its own.

    Args:
        repeats: Turns.
        num_rows: Of the embedded instructions.

    Raises:
        StageError: One way did more or less than another.
    """
    num_cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        whole = Task(Path(folder), num_rows, num_cores)
        arms = {
            "at once": (at_once, (whole,)),
            "one after another": (one_after_another, (whole,)),
            "workers": (in_workers, (whole._replace(num_threads=1), num_cores)),
            "at once, one thread": (at_once, (whole._replace(num_threads=1),)),
            "one after another, one thread": (
                one_after_another,
                (whole._replace(num_threads=1),),
            ),
        }
        runs = in_turns(arms, repeats)
        counts = same_work({name: found[0].counts for name, found in runs.items()})
        limit = limit_of(_rows(whole), counts["targets"] / counts["tokens"])
    return BenchResult(
        name="adapters, at once",
        ours=f"{len(CELLS)} cells at once, LoRA of rank 16 on all linear layers, {num_cores} "
        "threads",
        baseline="the same cells one after another, as many threads; or in as many workers of one "
        "thread each",
        figures=figures_of(runs, limit),
        sizes={"model": "embedded base", "rows per step": EXAMPLES_PER_STEP, "cells": len(CELLS)},
        same_work=counts,
        machine=machine_name(),
        versions=versions_of("torch", "transformers", "peft"),
    )


def limit_of(rows: Dataset, targets: float) -> tuple[float, str]:
    """Tokens per second if the device did nothing but the products of model and adapters; why.

    Args:
        rows: That are trained on.
        targets: Share of the tokens that the head sees.
    """
    length = mean_length([len(ids) for ids in rows["input_ids"]])
    config = load_model(BASE_DIR).config
    per_token = flops_per_token(config, length, trained="adapters", targets=targets)
    peak = measured_peak(choose_device("auto"), torch.float32)
    return peak.flops / per_token, f"{per_token:,.0f} operations per token; {peak.source}"


def figures_of(runs: Mapping[str, list[Run]], limit: tuple[float, str]) -> tuple[Figure, ...]:
    """Tokens per second of all cells, and peak memory of all processes.

    Args:
        runs: Of every way.
        limit: Tokens per second that nobody passes, and why.
    """

    def speed(way: str) -> tuple[float, ...]:
        return tuple(run.counts["tokens"] / run.seconds for run in runs[way])

    def peak(way: str) -> tuple[float, ...]:
        return tuple(run.peak_bytes / MIB for run in runs[way])

    single = ("at once, one thread", "one after another, one thread")
    return (
        Figure(
            quantity="tokens/s, against one after another",
            ours=speed("at once"),
            baseline=speed("one after another"),
            at_least=AT_LEAST,
            limit=limit[0] / median(speed("one after another")),
            limit_is=limit[1],
        ),
        Figure(
            quantity="tokens/s, against workers",
            ours=speed("at once"),
            baseline=speed("workers"),
            limit=limit[0] / median(speed("workers")),
            limit_is=limit[1],
        ),
        Figure(
            quantity="tokens/s, one thread, against one after another",
            ours=speed(single[0]),
            baseline=speed(single[1]),
        ),
        Figure(
            quantity="peak memory, MiB, against one after another",
            ours=peak("at once"),
            baseline=peak("one after another"),
        ),
        Figure(
            quantity="peak memory, MiB, against workers",
            ours=peak("at once"),
            baseline=peak("workers"),
        ),
    )


def at_once(task: Task) -> Run:
    """All cells in one training."""
    return _measured(task, [task.cells])


def one_after_another(task: Task) -> Run:
    """A training for each cell."""
    return _measured(task, [(cell,) for cell in task.cells])


def in_workers(task: Task, num_workers: int) -> Run:
    """Every worker has its share of the cells, and trains them one after another.

    The time is that of the slowest worker.
    """
    shares = [task.cells[first::num_workers] for first in range(num_workers)]
    shares = [share for share in shares if share]
    context = multiprocessing.get_context("spawn")
    workers = [ProcessPoolExecutor(1, context) for _ in shares]
    try:
        _each(workers, _warm_up, [(task,) for _ in shares])
        work = [(task._replace(cells=share),) for share in shares]
        found: list[Run] = _each(workers, _trained, work)
    finally:
        for worker in workers:
            worker.shutdown()
    counts = sum((Sums(run.counts) for run in found), Sums())
    slowest = max(run.seconds for run in found)
    return Run(slowest, sum(run.peak_bytes for run in found), dict(counts))


def _each(workers: Sequence[ProcessPoolExecutor], function: Any, tasks: Sequence[Any]) -> list[Any]:
    pairs = zip(workers, tasks, strict=True)
    futures = [worker.submit(function, *arguments) for worker, arguments in pairs]
    return [future.result() for future in futures]


def _warm_up(task: Task) -> None:
    gc.freeze()  # as a worker does
    torch.set_num_threads(task.num_threads)
    _train(task._replace(num_rows=WARM_UP_STEPS * EXAMPLES_PER_STEP), [(0,)])


def _trained(task: Task) -> Run:
    before = reset_peak()
    seconds, counts = _train(task, [(cell,) for cell in task.cells])
    return Run(seconds, peak_since(before), counts)


def _measured(task: Task, groups: Sequence[tuple[int, ...]]) -> Run:
    gc.freeze()
    torch.set_num_threads(task.num_threads)
    before = reset_peak()
    _train(task._replace(num_rows=WARM_UP_STEPS * EXAMPLES_PER_STEP), groups[:1])
    gc.collect()
    seconds, counts = _train(task, groups)
    return Run(seconds, peak_since(before), counts)


def _train(task: Task, groups: Sequence[tuple[int, ...]]) -> tuple[float, dict[str, int]]:
    """Trains groups of cells one after the other; loading does not count."""
    rows = _rows(task)
    tokenizer = load_tokenizer(task.prepared / "tokenizer")
    seconds, counts = 0.0, Sums()
    for group in groups:
        recipes = [recipe_of(cell) for cell in group]
        with tempfile.TemporaryDirectory() as scratch:
            where = (BASE_DIR, rows, tokenizer, Path(scratch), Runtime())
            is_single = len(group) == 1
            trainer: Any = silent(
                make_trainer(recipes[0], *where)
                if is_single
                else make_trainer_of_cells(recipes, *where)
            )
            counter = Counter(trainer)
            seconds += timed(trainer.train)
            num_steps = trainer.state.global_step * len(group)
            counts.update({**counter.counts, "steps": num_steps})
    return seconds, dict(counts)


def _rows(task: Task) -> Any:
    return read_split(task.prepared / "instructions", TRAIN).select(range(task.num_rows))


def recipe_of(cell: int) -> SFTRecipe:
    """Of one of ``CELLS``."""
    prompt, seed = CELLS[cell]
    return SFTRecipe(
        weights=TokenWeights(prompt=prompt, response=1),
        seed=seed,
        learning_rate=1e-2,
        num_epochs=1,
        examples_per_step=EXAMPLES_PER_STEP,
        adapter=AdapterKnobs(tokens="none"),
    )


class Counter:
    """Counts what goes through a trainer's model; targets are those with a weight."""

    def __init__(self, trainer: Any) -> None:
        """Listens to what the loss is computed of."""
        self.counts = {"rows": 0, "tokens": 0, "targets": 0}
        self.compute_loss = trainer.compute_loss
        trainer.compute_loss = self._count

    def _count(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        num_rows, num_tokens = rows_and_tokens(inputs)
        self.counts["rows"] += int(num_rows)
        self.counts["tokens"] += int(num_tokens)
        self.counts["targets"] += int((inputs["labels"][:, 1:] != IGNORE_INDEX).sum())
        return self.compute_loss(model, inputs, *args, **kwargs)
