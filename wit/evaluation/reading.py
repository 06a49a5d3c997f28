"""Where lm-eval reads a benchmark's rows from, when a study says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets

from wit.errors import StageError
from wit.evaluation.benchmark_files import FILE_READERS
from wit.evaluation.catalogue import ResolvedBenchmark


@contextmanager
def rows_from_where_it_says(benchmark: ResolvedBenchmark, cache: str) -> Iterator[None]:
    """While it lasts, lm-eval finds local rows for those of the hub, or those of one commit.

    Files that a benchmark names itself are read anew.

    Tasks of a group name their rows in files of their own, and load them when they are built; what
    they all call is the one place where they can be told otherwise.

    Args:
        benchmark: With ``rows`` or ``revision``; without them its own rows are read.
        cache: An empty folder for what is read.
    """
    own: Any = datasets.load_dataset

    def load(path: str, name: str | None = None, **knobs: Any) -> Any:
        if benchmark.rows:
            files = benchmark.rows.of(name)
            if not files:
                raise StageError(f"its 'data' has no files of {name!r}: wants {name}/SPLIT.jsonl")
            return own(benchmark.rows.reader, data_files=files, cache_dir=cache)
        if path in FILE_READERS or Path(path).is_dir():
            knobs["cache_dir"] = cache
        elif benchmark.revision:
            knobs["revision"] = benchmark.revision
        return own(path, name, **knobs)

    datasets.load_dataset = load
    try:
        yield
    finally:
        datasets.load_dataset = own
