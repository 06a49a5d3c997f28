"""A text encoded in pieces: which tokens it has, and which characters each stands for."""

import copy
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from tokenizers import AddedToken

from wit.data.token_bytes import BytesOfTokens
from wit.tokenizers import Tokenizer

# The class of tokenizers, whose methods have no annotations.
Backend = Any
Known = dict[str, Any]  # encodings of pieces, by text


class _Piece(NamedTuple):
    """What a tokenizer made of one piece."""

    encoding: Any
    num_skipped: int  # tokens and characters in front that are not of the text
    num_before: int  # tokens of the pieces before this one
    start: int  # of the piece in the text

    def characters(self, token: int) -> tuple[int, int]:
        start, end = self.encoding.token_to_chars(token - self.num_before + self.num_skipped)
        shift = self.start - (self.num_skipped > 0)
        return start + shift, end + shift


class Encoded:
    """Ids of a text, and the place of each token in it.

    Looks places up one by one: a list of all of them would take as long as the encoding.
    """

    def __init__(self, pieces: list[_Piece]) -> None:
        self.ids: list[int] = []
        for piece in pieces:
            self.ids += piece.encoding.ids[piece.num_skipped :]
        self._pieces = pieces
        self._starts = [piece.start for piece in pieces]
        self._firsts = [piece.num_before for piece in pieces]

    def token_at(self, position: int) -> int:
        """The first token that stands for a character, or for a later one if none does."""
        piece = self._pieces[bisect_right(self._starts, position) - 1]
        local = position - piece.start + (piece.num_skipped > 0)
        token = piece.encoding.char_to_token(local)
        if token is None:  # past the end, or white space that the tokenizer leaves out
            token = bisect_left([start for start, _ in piece.encoding.offsets], local)
        return token - piece.num_skipped + piece.num_before

    def characters(self, token: int) -> tuple[int, int]:
        """Start and end of what a token stands for; two tokens can share a character."""
        return self._pieces[bisect_right(self._firsts, token) - 1].characters(token)


class Encoder:
    """Encodes texts in pieces, with or without knowing special tokens.

    Attributes:
        loses_space: Whether decoding may add or strip a space in front of a text, as the first
            Llama's tokenizer does.
        known: Encodings of pieces that are at hand, so that ``encode`` need not make them: those
            of ``look_ahead``, for as long as they are of use.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Notes whether the tokenizer adds a space in front of a text."""
        # Bare: many a post-processor takes white space out of the offsets that roles rest on.
        self._bare: Backend = copy.deepcopy(tokenizer.backend_tokenizer)
        self._bare.post_processor = None
        self._bare.no_truncation()
        self._bare.no_padding()
        self._adds_space = self._ids("a\nb") != self._ids("a\n") + self._ids("b")
        self.loses_space = self._adds_space or self.decode(self._ids(" a")) != " a"
        self.known: Known = {}
        self._without = lru_cache(maxsize=None)(self._make_without)
        decoder = json.loads(self._bare.to_str()).get("decoder") or {}
        self._bytes = BytesOfTokens(self._bare) if decoder.get("type") == "ByteLevel" else None

    @property
    def bytes(self) -> BytesOfTokens | None:
        """What tokens spell, if that says where in a text they stand; else offsets do."""
        return None if self._adds_space else self._bytes

    def ids_of(self, pieces: Iterable[str]) -> dict[str, list[int]]:
        """Encodes pieces all in one call, without offsets: two thirds of the time of one by one."""
        wanted = list(dict.fromkeys(pieces))
        encodings = self._bare.encode_batch_fast(wanted, add_special_tokens=False)
        return {piece: encoding.ids for piece, encoding in zip(wanted, encodings, strict=True)}

    def look_ahead(self, texts: Iterable[tuple[str, Iterable[int]]]) -> Known:
        """Encodes pieces of texts that ``encode`` will be asked for, with the cuts of each.

        In one call they take three quarters of the time.
        """
        wanted = {
            self._with_break(text[start:end], start): None
            for text, cuts in texts
            for start, end in pairwise(_ends(text, cuts))
        }
        encodings = self._bare.encode_batch(list(wanted), add_special_tokens=False)
        return dict(zip(wanted, encodings, strict=True))

    def encode(
        self, text: str, cuts: Iterable[int], quoted: Iterable[int], unknown: frozenset[str]
    ) -> Encoded:
        """Encodes every piece by itself.

        Args:
            text: Not empty.
            cuts: Where pieces begin.
            quoted: Those of them whose piece is to be encoded as plain text.
            unknown: Tokens that are plain text in there, whatever the tokenizer makes of them.
        """
        plain = self._without(unknown) if quoted else self._bare
        pieces: list[_Piece] = []
        num_before = 0
        for start, end in pairwise(_ends(text, cuts)):
            backend = plain if start in quoted else self._bare
            piece = self._piece(backend, text[start:end], num_before, start)
            num_before += len(piece.encoding) - piece.num_skipped
            pieces.append(piece)
        return Encoded(pieces)

    def decode(self, ids: list[int]) -> str:
        """The text of tokens, special ones included."""
        return self._bare.decode(ids, skip_special_tokens=False)

    def spells(self, ids: list[int], text: str) -> bool:
        """Whether tokens are for certain decoded to a text; if not, ``decode`` says.

        A decoder of bytes puts those of the tokens together, which takes far less time here than
        to ask it for each short stretch of tokens.
        """
        return self._bytes is not None and self._bytes.of(ids) == text.encode()

    def _ids(self, text: str) -> list[int]:
        return self._bare.encode(text, add_special_tokens=False).ids

    def _piece(self, backend: Backend, text: str, num_before: int, start: int) -> _Piece:
        if start and self._adds_space:
            # The space is added in front of a line break, which is taken off again.
            encoding = self._encoding(backend, self._with_break(text, start))
            first = encoding.char_to_token(1)
            # Else the line break became one token with the text.
            if first is not None and encoding.token_to_chars(first)[0] == 1:
                return _Piece(encoding, first, num_before, start)
        return _Piece(self._encoding(backend, text), 0, num_before, start)

    def _with_break(self, text: str, start: int) -> str:
        return "\n" + text if start and self._adds_space else text

    def _encoding(self, backend: Backend, text: str) -> Any:
        known = self.known.get(text) if backend is self._bare else None
        return backend.encode(text, add_special_tokens=False) if known is None else known

    def _make_without(self, unknown: frozenset[str]) -> Backend:
        """A tokenizer that encodes special tokens as plain text."""
        backend = copy.deepcopy(self._bare)
        backend.add_special_tokens([AddedToken(token, special=True) for token in sorted(unknown)])
        backend.encode_special_tokens = True
        return backend


def _ends(text: str, cuts: Iterable[int]) -> list[int]:
    return sorted({0, len(text), *cuts})
