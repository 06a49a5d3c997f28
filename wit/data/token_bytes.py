"""The bytes that each token of a byte-level tokenizer stands for."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from wit.tokenizers import Tokenizer


class BytesOfTokens(dict[int, bytes]):
    """The bytes of each token that a byte-level decoder puts together; found when asked for."""

    def __init__(self, backend: Tokenizer) -> None:
        """Knows no token yet.

        Args:
            backend: A tokenizer of ``tokenizers``, whose decoder is of bytes.
        """
        super().__init__()
        self._backend = backend
        self._byte_of = {character: byte for byte, character in _BYTE_LEVEL.items()}

    def of(self, ids: Iterable[int]) -> bytes:
        """Of several tokens, together."""
        return b"".join(map(self.__getitem__, ids))

    def lengths(self, ids: np.ndarray) -> np.ndarray:
        """Number of bytes of each token."""
        for token in set(ids[self._lengths[ids] < 0].tolist()):
            self._lengths[token] = len(self[token])
        return self._lengths[ids]

    @cached_property
    def _lengths(self) -> np.ndarray:
        """By token; -1: not asked for yet."""
        return np.full(max(self._backend.get_vocab().values()) + 1, -1, dtype=np.int32)

    def __missing__(self, token: int) -> bytes:
        written = self._backend.id_to_token(token)
        if all(character in self._byte_of for character in written):
            found = bytes(map(self._byte_of.__getitem__, written))
        else:  # an added token, which stands for itself
            found = written.encode()
        self[token] = found
        return found


def _byte_level() -> dict[int, str]:
    """How byte-level vocabularies write each byte: visible ones as themselves, others from 256."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = (byte for byte in range(256) if byte not in visible)
    return {
        **{byte: chr(byte) for byte in visible},
        **{byte: chr(256 + place) for place, byte in enumerate(hidden)},
    }


_BYTE_LEVEL = _byte_level()
