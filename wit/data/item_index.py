"""Items of benchmarks, known by the stretches of words that only they have.

Texts are compared as words: runs of letters and digits in lower case, so that punctuation, case
and white space do not hide a copy. A text without spaces between its words is one word from one
punctuation mark to the next.

An item is looked for by every stretch of ``num_words`` words of its text, and of its other
choices. A text shorter than that is looked for as a whole, down to ``SHORTEST`` words; below that
chance would find it.

What many items of a benchmark say is no sign of one of them ("Answer with a single letter:"), nor
is what the rows say everywhere. So a stretch counts only if neither its first nor its last half
stands in more than ``COMMON_ITEMS`` items of the benchmark, or more than half of them, or in the
boilerplate of the rows. Halves, since the question that follows a fixed wording would make each
border of the two look like a stretch of its own. The price: of a passage on which more items than
that rest, nothing is found.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

WORD = re.compile(r"[^\W_]+")
SHORTEST = 5  # words of a text that is looked for as a whole
COMMON_ITEMS = 10  # of one benchmark: a wording that more of them share is that of none

ITEMS = "items.parquet"
ITEM_COLUMNS = pa.schema(
    {
        "benchmark": pa.string(),
        "item": pa.int64(),
        "text": pa.string(),
        "choices": pa.list_(pa.string()),
    }
)

Stretch = tuple[str, ...]  # of words


class Item(NamedTuple):
    """One item of a benchmark, as far as training rows could hold it."""

    benchmark: str
    item: int  # its position in the benchmark, as in the samples of an evaluation
    text: str  # the question and its right answer
    choices: tuple[str, ...] = ()  # wrong answers, if it names them


class Found(NamedTuple):
    """A stretch of an item that stands in a text."""

    position: int  # of the item, among those of the index
    words: Stretch


def read_items(folder: Path) -> list[Item]:
    """The items of an ``items`` artifact."""
    rows = pq.read_table(folder / ITEMS).to_pylist()
    return [Item(**{**row, "choices": tuple(row["choices"])}) for row in rows]


def words_of(text: str) -> list[str]:
    """The words that are compared."""
    return WORD.findall(text.lower())


def stretches(words: Sequence[str], length: int) -> Iterator[Stretch]:
    """Every run of so many words, from the first to the last."""
    return zip(*(words[start:] for start in range(length)), strict=False)


class ItemIndex:
    """Finds items in texts.

    Attributes:
        too_short: Items of which no text has enough words to be looked for, by position.
        common: Items that have enough words, but none that are theirs alone.
    """

    def __init__(
        self, items: Sequence[Item], num_words: int, boilerplate: Iterable[str] = ()
    ) -> None:
        """Indexes the items.

        Args:
            items: Those of one benchmark must stand together.
            num_words: In a stretch that makes an overlap.
            boilerplate: Texts that all rows hold.
        """
        self.num_words = num_words
        self.too_short: set[int] = set()
        self.common: set[int] = set()
        self._items_of: dict[Stretch, tuple[int, ...]] = {}
        self._anchor = min(SHORTEST, num_words)
        self._half = num_words // 2 + 1
        self._boilerplate = {
            stretch
            for text in boilerplate
            for length in range(min(self._anchor, self._half), num_words + 1)
            for stretch in stretches(words_of(text), length)
        }
        numbered = enumerate(items)
        for _, of_benchmark in groupby(numbered, key=lambda pair: pair[1].benchmark):
            self._add(dict(of_benchmark))
        # Rows have many words and items few of them, so most places are passed over at once.
        lengths: defaultdict[Stretch, set[int]] = defaultdict(set)
        for stretch in self._items_of:
            lengths[stretch[: self._anchor]].add(len(stretch))
        self._lengths = {anchor: sorted(found) for anchor, found in lengths.items()}

    def find(self, words: Sequence[str]) -> Iterator[Found]:
        """Every item of which a stretch stands among these words, once for each stretch."""
        for start, anchor in enumerate(stretches(words, self._anchor)):
            for length in self._lengths.get(anchor, ()):
                stretch = tuple(words[start : start + length])
                for position in self._items_of.get(stretch, ()):
                    yield Found(position, stretch)

    def overlaps(self, text: str) -> bool:
        """Whether any item stands in the text."""
        return next(self.find(words_of(text)), None) is not None

    def _add(self, items: dict[int, Item]) -> None:
        """Adds the items of one benchmark, by position."""
        of_item = {position: self._candidates(item) for position, item in items.items()}
        num_items: Counter[Stretch] = Counter()
        for candidates in of_item.values():
            num_items.update({part for stretch in candidates for part in self._parts(stretch)})
        limit = max(1, min(COMMON_ITEMS, len(items) // 2))
        for position, candidates in of_item.items():
            own = {
                stretch
                for stretch in candidates
                if all(num_items[part] <= limit for part in self._parts(stretch))
                and self._boilerplate.isdisjoint(self._parts(stretch))
            }
            if not own:
                (self.common if candidates else self.too_short).add(position)
            for stretch in own:
                self._items_of[stretch] = (*self._items_of.get(stretch, ()), position)

    def _candidates(self, item: Item) -> set[Stretch]:
        """The stretches by which an item could be found."""
        text, found = words_of(item.text), set[Stretch]()
        if self._anchor <= len(text) < self.num_words:
            found.add(tuple(text))
        for words in (text, *map(words_of, item.choices)):
            found.update(stretches(words, self.num_words))
        return found

    def _parts(self, stretch: Stretch) -> tuple[Stretch, ...]:
        """What of a stretch must not be common: its halves, or all of a short one."""
        if len(stretch) < self.num_words:
            return (stretch,)
        return stretch[: self._half], stretch[-self._half :]
