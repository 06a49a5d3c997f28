"""The files of a prepared set: one of Arrow for each split, written as rows come.

They are those of ``datasets`` (``Dataset.from_file`` opens them): mapped into memory, not read into
it, so that a training on more rows than fit there reads what a step needs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from datasets import Dataset

TRAIN, HELD_OUT = "train", "held_out"
SPLITS = (TRAIN, HELD_OUT)
TOKENS_AT_ONCE = 4_000_000  # of a split, in memory and in a batch of the file


class SplitFiles:
    """Writes the splits, a batch of rows at a time; leaves no file if anything fails."""

    def __init__(self, out: Path, columns: pa.Schema) -> None:
        """Opens both files.

        Args:
            out: Folder to write to.
            columns: Of both splits.
        """
        self._columns = columns
        self._files = {split: split_file(out, split) for split in SPLITS}
        self._writers = {
            split: pa.ipc.new_stream(file, columns) for split, file in self._files.items()
        }
        self._waiting: dict[str, list[pa.RecordBatch]] = {split: [] for split in SPLITS}
        self._num_waiting: dict[str, int] = dict.fromkeys(SPLITS, 0)  # tokens

    def write(self, split: str, rows: pa.RecordBatch) -> None:
        """Adds rows to a split."""
        if not rows.num_rows:
            return
        self._waiting[split].append(rows)
        ids = [rows[name] for name in rows.schema.names if name.endswith("ids")]
        self._num_waiting[split] += sum(len(column.flatten()) for column in ids)
        if self._num_waiting[split] >= TOKENS_AT_ONCE:
            self._flush(split)

    def _flush(self, split: str) -> None:
        if self._waiting[split]:
            table = pa.Table.from_batches(self._waiting[split], self._columns)
            self._writers[split].write_table(table.combine_chunks())
            self._waiting[split].clear()
            self._num_waiting[split] = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for split, writer in self._writers.items():
            if kind is None:
                self._flush(split)
            writer.close()
        if kind is not None:
            for file in self._files.values():
                file.unlink()


def split_file(folder: Path, split: str) -> Path:
    """Where a split of a prepared set is."""
    return folder / f"{split}.arrow"


def read_split(folder: Path, split: str) -> "Dataset":
    """One split of a prepared data set, left on the disk."""
    from datasets import Dataset  # takes a second, which ``wit plan`` need not wait for

    # Without a name of its own ``datasets`` would read all rows to give it one; and of a file that
    # it opens itself, it would keep what it computes beside the file, in a complete artifact.
    return Dataset(read_table(folder, split), fingerprint=uuid4().hex)


def read_table(folder: Path, split: str) -> pa.Table:
    """The same as a table of Arrow, which is left on the disk too."""
    with pa.memory_map(str(split_file(folder, split))) as file, pa.ipc.open_stream(file) as stream:
        return stream.read_all()


def lengths_of(rows: "Dataset", column: str) -> list[int]:
    """Tokens in a column of each row, counted by Arrow: lists of Python would take minutes."""
    tokens = rows.select_columns(column).with_format("arrow")[:][column]
    return pc.list_value_length(tokens).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
