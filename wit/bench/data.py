"""Preparation of synthetic rows: how fast, and how its memory grows with their number."""

import json
import os
import platform
import random
import tempfile
import time
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import psutil
from rich.console import Console

from wit.builtin import BASE_DIR
from wit.builtin.vocabulary import LIST_WORDS
from wit.data import prepare
from wit.errors import WorkerDiedError
from wit.recipes import InstructionsRecipe, TokenizerRecipe
from wit.settings import Settings

SEED = 0
DUPLICATES = 0.02  # of the rows
POLL_SECONDS = 0.1


class Run(Settings):
    """One preparation, in a process of its own."""

    num_rows: int  # in
    num_tokens: int  # out
    seconds: float
    rows_per_second: float
    tokens_per_second: float
    source_bytes: int
    peak_rss_bytes: int  # of the process and those that it starts, shared pages counted in each


class Measurement(Settings):
    """Preparation of all rows, and of a tenth of them as the baseline of its memory."""

    whole: Run
    tenth: Run
    memory_ratio: float  # peak RSS of the whole over that of the tenth; near 1 if it is bounded
    num_workers: int
    machine: str
    versions: dict[str, str]


def measure(num_rows: int, num_workers: int) -> Measurement:
    """Prepares so many rows, and before that a tenth of them.

    Args:
        num_rows: Of the whole.
        num_workers: Processes that tokenise.

    Raises:
        WorkerDiedError: The process that prepared them was killed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = Path(scratch) / "tokenizer"
        tokenizer.mkdir()
        prepare.make_tokenizer(TokenizerRecipe(), BASE_DIR, tokenizer)
        tenth, whole = (
            _measure(number, num_workers, tokenizer, Path(scratch) / str(number))
            for number in (num_rows // 10, num_rows)
        )
    return Measurement(
        whole=whole,
        tenth=tenth,
        memory_ratio=round(whole.peak_rss_bytes / tenth.peak_rss_bytes, 3),
        num_workers=num_workers,
        machine=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        versions={name: version(name) for name in ("tokenizers", "transformers", "pyarrow")},
    )


def show_measurement(console: Console, measurement: Measurement) -> None:
    """Prints speed and memory."""
    whole, tenth = measurement.whole, measurement.tenth
    console.print(
        f"{whole.rows_per_second:,.0f} rows/s, {whole.tokens_per_second:,.0f} tokens/s: "
        f"{whole.num_rows:,} rows in {whole.seconds:,.0f} s, {measurement.num_workers} processes"
    )
    console.print(
        f"{measurement.memory_ratio:.2f} x the peak memory of {tenth.num_rows:,} rows: "
        f"{whole.peak_rss_bytes / 2**20:,.0f} against {tenth.peak_rss_bytes / 2**20:,.0f} MiB"
    )
    console.print(measurement.machine)


def write_rows(path: Path, num_rows: int) -> None:
    """Questions and answers of random words, most short and some long, a few of them twice."""
    rng = random.Random(SEED)
    row = ""
    with path.open("w", encoding="utf-8") as file:
        for _ in range(num_rows):
            if not row or rng.random() >= DUPLICATES:
                prompt, response = (
                    " ".join(rng.choices(LIST_WORDS, k=1 + int(rng.lognormvariate(*shape))))
                    for shape in ((3.0, 0.7), (4.0, 0.8))  # about 25 and 75 words on average
                )
                row = json.dumps({"prompt": f"{prompt}?", "response": f"{response}."}) + "\n"
            file.write(row)


def _measure(num_rows: int, num_workers: int, tokenizer: Path, folder: Path) -> Run:
    folder.mkdir()
    source = folder / "rows.jsonl"
    write_rows(source, num_rows)
    # A process of its own: memory that others used before would hide what this one uses.
    process = get_context("spawn").Process(
        target=_prepare, args=(source, tokenizer, folder, num_workers)
    )
    process.start()
    peak = 0
    while process.is_alive():
        peak = max(peak, _rss_with_children(process.pid))
        process.join(POLL_SECONDS)
    if process.exitcode:
        raise WorkerDiedError(f"the process that prepared {num_rows} rows died")
    seconds = float((folder / "seconds").read_text())
    num_tokens = sum(prepare.read_card(folder)["train_tokens_by_role"].values())
    size = source.stat().st_size
    source.unlink()
    return Run(
        num_rows=num_rows,
        num_tokens=num_tokens,
        seconds=round(seconds, 2),
        rows_per_second=round(num_rows / seconds, 1),
        tokens_per_second=round(num_tokens / seconds, 1),
        source_bytes=size,
        peak_rss_bytes=peak,
    )


def _prepare(source: Path, tokenizer: Path, out: Path, num_workers: int) -> None:
    prepare.LEAST_ROWS_PER_PROCESS = 1  # the tenth gets as many processes as the whole
    recipe = InstructionsRecipe(path=str(source), held_out_fraction=0.0)
    started = time.perf_counter()
    prepare.make_instructions(recipe, source, tokenizer, out, num_workers=num_workers)
    (out / "seconds").write_text(str(time.perf_counter() - started))


def _rss_with_children(pid: int | None) -> int:
    total = 0
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:  # it ends just now
        return 0
    return total
