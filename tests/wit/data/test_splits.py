"""Prepared rows stay on the disk until they are needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from wit.data.prepare import INSTRUCTION_COLUMNS
from wit.data.splits import TRAIN, SplitFiles, lengths_of, read_split, read_table, split_file

NUM_ROWS, NUM_TOKENS = 2000, 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    row = {"input_ids": [7] * NUM_TOKENS, "roles": [1] * NUM_TOKENS, "source": ""}
    with SplitFiles(out, INSTRUCTION_COLUMNS) as files:
        for number in range(NUM_ROWS):
            one = [{**row, "row": number + 1}]
            files.write(TRAIN, pa.RecordBatch.from_pylist(one, schema=INSTRUCTION_COLUMNS))
    return out


def rows_and_lengths(folder: Path) -> Any:
    rows = read_split(folder, TRAIN)
    return rows, rows[0], lengths_of(rows, "input_ids")


@pytest.mark.parametrize("read", [rows_and_lengths, lambda out: read_table(out, TRAIN)])
def test_reading_takes_memory_for_what_is_needed_only(
    read: Callable[[Path], Any], folder: Path
) -> None:
    size = split_file(folder, TRAIN).stat().st_size
    assert size > NUM_ROWS * NUM_TOKENS * 4
    before = pa.total_allocated_bytes()
    result = read(folder)
    assert pa.total_allocated_bytes() - before < size / 20
    assert len(result) > 0


def test_rows_are_what_was_written(folder: Path) -> None:
    rows = read_split(folder, TRAIN)
    assert rows["row"][:] == list(range(1, NUM_ROWS + 1))
    assert rows[NUM_ROWS - 1]["input_ids"] == [7] * NUM_TOKENS
    assert set(lengths_of(rows, "input_ids")) == {NUM_TOKENS}


def test_what_a_user_of_the_rows_computes_stays_out_of_their_folder(folder: Path) -> None:
    before = set(folder.iterdir())
    rows = read_split(folder, TRAIN).map(lambda row: {"row": row["row"] + 1})
    assert rows.select([5, 3]).flatten_indices()["row"][:] == [7, 5]
    assert set(folder.iterdir()) == before
