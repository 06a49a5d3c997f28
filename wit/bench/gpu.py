"""SFT and DPO of models as large as people train, on one GPU: speed, utilization, peak memory.

None of its rows has been measured yet: there was no GPU where it was written. What tests run is
``is_tiny``, on a CPU.
"""

import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from wit.adapter_recipes import AdapterKnobs
from wit.bench.arms import Run, in_turns
from wit.bench.flops import Again, Peak, flops_per_token, mean_length, mfu, peak_flops_of
from wit.bench.gpu_arms import Arm, Task, run, sequences_per_step, write_base
from wit.bench.gpu_rows import (
    LENGTHS,
    SIZES,
    TINY_LENGTHS,
    Training,
    rows_of,
    trainings,
    write_rows,
)
from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.errors import ConfigError, OutOfMemoryError
from wit.loading import load_runtime

GIB = 2**30
LEAST_MFU = 0.5  # of the small model, all weights, packed
LEAST_SPEED, MOST_MEMORY = 0.99, 1.02  # weighted over plain
OUT_OF_MEMORY = "out of memory"
WORDS = {
    ("sft", "ours"): "weighted SFT",
    ("sft", "plain"): "TRL's SFTTrainer, plain, on the same rows",
    ("dpo", "ours"): "DPO that reads what the reference stage found",
}


def measure(
    repeats: int,
    *,
    only: str = "*",
    lengths: Sequence[int] | None = None,
    num_steps: int = 6,
    attention: str = "auto",
    memory_gib: float | None = None,
    is_tiny: bool = False,
    tell: Callable[[BenchResult], None] | None = None,
) -> tuple[BenchResult, ...]:
    """Trains each configuration in a process of its own; of some memory runs out, which they say.

    Args:
        repeats: Turns.
        only: Pattern of names, such as ``sft-1b-*``.
        lengths: Tokens of the longest rows; unset: as many as models of that size are trained on.
        num_steps: Optimizer steps that count, after as many that warm up.
        attention: As of ``Runtime``.
        memory_gib: Of the GPU, for each process: whether it fits on a smaller one. Unset: all.
        is_tiny: A model of two layers and short rows in float32, which a CPU trains in seconds.
        tell: Gets each result as soon as it is there.

    Raises:
        ConfigError: There is no GPU, no row has such a name, or rows cannot be so long or steps so
            many.
    """
    if not is_tiny and not torch.cuda.is_available():
        raise ConfigError(
            "bench gpu: torch sees no GPU, and on a CPU such models would train for days; run it "
            "where there is one, or give --tiny, which tries everything on a small model"
        )
    load_runtime(None, [f"attention={attention}"])  # or it is no attention
    wanted = trainings(only, lengths or (TINY_LENGTHS if is_tiny else LENGTHS), is_tiny=is_tiny)
    for training in wanted:
        if training.layout == "packed":
            sequences_per_step(training, num_steps)
    peak = peak_flops_of(
        torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        torch.float32 if is_tiny else torch.bfloat16,
    )
    memory_bytes = None if memory_gib is None else round(memory_gib * GIB)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for training in wanted:
            task = _task(training, Path(folder), num_steps, attention, memory_bytes)
            results.append(_measure(task, repeats, peak))
            if tell is not None:
                tell(results[-1])
    return tuple(results)


def _task(
    training: Training, folder: Path, num_steps: int, attention: str, memory_bytes: int | None
) -> Task:
    """Makes model and rows unless another configuration has had them made."""
    size = SIZES[training.size]
    base = folder / training.size
    if not base.exists():
        with multiprocessing.get_context("spawn").Pool(1) as process:  # its memory goes with it
            process.apply(write_base, (base, size.shape))
    name = f"{training.method}-{training.size}-{training.length}"
    rows = folder / f"{name}-rows"
    if not rows.exists():
        write_rows(rows, training, num_steps * size.rows_per_step)
    return Task(
        training,
        num_steps,
        base,
        rows,
        folder / f"{name}-reference",
        attention,
        "float32" if training.size == "tiny" else "bfloat16",
        memory_bytes,
        folder / "scratch",
    )


def _measure(task: Task, repeats: int, peak: Peak) -> BenchResult:
    training = task.training
    sizes: dict[str, int | float | str] = {
        "rows per step": SIZES[training.size].rows_per_step,
        "tokens at once": SIZES[training.size].tokens_at_once,
        "attention": task.attention,
        "precision": task.precision,
        "peak FLOP/s": peak.flops,
        "which is": peak.source,
    }
    found: dict[Arm, list[Run]] = {}
    arms: tuple[Arm, ...] = ("ours", "plain") if training.method == "sft" else ("ours",)
    try:
        if training.method == "dpo" and not any(task.reference.glob("*")):
            found |= _runs(task, ("reference",), 1)
        found |= _runs(task, arms, repeats)
    except OutOfMemoryError as error:
        which = str(error)
        sizes[which] = OUT_OF_MEMORY
        if which == "plain":
            found |= _runs(task, ("ours",), repeats)
    figures = _figures(task, found, peak) if "ours" in found else ()
    return BenchResult(
        name=f"gpu {training.name}",
        ours=WORDS[training.method, "ours"],
        baseline=WORDS[training.method, "plain"] if "plain" in found else "",
        figures=figures,
        sizes=sizes,
        same_work=same_work(
            {"what there is": _expected(task)}
            | {arm: found[arm][0].counts for arm in arms if arm in found}
        ),
        machine=machine_name(),
        versions=versions_of("torch", "transformers", "trl", "peft"),
    )


def _runs(task: Task, arms: Sequence[Arm], repeats: int) -> dict[Arm, list[Run]]:
    found: Any = in_turns({arm: (run, (arm, task)) for arm in arms}, repeats)
    return found


def _figures(task: Task, found: dict[Arm, list[Run]], peak: Peak) -> tuple[Figure, ...]:
    """Speed, utilization and memory of a training, and of the reference that was made for it."""
    training, ours, plain = task.training, found["ours"], found.get("plain", [])
    needed, computed = (_flops(task, twice=twice) for twice in (False, True))
    is_aimed = (training.size, training.trained, training.layout) == ("1b", "full", "packed")
    shares = {
        arm: tuple(mfu(speed, needed, peak) for speed in _speeds(runs))
        for arm, runs in (("ours", ours), ("plain", plain))
    }
    figures = [
        Figure(
            quantity="tokens/s",
            ours=_speeds(ours),
            baseline=_speeds(plain),
            at_least=LEAST_SPEED if plain else None,
            limit=peak.flops / computed if not plain else None,
            limit_is="all products at the peak, and nothing else" if not plain else "",
        ),
        Figure(
            quantity="MFU",
            ours=shares["ours"],
            at_least=LEAST_MFU if is_aimed and training.method == "sft" else None,
            limit=needed / computed,
            limit_is="the head, and with activation checkpointing the layers, are computed twice",
        ),
    ]
    if all(peaks := (*_peaks(ours), *_peaks(plain))):  # a process may hide what a tiny model takes
        figures.append(
            Figure(
                quantity="peak memory, GiB",
                ours=peaks[: len(ours)],
                baseline=peaks[len(ours) :],
                at_most=MOST_MEMORY if plain else None,
            )
        )
    if plain:
        figures.append(Figure(quantity="MFU of the baseline", ours=shares["plain"]))
    if "reference" in found:
        runs = found["reference"]
        scoring = _flops(task, twice=False, is_forward=True)
        speeds = tuple(mfu(speed, scoring, peak) for speed in _speeds(runs))
        figures.append(Figure(quantity="reference stage, tokens/s", ours=_speeds(runs)))
        figures.append(Figure(quantity="reference stage, MFU", ours=speeds))
    return tuple(figures)


def _flops(task: Task, *, twice: bool, is_forward: bool = False) -> float:
    """Of a token: what the model needs, or what is computed, some of it twice."""
    training, size = task.training, SIZES[task.training.size]
    rows = rows_of(training, task.num_steps * size.rows_per_step)
    again: list[Again] = ["head"] if twice else []
    if twice and size.is_checkpointed:
        again.append("layers")
    how: Any = "adapters" if training.trained == "lora" else "all"
    of_needed = flops_per_token(
        size.config,
        mean_length(rows.sequences),
        trained="nothing" if is_forward else how,
        rank=AdapterKnobs().rank or 0,
        targets=rows.num_targets / rows.num_needed,
        again=again,
    )
    return of_needed * rows.num_needed / sum(rows.sequences)


def _expected(task: Task) -> dict[str, int]:
    """What every contestant has to do."""
    num_rows = task.num_steps * SIZES[task.training.size].rows_per_step
    sequences = rows_of(task.training, num_rows).sequences
    return {"rows": len(sequences), "tokens": sum(sequences), "steps": task.num_steps}


def _speeds(runs: Sequence[Run]) -> tuple[float, ...]:
    """Tokens per second, without padding."""
    return tuple(one.counts["tokens"] / one.seconds for one in runs)


def _peaks(runs: Sequence[Run]) -> tuple[float, ...]:
    return tuple(one.peak_bytes / GIB for one in runs)
