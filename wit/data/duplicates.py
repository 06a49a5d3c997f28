"""Rows that say nearly the same, found by the MinHash of their words.

Broder, "On the resemblance and containment of documents" (1997): the share of equal hash values of
two texts estimates the Jaccard similarity of their word 5-grams, here to about 0.04. Candidates
come from banding: rows whose values are equal in a whole band. datasketch makes the values; its
index would hold kilobytes a row, so bands are compared by sorting, a few bytes a row at a time.

Rows may carry a frame ("Below is an instruction that describes a task ..."), which says nothing and
would make all of them similar to each other. Two rules keep it from that:

* A run of words that is common in a source does not count, as in Broder et al., "Syntactic
  clustering of the Web" (1997), section "Common shingles". Differs: common is a share of the rows,
  so that it means the same in a small and in a large set; and common runs are left out only where
  enough of the row is left, ``ENOUGH`` runs or the share ``ENOUGH_SHARE`` of its own. Any other row
  counts as a whole: what many copies that differ in a word have in common is no frame, it is what
  they say. So they are found however many they are; but a long frame with a few words in it is a
  near-duplicate of the next one too. Rows on either side of that limit are not found alike; nor,
  once they are common, copies that differ in five places or more, for each makes five own runs.
* Of the rows that stay, each is compared with the latest few of a band only. So rarer frames, which
  do count, cannot make the search quadratic either. What is nearly the same shares a dozen bands,
  most of them with no other row, so little is missed by that.
"""

import re
import weakref
from array import array
from collections.abc import Iterator, Sequence
from tempfile import SpooledTemporaryFile
from zlib import crc32

import numpy as np

WORD = re.compile(r"\w+")
WORDS_TOGETHER = 5
COMMON = 0.2  # of the rows of a source: two or three frames may be in use
LEAST_COMMON = 20  # rows: in a small set, what a few have is a near-duplicate rather than a frame
# Words are of five runs and fewer at the ends, so that 16 words in a frame and 20 behind one do:
# a sentence or two, enough to say something else, in however long a frame.
ENOUGH = 20  # runs
# Two rows that have just the rest in common are alike to 0.8 / 1.2 = 0.67: mostly below the
# threshold, with the frame or without.
ENOUGH_SHARE = 0.2  # of a row's runs
NUM_BUCKETS = 2**22  # to count runs of words in: 16 MB, and of 800,000 words a row before they fill
BYTES_IN_MEMORY = 2**26  # of runs of words; more of them go to a temporary file
NUM_VALUES = 128  # per row
MOST_MISSED = 0.01  # of pairs that are just as similar as the threshold
MOST_COMPARED = 8  # rows, for each band of a row
SEED = 1

Signatures = np.ndarray[tuple[int, int], np.dtype[np.uint16]]  # [row, value]
Numbers = np.ndarray[tuple[int], np.dtype[np.uint32]]  # of a row's runs of words, each once


class WordRuns:
    """The runs of five words of every row, case and punctuation aside, as numbers of four bytes."""

    def __init__(self) -> None:
        from datasketch import MinHash  # takes a second, which only those who ask should wait for

        self._factors = _odd_factors(WORDS_TOGETHER)
        self._min_hash = MinHash(NUM_VALUES, seed=SEED, hashfunc=int)
        self._file = SpooledTemporaryFile(BYTES_IN_MEMORY)  # noqa: SIM115  closed by the next line
        weakref.finalize(self, self._file.close)
        self._ends = array("Q", [0])  # of each row in the file, in numbers

    def add(self, text: str) -> None:
        """Takes a row; if it is shorter than a run, as a whole."""
        words = WORD.findall(text.lower()) or [text]
        of_words = np.fromiter(map(crc32, map(str.encode, words)), np.uint64, len(words))
        together = min(WORDS_TOGETHER, len(words))
        runs = np.zeros(len(words) - together + 1, dtype=np.uint64)
        for start, factor in enumerate(self._factors[:together]):
            runs += factor * of_words[start : start + len(runs)]
        # Vector multiply-shift: Thorup, "High speed hashing for integers and strings" (2015).
        numbers = np.unique((runs >> 32).astype(np.uint32))
        self._file.write(numbers.tobytes())
        self._ends.append(self._ends[-1] + len(numbers))

    def signatures(self, sources: Sequence[np.ndarray]) -> Signatures:
        """Of what rows say: ``NUM_VALUES`` numbers of two bytes, without common runs (see above).

        Args:
            sources: The rows of each source that are looked at, counted from 0 as they were added.
                How common a run is, is the share of these rows that have it.
        """
        signatures = np.empty((sum(map(len, sources)), NUM_VALUES), dtype=np.uint16)
        signed = iter(signatures)
        for rows in sources:
            is_common = self._is_common(rows)
            for numbers in self._read(rows):
                own = numbers[~is_common[numbers % NUM_BUCKETS]]
                is_enough = own.size >= min(ENOUGH, ENOUGH_SHARE * numbers.size)
                self._min_hash.clear()
                self._min_hash.update_batch(own if is_enough else numbers)
                # Two bytes tell values apart (Li and König, 2010). Both halves go into them: the
                # low ones of a single run are, all at once, those of 1 in 65,536 others.
                values = self._min_hash.hashvalues
                next(signed)[:] = (values ^ (values >> 16)).astype(np.uint16)
        return signatures

    def _is_common(self, rows: np.ndarray) -> np.ndarray:
        """By bucket; the few runs of each that share it are taken for one."""
        num_rows = np.zeros(NUM_BUCKETS, dtype=np.uint32)
        for numbers in self._read(rows):
            num_rows[numbers % NUM_BUCKETS] += 1  # once, be several of the row's in the bucket
        return num_rows >= max(LEAST_COMMON, COMMON * len(rows))

    def _read(self, rows: np.ndarray) -> Iterator[Numbers]:
        size = np.dtype(np.uint32).itemsize
        for row in map(int, rows):
            start, end = self._ends[row], self._ends[row + 1]
            self._file.seek(start * size)
            yield np.frombuffer(self._file.read((end - start) * size), dtype=np.uint32)


def near_duplicates(signatures: Signatures, threshold: float) -> np.ndarray:
    """Which rows are as similar as ``threshold`` to an earlier row that is none itself.

    Returns:
        One truth value per row; the same for the same rows in the same order.
    """
    is_duplicate = np.zeros(len(signatures), dtype=bool)
    groups = _groups(signatures, _rows_per_band(threshold))
    num_kept = np.zeros(groups.max(initial=-1) + 1, dtype=np.int32)  # rows of each group
    kept = np.full((len(num_kept), MOST_COMPARED), -1, dtype=np.int32)  # the latest of them
    for row in np.flatnonzero((groups >= 0).any(axis=1)).tolist():
        of_row = groups[row][groups[row] >= 0]
        others = np.unique(kept[of_row])
        others = others[others >= 0]
        if others.size and similarities(signatures[row], signatures[others]).max() >= threshold:
            is_duplicate[row] = True
        else:
            kept[of_row, num_kept[of_row] % MOST_COMPARED] = row
            num_kept[of_row] += 1
    return is_duplicate


def similarities(signature: np.ndarray, others: Signatures) -> np.ndarray:
    """Estimated Jaccard similarity of one row to each of others."""
    return (others == signature).mean(axis=1)


def _rows_per_band(threshold: float) -> int:
    """How many values must be equal; the most for which few similar pairs are missed."""

    def missed(size: int) -> float:
        return (1 - threshold**size) ** (NUM_VALUES // size)

    return max((n for n in range(1, NUM_VALUES + 1) if missed(n) <= MOST_MISSED), default=1)


def _groups(signatures: Signatures, band: int) -> np.ndarray:
    """By row and band, the number of the group of rows that are equal in it; -1 if it is alone."""
    groups = np.full((len(signatures), NUM_VALUES // band), -1, dtype=np.int32)
    factors = _odd_factors(band)  # rows that fall together by chance are told apart afterwards
    num_groups = 0
    for of_rows, start in zip(groups.T, range(0, NUM_VALUES, band), strict=False):
        keys = signatures[:, start : start + band].astype(np.uint64) @ factors
        order = np.argsort(keys, kind="stable")
        is_same = np.diff(keys[order]) == 0  # as the one before it
        is_later, is_earlier = np.zeros((2, len(order)), dtype=bool)
        is_later[1:] = is_earlier[:-1] = is_same
        is_first = is_earlier & ~is_later
        is_shared = is_earlier | is_later
        of_rows[order[is_shared]] = num_groups - 1 + np.cumsum(is_first)[is_shared]
        num_groups += int(is_first.sum())
    return groups


def _odd_factors(number: int) -> np.ndarray:
    return np.random.default_rng(SEED).integers(2**63, size=number, dtype=np.uint64) * 2 + 1
