"""Token ids and roles of many conversations at once, by arrays where these say the same.

Where tokens spell a text byte for byte, bytes say where its segments end. So the library need not
say which characters each token stands for, and takes three quarters of the time. What is rare needs
a closer look and is left to ``SegmentTokenizer``, whose rules hold for all: tokenizers that are not
of bytes, texts that spell markup, tokens that have to be torn apart.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, compress, pairwise
from typing import NamedTuple

import numpy as np

from wit.data.pieces import Known
from wit.data.rendering import Segment
from wit.data.tokenize import RANK, TARGETS, SegmentTokenizer
from wit.roles import Role
from wit.tokenizers import Tokenizer

Conversation = list[Segment]
RANK_OF_ROLE = np.array([RANK.get(role, 0) for role in Role])
IS_TARGET = np.isin(np.array(Role), TARGETS)
CONTINUES, FIRST_BITS = 0b1000_0000, 0b1100_0000  # of bytes of UTF-8 that begin no character


class Ahead(NamedTuple):
    """What the tokenizer made of conversations."""

    known: (
        Known  # encodings of pieces, if the tokenizer is not of bytes; else of each conversation:
    )
    texts: Sequence[str] = ()
    ids: Sequence[list[int]] = ()


class _Read(NamedTuple):
    """A conversation, its text and what the tokenizer made of that."""

    segments: Conversation
    text: bytes
    ids: list[int]


class TokenArrays(NamedTuple):
    """Tokens of a conversation, as ``Tokens``."""

    ids: np.ndarray  # int32
    roles: np.ndarray  # int8
    factors: np.ndarray | None  # float64; None: 1 for every token
    response: int  # the first token of a response; their number if there is none


class BatchTokenizer:
    """Tokenises rendered conversations, many at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Notes which tokens need a closer look."""
        self._one_by_one = SegmentTokenizer(tokenizer)
        self._bytes = self._one_by_one.encoder.bytes
        self._markup = np.array(sorted(self._one_by_one.markup))

    def look_ahead(self, conversations: Sequence[Conversation]) -> Ahead:
        """All that takes the tokenizer's time, most of it without holding up other threads."""
        if self._bytes is None:
            return Ahead(self._one_by_one.look_ahead(conversations))
        pieces = list(map(_pieces, conversations))
        known = self._one_by_one.encoder.ids_of(chain.from_iterable(pieces))
        ids = [list(chain.from_iterable(map(known.__getitem__, of))) for of in pieces]
        return Ahead({}, list(map("".join, pieces)), ids)

    def tokens(
        self, conversations: Sequence[Conversation], ahead: Ahead
    ) -> Iterator[TokenArrays | None]:
        """Tokens of each; None where ``tokens_of`` has to look.

        Args:
            conversations: Of a batch.
            ahead: What ``look_ahead`` said of them.
        """
        self._one_by_one.encoder.known = ahead.known
        if self._bytes is None:
            return iter([None] * len(conversations))
        read = [
            _Read(segments, text.encode(), ids)
            for segments, text, ids in zip(conversations, ahead.texts, ahead.ids, strict=True)
        ]
        is_spelled = [self._bytes.of(each.ids) == each.text for each in read]
        found = self._of_spelled(list(compress(read, is_spelled)))
        return (next(found) if is_so else None for is_so in is_spelled)

    def tokens_of(self, segments: Conversation) -> TokenArrays:
        """Tokens of one conversation.

        Raises:
            DataError: As ``SegmentTokenizer.tokens``.
        """
        ids, roles, factors = self._one_by_one.tokens(segments)
        return TokenArrays(
            np.array(ids, dtype=np.int32),
            np.array(roles, dtype=np.int8),
            np.array(factors) if any(factor != 1 for factor in factors) else None,
            roles.index(Role.RESPONSE) if Role.RESPONSE in roles else len(roles),
        )

    def _of_spelled(self, read: list[_Read]) -> Iterator[TokenArrays | None]:
        """Tokens of conversations that their tokens spell."""
        assert self._bytes is not None
        ids = np.fromiter(chain.from_iterable(each.ids for each in read), np.int32)
        token_ends = _sums(self._bytes.lengths(ids))
        segments = list(chain.from_iterable(each.segments for each in read))
        borders = _sums([len(segment.text.encode()) for segment in segments])
        roles = np.array([segment.role for segment in segments], dtype=np.int8)
        is_content = np.array([segment.is_content for segment in segments], dtype=bool)
        at, is_odd = _boundaries(token_ends, borders, roles, read)
        marks = np.flatnonzero(np.isin(ids, self._markup))
        first = np.searchsorted(borders, token_ends[marks], "right") - 1
        last = np.searchsorted(borders, token_ends[marks + 1] - 1, "right") - 1
        is_odd[first[is_content[first] | (first != last)]] = True
        lengths = np.diff(at)
        weights = np.array([segment.weight for segment in segments])
        factors = np.repeat(weights, lengths) if (weights != 1).any() else None
        of_tokens = np.repeat(roles, lengths)
        ends = _sums([len(segments) for segments, _, _ in read])
        responses = np.flatnonzero(roles == Role.RESPONSE)
        response = np.append(responses, len(roles))[np.searchsorted(responses, ends[:-1])]
        response = at[np.minimum(response, ends[1:])]
        is_odd = np.diff(_sums(is_odd)[ends]) > 0
        for a, b, start, is_left in zip(
            at[ends[:-1]].tolist(),
            at[ends[1:]].tolist(),
            response.tolist(),
            is_odd.tolist(),
            strict=True,
        ):
            of_row = None if factors is None else factors[a:b]
            yield None if is_left else TokenArrays(ids[a:b], of_tokens[a:b], of_row, start - a)


def _boundaries(
    token_ends: np.ndarray, borders: np.ndarray, roles: np.ndarray, read: list[_Read]
) -> tuple[np.ndarray, np.ndarray]:
    """The token at which each segment begins; and which segments need a closer look."""
    at = np.searchsorted(token_ends, borders)
    is_odd = np.zeros(len(roles), dtype=bool)
    if (inside := np.flatnonzero(token_ends[at] != borders)).size:
        left, right = roles[inside - 1], roles[inside]
        is_odd[inside] = (left != right) & (IS_TARGET[left] | IS_TARGET[right])
        at[inside] -= RANK_OF_ROLE[left] < RANK_OF_ROLE[right]
        text = np.frombuffer(b"".join([*(each.text for each in read), b" "]), dtype=np.uint8)
        is_odd[inside] |= text[token_ends[at[inside]]] & FIRST_BITS == CONTINUES
        at = np.maximum.accumulate(at)  # a token over several borders can take one before along
    return at, is_odd


def _pieces(segments: Conversation) -> list[str]:
    """The text in pieces that are encoded apart: each begins with a response, but the first."""
    texts = [segment.text for segment in segments]
    cuts = [
        index
        for index, (before, segment) in enumerate(pairwise(segments), start=1)
        if segment.role is Role.RESPONSE is not before.role
    ]
    return ["".join(texts[start:end]) for start, end in pairwise([0, *cuts, len(texts)])]


def _sums(numbers: np.ndarray | list[int]) -> np.ndarray:
    """Of the first none, one, two and so on of them."""
    return np.concatenate([[0], np.cumsum(numbers, dtype=np.int64)])
