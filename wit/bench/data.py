"""Preparation of synthetic rows, against tokenizers' own encoding of the same texts in batches."""

import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median

import psutil

from wit.bench.arms import MIB, Run, in_turns, timed
from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.builtin import BASE_DIR
from wit.builtin.vocabulary import LIST_WORDS
from wit.data import prepare
from wit.data.rendering import ChatRenderer
from wit.data.schema import Message
from wit.recipes import InstructionsRecipe, TokenizerRecipe
from wit.roles import Role
from wit.tokenizers import load_tokenizer

SEED = 0
DUPLICATES = 0.02  # of the rows
POLL_SECONDS = 0.1
ROWS_AT_ONCE = 256  # as preparation has them
MOST_MEMORY = 1.5e9  # bytes, however many rows


def measure(num_rows: int = 100_000, num_workers: int = 1, repeats: int = 1) -> BenchResult:
    """Prepares so many rows, and encodes the texts of those that are kept, in turns.

    Args:
        num_rows: With those that are there twice.
        num_workers: Cores of each, and threads of the tokenizer.
        repeats: Turns.

    Raises:
        StageError: The baseline had other rows or tokens.
    """
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer, source = Path(scratch) / "tokenizer", Path(scratch) / "rows.jsonl"
        tokenizer.mkdir()
        prepare.make_tokenizer(TokenizerRecipe(), BASE_DIR, tokenizer)
        write_rows(source, num_rows)
        size = source.stat().st_size
        arguments = (source, tokenizer, num_workers)
        arms = {
            "ours": (prepare_rows, arguments),
            "tokenizers": (encode_texts, (*arguments, "encode_batch")),
            "without offsets": (encode_texts, (*arguments, "encode_batch_fast")),
        }
        found = in_turns(arms, repeats)
    counts = same_work({name: runs[0].counts for name, runs in found.items()})
    speeds = {
        name: tuple(run.counts["tokens"] / run.seconds for run in runs)
        for name, runs in found.items()
    }
    return BenchResult(
        name="data",
        ours="rows read, sieved, rendered, tokenised with roles and written",
        baseline="encode_batch of tokenizers over the texts of the kept rows, which are at hand",
        figures=(
            Figure(
                quantity="tokens/s",
                ours=speeds["ours"],
                baseline=speeds["tokenizers"],
                at_least=0.7,
                limit=median(speeds["without offsets"]) / median(speeds["tokenizers"]),
                limit_is="every text is tokenised once, by that library, without offsets",
            ),
            Figure(
                quantity="tokens/s, against encode_batch_fast, which gives no offsets",
                ours=speeds["ours"],
                baseline=speeds["without offsets"],
                limit=1.0,
                limit_is="every text is tokenised once, by that call",
            ),
            Figure(
                quantity="peak memory of all processes, MiB",
                ours=tuple(run.peak_bytes / MIB for run in found["ours"]),
                at_most=MOST_MEMORY / MIB,
            ),
        ),
        sizes={"rows": num_rows, "MiB of rows": round(size / MIB), "cores": num_workers},
        same_work=counts,
        machine=machine_name(),
        versions=versions_of("tokenizers", "transformers", "pyarrow"),
    )


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


def prepare_rows(source: Path, tokenizer: Path, num_workers: int) -> Run:
    """The stage, in as many processes as it finds worth their start; the first rows warm it up."""
    watch = _Watch()
    watch.start()
    with _cores(num_workers), tempfile.TemporaryDirectory() as scratch:
        first, out = Path(scratch) / "first.jsonl", Path(scratch) / "out"
        out.mkdir()
        with source.open(encoding="utf-8") as lines:
            first.write_text("".join(islice(lines, ROWS_AT_ONCE)), encoding="utf-8")
        seconds = [
            timed(
                lambda rows=rows: prepare.make_instructions(
                    _recipe(rows), rows, tokenizer, out, num_workers=num_workers
                )
            )
            for rows in (first, source)
        ][-1]
        card = prepare.read_card(out)
    tokens = sum(card["train_tokens_by_role"].values())
    return Run(seconds, watch.stop(), {"rows": card["rows"][prepare.TRAIN], "tokens": tokens})


def encode_texts(source: Path, tokenizer: Path, num_workers: int, call: str) -> Run:
    """What the library needs for the same pieces of text; reading and rendering do not count."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    with _cores(num_workers):
        return _encode_texts(source, tokenizer, call)


def _encode_texts(source: Path, tokenizer: Path, call: str) -> Run:
    encode = getattr(load_tokenizer(tokenizer).backend_tokenizer, call)
    most = _recipe(source).max_tokens
    seconds, rows, tokens = 0.0, 0, 0
    pieces = _pieces(source, ChatRenderer(load_tokenizer(tokenizer)))
    while batch := list(islice(pieces, ROWS_AT_ONCE)):
        texts = [text for of_row in batch for text in of_row]
        started = time.perf_counter()
        encodings = encode(texts, add_special_tokens=False)
        ids = [encoding.ids for encoding in encodings]
        seconds += time.perf_counter() - started
        for prompt, response in zip(ids[::2], ids[1::2], strict=True):
            if len(prompt) < most:  # else no room is left for the response
                rows += 1
                tokens += min(most, len(prompt) + len(response))
    return Run(seconds, 0, {"rows": rows, "tokens": tokens})


@contextmanager
def _cores(number: int) -> Iterator[None]:
    """What is started meanwhile has so many cores and threads of the tokenizer, and no more."""
    os.environ["RAYON_NUM_THREADS"] = str(number)
    if not hasattr(os, "sched_setaffinity"):  # elsewhere than on Linux
        yield
        return
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(usual)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def _recipe(source: Path) -> InstructionsRecipe:
    return InstructionsRecipe(path=str(source), held_out_fraction=0.0)


def _pieces(source: Path, renderer: ChatRenderer) -> Iterator[tuple[str, str]]:
    """Of every row that is kept, the text up to its response and the rest."""
    seen: set[str] = set()
    with source.open(encoding="utf-8") as lines:
        for line in lines:
            if line in seen:
                continue
            seen.add(line)
            row = json.loads(line)
            turns = (Message("user", row["prompt"]), Message("assistant", row["response"]))
            segments = renderer.segments(turns)
            start = next(i for i, segment in enumerate(segments) if segment.role == Role.RESPONSE)
            first, second = (
                "".join(s.text for s in part) for part in (segments[:start], segments[start:])
            )
            yield first, second


class _Watch(threading.Thread):
    """Looks now and then how much memory this process and its children hold together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._peak = 0
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(POLL_SECONDS):
            self._look()

    def stop(self) -> int:
        """Bytes at the peak; pages that processes share are counted in each."""
        self._is_over.set()
        self.join()
        self._look()
        return self._peak

    def _look(self) -> None:
        total = 0
        process = psutil.Process()
        for each in (process, *process.children(recursive=True)):
            try:
                total += each.memory_info().rss
            except psutil.NoSuchProcess:  # it ends just now
                continue
        self._peak = max(self._peak, total)
