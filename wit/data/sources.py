"""Rows of a local file or of a pinned hub data set, as plain dictionaries."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wit.errors import DataError
from wit.recipes import RowsRecipe

Row = dict[str, Any]
Files = Path | Mapping[str, Path] | None  # of sources by name; one path is that of a single place
UTF8 = "utf-8-sig"  # with or without the mark that Excel writes in front
ROWS_AT_ONCE = 256  # of formats that are read by batches
MAX_CSV_FIELD = 2**30  # characters; Python's own limit of 131,072 is shorter than some documents


class Survey(NamedTuple):
    """What must be known of all rows before the first of them can be understood."""

    num_rows: int
    columns: tuple[str, ...]  # of any row


def paths_by_source(files: Files) -> Mapping[str, Path]:
    """Local files of a set, by the name of the source."""
    return {"": files} if isinstance(files, Path) else files or {}


def read_rows(recipe: RowsRecipe, path: Path | None) -> Iterator[Row]:
    """All rows, one after the other, in the order of the source.

    A source may be larger than memory: rows are read as they are asked for. Only a ``.json`` file
    is held in memory whole, for its rows are one list; as ``.jsonl`` it need not be.

    Args:
        recipe: Names the hub data set when ``path`` is not given.
        path: A ``.json`` (a list), ``.jsonl``, ``.csv`` or ``.parquet`` file.

    Raises:
        DataError: The source is missing, empty, or not of that shape; names file and row.
    """
    number = 0
    for number, row in enumerate(read_file(path) if path else _read_hub(recipe), start=1):
        if not isinstance(row, dict):
            kind = type(row).__name__
            where = path or recipe.repo
            raise DataError(f"{where}: row {number} is a {kind}, not an object of named columns")
        yield row
    if not number:
        raise DataError(f"{path or recipe.repo}: holds no rows")


def survey(rows: Iterable[Row]) -> Survey:
    """Counts rows and notes their columns, in the order in which they appear."""
    num_rows, columns = 0, dict[str, None]()
    for row in rows:
        num_rows += 1
        if row.keys() - columns.keys():
            columns |= dict.fromkeys(row)
    return Survey(num_rows, tuple(columns))


def read_file(path: Path) -> Iterator[Any]:
    """All rows of one local file, whatever they are.

    Raises:
        DataError: The file cannot be read; names it and the line.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(READERS)
        raise DataError(f"{path}: cannot read files of type {path.suffix!r}; known: {kinds}")
    try:
        yield from reader(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}:{_line_that_is_no_text(path)}: is not UTF-8 text") from None


def _line_that_is_no_text(path: Path) -> int:
    # The decoder reads ahead in pieces, so its error does not know the line.
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _read_json(path: Path) -> Iterator[Any]:
    content = _parse(path.read_text(encoding=UTF8), str(path))
    if not isinstance(content, list):
        kind = type(content).__name__
        raise DataError(f"{path}: must hold a list of rows, holds a {kind}; JSON lines: .jsonl")
    yield from content


def _read_jsonl(path: Path) -> Iterator[Any]:
    with path.open(encoding=UTF8) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _parse(line, str(path), number)


def _parse(text: str, path: str, number: int | None = None) -> Any:
    """JSON, which is a whole file or the line of that number."""
    place = path if number is None else f"{path}:{number}"
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{number or error.lineno}: this is not JSON: {error.msg}") from None
    except ValueError as error:
        raise DataError(f"{place}: holds a number that cannot be read: {error}") from None
    except RecursionError:
        raise DataError(f"{place}: is nested too deeply to be a row of text") from None


def _read_csv(path: Path) -> Iterator[Any]:
    with path.open(encoding=UTF8, newline="") as lines:
        csv.field_size_limit(MAX_CSV_FIELD)
        reader = csv.DictReader(lines, strict=True)  # an open quote would swallow rows
        try:
            for number, row in enumerate(reader, start=1):
                if None in row or None in row.values():
                    num_columns = len(reader.fieldnames or ())
                    raise DataError(
                        f"{path}:{reader.line_num}: row {number} does not have the "
                        f"{num_columns} columns of the header"
                    )
                yield row
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: this is not CSV: {error}") from None


def _read_parquet(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        # Not buffered ahead: that would hold whole groups of rows, as large as their writer chose.
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: this is not Parquet: {error}") from None


READERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _read_hub(recipe: RowsRecipe) -> Iterator[Row]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    from wit.hub import snapshot

    assert recipe.repo is not None
    assert recipe.revision is not None
    folder = snapshot(recipe.repo, recipe.revision, kind="dataset")
    try:
        # Arrow files in the cache, mapped into memory as they are read.
        rows: Any = load_dataset(str(folder), name=recipe.subset, split=recipe.split)
        for batch in rows.iter(ROWS_AT_ONCE):
            yield from (
                dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)
            )
    except (DatasetsError, ValueError, RuntimeError, OSError) as error:
        where = f"{recipe.repo}@{recipe.revision[:8]}"
        raise DataError(
            f"{where}: subset {recipe.subset!r}, split {recipe.split!r} cannot be loaded: {error}"
        ) from None
