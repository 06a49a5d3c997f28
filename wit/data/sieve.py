"""The first pass over the rows: which are kept, and in which split each lies.

No text is remembered but a sample: of a row 21 bytes, some 100 in the moment of choosing, and some
400 more where near-duplicates are looked for; that also takes 4 bytes a word in a temporary file.
"""

from array import array
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from wit.data.boilerplate import Boilerplate, TextSample, find_boilerplate
from wit.data.duplicates import WordRuns, near_duplicates
from wit.data.kinds import Item, Kind, digests, text_of, texts_of
from wit.data.mixture import rows_by_share
from wit.recipes import DataRecipe

KEPT = "kept"


class Choice(NamedTuple):
    """What became of the rows of one source."""

    is_kept: np.ndarray  # of each row that was looked at, in the order of the source
    is_held_out: np.ndarray  # of each, dropped ones too
    dropped: Counter[str]  # number of rows by reason
    boilerplate: Boilerplate  # of the prompts


class _Source(NamedTuple):
    """A source while its rows come in."""

    start: int  # its first row among all
    num_rows: int  # before sampling
    sample: TextSample


class Sieve:
    """Takes the rows of all sources, one source after the other, and then chooses."""

    def __init__(
        self,
        kind: Kind,
        recipe: DataRecipe,
        where: str,
        overlaps: Callable[[str], bool] | None = None,
    ) -> None:
        """Knows no row yet.

        Args:
            kind: Of the rows.
            recipe: What is to be kept.
            where: Name of the data, for messages.
            overlaps: Whether a text holds an item of a benchmark; rows that do are dropped.
        """
        self.kind = kind
        self.recipe = recipe
        self.where = where
        self._overlaps = overlaps
        self._word_runs = WordRuns() if recipe.near_duplicates else None
        self._sources: dict[str, _Source] = {}
        self._reason_names = [KEPT]
        # Of every row:
        self._reasons = array("B")  # index of a name
        self._row_digests = bytearray()
        self._prompt_digests = array("I")  # their first four bytes

    def begin(self, name: str, num_rows: int) -> None:
        """From here on, rows are those of another source.

        Args:
            name: Of the source.
            num_rows: That it has, be it that only a sample of them comes.
        """
        self._sources[name] = _Source(len(self._reasons), num_rows, TextSample())

    def add(self, item: Item) -> None:
        """Takes note of a row."""
        digest = digests(self.kind, item)
        self._row_digests += digest.row
        self._prompt_digests.append(int.from_bytes(digest.prompt[:4]))
        fault = self.kind.fault(item)
        if self._overlaps and not fault and any(map(self._overlaps, texts_of(self.kind, item))):
            fault = "overlaps a benchmark"
        self._reasons.append(self._code(fault or KEPT))
        if self._word_runs:
            self._word_runs.add(text_of(self.kind, item))
        if not fault and (framed := self.kind.framed(item)):
            next(reversed(self._sources.values())).sample.add(digest.row, framed)

    def choose(self) -> dict[str, Choice]:
        """What becomes of every row, by source.

        Which rows ``max_rows`` and shares leave depends on their content, not on their place. A
        row's split depends on its own prompt alone, so it never moves when rows are added, and
        answers to one prompt stay together; so do an instruction and a preference pair.

        Raises:
            DataError: A source of a mixture with shares has no row left.
        """
        reasons = np.array(self._reasons, dtype=np.uint8)
        halves = np.frombuffer(self._row_digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)
        by_content = np.lexsort((halves[:, 1], halves[:, 0]))  # equal ones in the order of rows
        is_again = (halves[by_content][1:] == halves[by_content][:-1]).all(axis=1)
        reasons[by_content[1:][is_again]] = self._code("duplicate")
        self._drop_near_duplicates(reasons)
        self._drop_over_limits(reasons, by_content)
        is_held_out = (
            np.array(self._prompt_digests, dtype=np.uint32) / 2**32 < self.recipe.held_out_fraction
        )
        return {
            name: Choice(
                is_kept=reasons[rows] == 0,
                is_held_out=is_held_out[rows],
                dropped=self._count(reasons[rows]),
                boilerplate=find_boilerplate(self._sources[name].sample.texts()),
            )
            for name, rows in self._rows_of_sources().items()
        }

    def _drop_near_duplicates(self, reasons: np.ndarray) -> None:
        if not (self._word_runs and self.recipe.near_duplicates):
            return
        rows = np.flatnonzero(reasons == 0)
        ends = [source.stop for source in self._rows_of_sources().values()]
        of_sources = np.split(rows, np.searchsorted(rows, ends[:-1]))
        signatures = self._word_runs.signatures(of_sources)
        is_again = near_duplicates(signatures, self.recipe.near_duplicates)
        reasons[rows[is_again]] = self._code("near duplicate")

    def _drop_over_limits(self, reasons: np.ndarray, by_content: np.ndarray) -> None:
        """Leaves of each source what its own limit, its share and the limit of all allow."""

        def keep(rows: slice, limit: int, reason: str) -> None:
            is_inside = (by_content >= rows.start) & (by_content < rows.stop)
            ranked = by_content[is_inside & (reasons[by_content] == 0)]
            reasons[ranked[limit:]] = self._code(reason)

        rows_of = self._rows_of_sources()
        for name, source in self.recipe.sources.items():
            if source.max_rows is not None:
                limit = _part(source.max_rows, rows_of[name], self._sources[name].num_rows)
                keep(rows_of[name], limit, "over max_rows")
        whole, max_rows = slice(0, len(reasons)), self.recipe.max_rows
        if max_rows is not None:
            max_rows = _part(max_rows, whole, sum(s.num_rows for s in self._sources.values()))
        shares = {name: s.share for name, s in self.recipe.sources.items() if s.share is not None}
        if shares:
            available = {name: int((reasons[rows_of[name]] == 0).sum()) for name in shares}
            for reason, limit in (("over its share", None), ("over max_rows", max_rows)):
                for name, left in rows_by_share(available, shares, limit, self.where).items():
                    keep(rows_of[name], left, reason)
        elif max_rows is not None:
            keep(whole, max_rows, "over max_rows")

    def _rows_of_sources(self) -> dict[str, slice]:
        starts = [source.start for source in self._sources.values()]
        ends = [*starts[1:], len(self._reasons)]
        return dict(zip(self._sources, map(slice, starts, ends), strict=True))

    def _code(self, reason: str) -> int:
        if reason not in self._reason_names:
            self._reason_names.append(reason)
        return self._reason_names.index(reason)

    def _count(self, reasons: np.ndarray) -> Counter[str]:
        counts = zip(self._reason_names, np.bincount(reasons).tolist(), strict=False)
        return Counter({name: n for name, n in counts if n and name != KEPT})


def _part(max_rows: int, rows: slice, num_rows: int) -> int:
    """The share of a limit that a sample of the rows has."""
    return -(-max_rows * (rows.stop - rows.start) // num_rows)
