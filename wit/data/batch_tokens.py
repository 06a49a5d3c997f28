"""Token ids and roles of many conversations at once, by arrays where these say the same.

Where tokens spell a text byte for byte, bytes say where its segments end. So the library need not
say which characters each token stands for, and takes three quarters of the time. What is rare needs
a closer look and is left to ``SegmentTokenizer``, whose rules hold for all: tokenizers that are not
of bytes, texts that spell markup, tokens that have to be torn apart.
"""

from collections.abc import Iterator
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np

from wit.data.pieces import Known
from wit.data.rendering import Segment
from wit.data.token_bytes import BytesOfTokens
from wit.data.tokenize import RANK, TARGETS, SegmentTokenizer
from wit.roles import Role
from wit.tokenizers import Tokenizer

Conversation = list[Segment]
RANK_OF_ROLE = np.array([RANK.get(role, 0) for role in Role])
IS_TARGET = np.isin(np.array(Role), TARGETS)
CONTINUES, OF_BYTE = 0b1000_0000, 0b1100_0000  # how bytes of UTF-8 begin that begin no character


class TokenArrays(NamedTuple):
    """Tokens of a conversation, as ``Tokens``."""

    ids: np.ndarray  # int32
    roles: np.ndarray  # int8
    factors: np.ndarray  # float64


class BatchTokenizer:
    """Tokenises rendered conversations, many at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Notes which tokens need a closer look."""
        self._one_by_one = SegmentTokenizer(tokenizer)
        self._bytes = self._one_by_one.encoder.bytes
        self._markup = np.array(sorted(self._one_by_one.markup))

    def look_ahead(self, conversations: list[Conversation]) -> Known:
        """All that takes the tokenizer's time, most of it without holding up other threads."""
        if self._bytes is None:
            return self._one_by_one.look_ahead(conversations)
        pieces = chain.from_iterable(map(_pieces, conversations))
        return self._one_by_one.encoder.ids_of(pieces)

    def tokens(self, conversations: list[Conversation], known: Known) -> "list[TokenArrays | None]":
        """Tokens of each; None where ``tokens_of`` has to look.

        Args:
            conversations: Of a batch.
            known: What ``look_ahead`` said of them.
        """
        self._one_by_one.encoder.known = known if self._bytes is None else {}
        found: list[TokenArrays | None] = [None] * len(conversations)
        if self._bytes is not None:
            spelled = _Spelled(self._bytes)
            numbers: list[int] = []
            for number, segments in enumerate(conversations):
                if spelled.add(segments, known):
                    numbers.append(number)
            for number, tokens in zip(numbers, spelled.tokens(self._markup), strict=True):
                found[number] = tokens
        return found

    def tokens_of(self, segments: Conversation) -> TokenArrays:
        """Tokens of one conversation.

        Raises:
            DataError: As ``SegmentTokenizer.tokens``.
        """
        tokens = self._one_by_one.tokens(segments)
        kinds = (np.int32, np.int8, np.float64)
        return TokenArrays(*map(np.array, tokens, kinds))


class _Spelled:
    """Conversations whose tokens spell them, end to end."""

    def __init__(self, of_tokens: BytesOfTokens) -> None:
        self._bytes = of_tokens
        self._conversations: list[Conversation] = []
        self._texts: list[bytes] = []
        self._ids: list[list[int]] = []

    def add(self, segments: Conversation, known: Known) -> bool:
        """Takes a conversation, if its tokens spell it."""
        pieces = _pieces(segments)
        ids = list(chain.from_iterable(map(known.__getitem__, pieces)))
        text = "".join(pieces).encode()
        if self._bytes.of(ids) != text:
            return False
        self._conversations.append(segments)
        self._texts.append(text)
        self._ids.append(ids)
        return True

    def tokens(self, markup: np.ndarray) -> Iterator[TokenArrays | None]:
        """Tokens of each that was taken; None if it needs a closer look."""
        if not self._texts:
            return
        ids = np.fromiter(chain.from_iterable(self._ids), np.int32)
        token_ends = _sums(self._bytes.lengths(ids))
        segments = list(chain.from_iterable(self._conversations))
        borders = _sums([len(segment.text.encode()) for segment in segments])
        roles = np.array([segment.role for segment in segments], dtype=np.int8)
        is_content = np.array([segment.is_content for segment in segments])
        at, is_odd = self._boundaries(token_ends, borders, roles)
        places = np.flatnonzero(np.isin(ids, markup))
        first = np.searchsorted(borders, token_ends[places], "right") - 1
        last = np.searchsorted(borders, token_ends[places + 1] - 1, "right") - 1
        is_odd[first[is_content[first] | (first != last)]] = True
        lengths = np.diff(at)
        of_tokens = np.repeat(roles, lengths)
        weights = np.array([segment.weight for segment in segments], dtype=np.float64)
        factors = np.repeat(weights, lengths)
        ends = _sums([len(segments) for segments in self._conversations])
        num_odd = _sums(is_odd)
        for (start, end), (a, b) in zip(pairwise(ends), pairwise(at[ends]), strict=True):
            if num_odd[start] < num_odd[end]:
                yield None
            else:
                yield TokenArrays(ids[a:b], of_tokens[a:b], factors[a:b])

    def _boundaries(
        self, token_ends: np.ndarray, borders: np.ndarray, roles: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The token at which each segment begins; and which segments need a closer look."""
        at = np.searchsorted(token_ends, borders)
        is_odd = np.zeros(len(roles), dtype=bool)
        if (inside := np.flatnonzero(token_ends[at] != borders)).size:
            left, right = roles[inside - 1], roles[inside]
            is_odd[inside] = (left != right) & (IS_TARGET[left] | IS_TARGET[right])
            at[inside] -= RANK_OF_ROLE[left] < RANK_OF_ROLE[right]
            text = np.frombuffer(b"".join([*self._texts, b" "]), dtype=np.uint8)
            is_odd[inside] |= text[token_ends[at[inside]]] & OF_BYTE == CONTINUES
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


def _sums(numbers: "np.ndarray | list[int]") -> np.ndarray:
    """Of the first none, one, two and so on of them."""
    return np.concatenate([[0], np.cumsum(numbers)])
