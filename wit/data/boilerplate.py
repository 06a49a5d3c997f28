"""Prompt text that is the same in nearly all rows of a source, found by comparing them.

Many sets carry their frame inside their texts ("Below is an instruction that describes a task ...
### Instruction:"). It gets a role of its own. Three kinds are found:

* how texts begin, followed word by word while nearly all of them go on with the same word. Where
  they part into a few large branches each is followed, but counts only if it goes on for
  ``LEAST_BRANCH`` words: else the few wordings of a small set would be taken for a frame;
* how texts end, in the same way from their end;
* whole lines that stand in nearly all texts which begin alike.

A text that would be boilerplate from end to end stays prompt as a whole: what a row asks is never
nothing, and where all rows ask the same, that is their prompt.
"""

import heapq
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise

NEARLY_ALL = 0.9
LEAST_BRANCH = 6  # words
LEAST_SHARE = 0.1  # of all texts: a smaller branch is not followed
LEAST_TEXTS = 20  # of fewer nothing is said
MAX_TEXTS = 10_000  # that are compared
MAX_CHARACTERS = 20_000_000  # of all that are compared

WORD = re.compile(r"\s*\S+\s*")  # with the white space after it; before it, too, at the start
LINE = re.compile(r"[^\n]+\n*")  # with the line breaks after it

Span = tuple[int, int]  # from a character up to another


@dataclass(frozen=True)
class Boilerplate:
    """What texts have in common; nothing, as it is made without arguments."""

    beginnings: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    lines: dict[str, frozenset[str]] = field(default_factory=dict)  # of texts with a beginning

    def texts(self) -> list[str]:
        """All of it, for people."""
        return [*self.beginnings, *self.endings, *sorted(frozenset().union(*self.lines.values()))]

    def spans(self, text: str) -> list[Span]:
        """Where it stands in a text, in order; nothing if the text is nothing else."""
        if not (self.beginnings or self.endings or self.lines):
            return []
        beginning, ending = self.beginning(text), _longest(self.endings, text.endswith)
        # A space goes with the word after it, as it does in the tokens of most models.
        found = [(0, len(beginning.rstrip(" ")))]
        indent = ending[: len(ending) - len(ending.lstrip())]
        found.append((len(text) - len(ending) + indent.rfind("\n") + 1, len(text)))
        if lines := self.lines.get(beginning):
            found += [m.span() for m in LINE.finditer(text) if m[0].strip() in lines]
        spans = _joined((span for span in found if span[0] < span[1]), text)
        left = [text[a:b] for a, b in pairwise([0, *chain(*spans), len(text)])][::2]
        return spans if "".join(left).strip() else []

    def beginning(self, text: str) -> str:
        """The longest of the beginnings that a text has; empty if it has none."""
        return _longest(self.beginnings, text.startswith)


def find_boilerplate(texts: Sequence[str]) -> Boilerplate:
    """What nearly all texts have in common.

    Args:
        texts: First user turns of the rows of one source; fewer than ``LEAST_TEXTS`` have none.
    """
    if len(texts) < LEAST_TEXTS:
        return Boilerplate()
    least = math.ceil(LEAST_SHARE * len(texts))
    beginnings = _beginnings(texts, least)
    endings = [ending[::-1] for ending in _beginnings([text[::-1] for text in texts], least)]
    found = Boilerplate(tuple(beginnings), tuple(endings))
    by_beginning: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        by_beginning[found.beginning(text)].append(text)
    lines = {
        beginning: _common_lines(alike, known="\n".join([*beginnings, *endings]))
        for beginning, alike in by_beginning.items()
        if len(alike) >= least
    }
    found = Boilerplate(found.beginnings, found.endings, {b: ls for b, ls in lines.items() if ls})
    return found if any(found.spans(text) for text in texts) else Boilerplate()


def _beginnings(texts: Sequence[str], least: int) -> list[str]:
    found = _follow(texts, 0, least)
    return sorted({beginning for beginning in found if beginning.strip()})


def _follow(texts: Sequence[str], end: int, least: int) -> list[str]:
    """Beginnings of texts that are the same up to ``end``; each branch has ``least`` texts."""
    while True:
        by_word = _by_next_word(texts, end)
        word = max(by_word, key=lambda word: len(by_word[word]), default="")
        if not word or len(by_word[word]) < max(least, NEARLY_ALL * len(texts)):
            break
        texts, end = by_word[word], end + len(word)
    found = [texts[0][:end]]
    branches = {word: alike for word, alike in by_word.items() if len(alike) >= least}
    if len(branches) > 1 and sum(map(len, branches.values())) >= NEARLY_ALL * len(texts):
        for word, alike in branches.items():
            grown = _follow(alike, end + len(word), least)
            found += [text for text in grown if len(text[end:].split()) >= LEAST_BRANCH]
    return found


def _by_next_word(texts: Iterable[str], end: int) -> dict[str, list[str]]:
    by_word: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        if match := WORD.match(text, end):
            by_word[match[0]].append(text)
    return by_word


def _common_lines(texts: Sequence[str], known: str) -> frozenset[str]:
    """Lines in nearly all texts, but for those of a text that is known already."""
    counts = Counter(line for text in texts for line in {m[0].strip() for m in LINE.finditer(text)})
    return frozenset(
        line
        for line, count in counts.items()
        if line and line not in known and count >= NEARLY_ALL * len(texts)
    )


def _longest(candidates: Iterable[str], fits: Callable[[str], bool]) -> str:
    return max(filter(fits, candidates), key=len, default="")


def _joined(spans: Iterable[Span], text: str) -> list[Span]:
    """Spans that overlap, or have nothing but white space between them, as one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and not text[joined[-1][1] : start].strip():
            start, before = joined.pop()
            end = max(end, before)
        joined.append((start, end))
    return joined


class TextSample:
    """Texts whose rows have the smallest digests: the same ones in whatever order rows come."""

    def __init__(self) -> None:
        self._texts: dict[bytes, str] = {}
        self._largest: list[tuple[int, bytes]] = []  # a heap, the largest digest on top
        self._num_characters = 0
        self._end: bytes | None = None  # from this digest on, texts have no place

    def add(self, digest: bytes, text: str) -> None:
        """Takes a text, or one of another row in exchange, or neither."""
        if (self._end is not None and digest >= self._end) or digest in self._texts:
            return
        self._texts[digest] = text
        heapq.heappush(self._largest, (-int.from_bytes(digest), digest))
        self._num_characters += len(text)
        while len(self._texts) > MAX_TEXTS or self._num_characters > MAX_CHARACTERS:
            _, self._end = heapq.heappop(self._largest)
            self._num_characters -= len(self._texts.pop(self._end))

    def texts(self) -> list[str]:
        """Those that were kept, by their rows' digests."""
        return [self._texts[digest] for digest in sorted(self._texts)]
