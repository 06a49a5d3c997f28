"""The rows of a set, source by source, read anew at every pass."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from wit.data.encode import Batch, NumberedRow
from wit.data.kinds import Item, Kind, num_characters
from wit.data.preference_rows import Unusable
from wit.data.schema import Shape
from wit.data.sieve import Choice, Sieve
from wit.data.sources import Files, Row, paths_by_source, read_rows, survey
from wit.errors import DataError
from wit.files import stamps_of
from wit.recipes import DataRecipe, RowsRecipe

MAX_BATCH_ROWS, MAX_BATCH_CHARACTERS = 256, 1_000_000


class RowsOfSource:
    """Rows of one place, read anew at every pass."""

    def __init__(self, kind: Kind, recipe: RowsRecipe, path: Path | None) -> None:
        self.where = str(path or recipe.repo)
        self.kind = kind
        self.recipe = recipe
        self.path = path
        self.num_rows, columns = survey(read_rows(recipe, path))
        self.shape = Shape(columns, kind.shapes, recipe.columns, self.where)
        self.faulty: str | None = None  # the first row that says nothing, and what is wrong
        self._sample: list[tuple[int, Row]] | None = None

    def rows(self, every: int) -> Iterator[tuple[int, Row]]:
        """Numbers from 1, and rows: all of them, or the first and every so manieth after it."""
        numbered = enumerate(read_rows(self.recipe, self.path), start=1)
        if every == 1:
            return numbered
        if self._sample is None:  # they are few: no need to read all others again
            self._sample = list(islice(numbered, 0, None, every))
        return iter(self._sample)

    def item(self, number: int, row: Row) -> Item:
        """What a row says.

        Raises:
            DataError: It is an instruction and not of the source's shape; names it.
        """
        item = self.kind.read(self.shape, row, number)
        if isinstance(item, Unusable):
            self.faulty = self.faulty or item.said
        return item

    def chosen(self, choice: Choice, every: int) -> Iterator[NumberedRow]:
        """The rows that are kept."""
        of_rows = zip(choice.is_kept.tolist(), choice.is_held_out.tolist(), strict=True)
        # A file that changes meanwhile may have other rows now; that is found out afterwards.
        for (number, row), (is_kept, is_held_out) in zip(self.rows(every), of_rows, strict=False):
            if is_kept:
                yield NumberedRow(number, is_held_out, self.item(number, row))


class RowsOfSet:
    """All sources of a data recipe."""

    def __init__(
        self, kind: Kind, recipe: DataRecipe, files: Files, sample_rows: int | None
    ) -> None:
        paths = paths_by_source(files)
        self.kind = kind
        self.recipe = recipe
        self._stamps = stamps_of(paths.values())
        self.sources = {
            name: RowsOfSource(kind, of_source, paths.get(name))
            for name, of_source in recipe.by_source().items()
        }
        num_rows = sum(source.num_rows for source in self.sources.values())
        self.every = -(-num_rows // (sample_rows or num_rows))
        self.where = ", ".join(
            f"{name}: {source.where}" if name else source.where
            for name, source in self.sources.items()
        )

    def choose(self, overlaps: Callable[[str], bool] | None) -> dict[str, Choice]:
        """Which rows are kept, by source."""
        sieve = Sieve(self.kind, self.recipe, self.where, overlaps)
        for name, source in self.sources.items():
            sieve.begin(name, source.num_rows)
            for number, row in source.rows(self.every):
                sieve.add(source.item(number, row))
        return sieve.choose()

    def batches(self, choices: Mapping[str, Choice]) -> Iterator[Batch]:
        """The rows that are kept, some hundred at a time, fewer where they are long."""
        for name, source in self.sources.items():
            rows: list[NumberedRow] = []
            size = 0
            for row in source.chosen(choices[name], self.every):
                rows.append(row)
                size += num_characters(self.kind, row.item)
                if len(rows) == MAX_BATCH_ROWS or size >= MAX_BATCH_CHARACTERS:
                    yield Batch(name, rows)
                    rows, size = [], 0
            if rows:
                yield Batch(name, rows)

    def check_unchanged(self) -> None:
        """Compares the files with what they were when the first pass began.

        Raises:
            DataError: One was changed, so that what was chosen may be other rows now.
        """
        for stamp in self._stamps:
            if stamp not in stamps_of([Path(stamp.file)]):
                raise DataError(f"{stamp.file}: was changed while it was read. Run again")
