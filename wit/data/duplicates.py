"""Rows that say nearly the same, found by the MinHash of their words.

Broder, "On the resemblance and containment of documents" (1997): the share of equal hash values of
two texts estimates the Jaccard similarity of their word 5-grams, here to about 0.04. Candidates
come from banding: rows whose values are equal in a whole band. datasketch makes the values; its
index would hold kilobytes a row, so bands are compared by sorting, a few bytes a row at a time.
"""

import re
from collections import defaultdict

import numpy as np

WORD = re.compile(r"\w+")
WORDS_TOGETHER = 5
NUM_VALUES = 128  # per row
MOST_MISSED = 0.01  # of pairs that are just as similar as the threshold
SEED = 1

Signatures = np.ndarray[tuple[int, int], np.dtype[np.uint16]]  # [row, value]


class Signer:
    """Makes the signature of a text: ``NUM_VALUES`` numbers of two bytes."""

    def __init__(self) -> None:
        from datasketch import MinHash  # takes a second, which only those who ask should wait for

        self._min_hash = MinHash(NUM_VALUES, seed=SEED)

    def sign(self, text: str) -> bytes:
        """Of its runs of five words, case and punctuation aside; of a shorter text as a whole."""
        words = WORD.findall(text.lower())
        runs = {" ".join(run) for run in zip(*(words[i:] for i in range(WORDS_TOGETHER)))}  # noqa: B905
        self._min_hash.clear()
        self._min_hash.update_batch(run.encode() for run in runs or {" ".join(words) or text})
        # The low half of a value is enough to tell two of them apart (Li and König, 2010).
        return self._min_hash.hashvalues.astype(np.uint16).tobytes()


def near_duplicates(signatures: Signatures, threshold: float) -> np.ndarray:
    """Which rows are as similar as ``threshold`` to an earlier row that is none itself.

    Returns:
        One truth value per row; the same for the same rows in the same order.
    """
    is_duplicate = np.zeros(len(signatures), dtype=bool)
    groups = _groups(signatures, _rows_per_band(threshold))
    kept: dict[int, list[int]] = defaultdict(list)  # group -> its rows that stay
    for row in sorted(groups):
        candidates = sorted({other for group in groups[row] for other in kept[group]})
        similarity = (signatures[candidates] == signatures[row]).mean(axis=1)
        if similarity.size and similarity.max() >= threshold:
            is_duplicate[row] = True
        else:
            for group in groups[row]:
                kept[group].append(row)
    return is_duplicate


def _rows_per_band(threshold: float) -> int:
    """How many values must be equal; the most for which few similar pairs are missed."""

    def missed(size: int) -> float:
        return (1 - threshold**size) ** (NUM_VALUES // size)

    return max((n for n in range(1, NUM_VALUES + 1) if missed(n) <= MOST_MISSED), default=1)


def _groups(signatures: Signatures, band: int) -> dict[int, list[int]]:
    """Rows that share a band with another, each with the numbers of the bands' groups."""
    groups: dict[int, list[int]] = defaultdict(list)
    # Any odd factors: rows that fall together by chance are told apart afterwards.
    factors = np.random.default_rng(SEED).integers(2**63, size=band, dtype=np.uint64) * 2 + 1
    next_group = 0
    for start in range(0, NUM_VALUES - band + 1, band):
        keys = signatures[:, start : start + band].astype(np.uint64) @ factors
        order = np.argsort(keys, kind="stable")
        same = keys[order][1:] == keys[order][:-1]
        numbers = next_group + np.cumsum(np.concatenate([[False], ~same]))
        shared = np.concatenate([[False], same]) | np.concatenate([same, [False]])
        for row, number in zip(order[shared].tolist(), numbers[shared].tolist(), strict=True):
            groups[row].append(number)
        next_group = int(numbers[-1]) + 1
    return groups
