"""Near-duplicates: those above the threshold, the first of them stays; few rows are compared."""

import gc
import random
import re

import numpy as np
import pytest
from random_texts import changed, drops, jaccard, signatures, texts

from wit.data import duplicates
from wit.data.duplicates import Signatures, near_duplicates


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_pairs_well_above_the_threshold_go_and_those_well_below_stay(threshold: float) -> None:
    first = texts(300)
    later = [changed(text, n % 30, seed=n) for n, text in enumerate(first, start=1)]
    similar = [jaccard(a, b) for a, b in zip(first, later, strict=True)]
    found = set(drops(first + later, threshold=threshold))
    assert not any(row < len(first) for row in found)
    for number, similarity in enumerate(similar):
        if similarity > threshold + 0.1 or similarity == 1:
            assert number + len(first) in found
        if similarity < threshold - 0.15:
            assert number + len(first) not in found
    assert sum(similarity > threshold + 0.1 or similarity == 1 for similarity in similar) > 5


def test_the_share_of_equal_values_estimates_the_similarity() -> None:
    first = texts(200)
    later = [changed(text, n % 40, seed=n) for n, text in enumerate(first)]
    estimated = (signatures(first) == signatures(later)).mean(axis=1)
    errors = estimated - [jaccard(a, b) for a, b in zip(first, later, strict=True)]
    assert abs(errors.mean()) < 0.01
    assert np.abs(errors).max() < 0.15


def test_the_first_stays_and_a_dropped_row_drops_no_other() -> None:
    """A chain: each is like the one before it, the third is not like the first."""
    [first] = texts(1, num_words=100)
    second = changed(first, 18, seed=1)
    third = " ".join(texts(1, num_words=18, seed=2) + second.split()[18:])
    assert jaccard(first, second) > 0.65
    assert jaccard(second, third) > 0.65
    assert jaccard(first, third) < 0.5
    assert drops([first, second, first, third], threshold=0.57) == [1, 2]
    assert drops([second, first, third], threshold=0.57) == [1, 2]


def test_case_and_punctuation_do_not_count() -> None:
    [text] = texts(1)
    loud = re.sub(r"(\w+)", r"\1,", text).upper()
    assert drops([text, loud], threshold=1.0) == [1]


def test_signatures_are_the_same_in_every_run() -> None:
    """Of Python or of a library: if these change, so does what is dropped of prepared data."""
    [signature] = signatures(["The quick brown fox jumps over the lazy dog."])
    assert signature[:4].tolist() == [53807, 51196, 47292, 138]


def test_short_texts_are_alike_only_if_they_are_the_same() -> None:
    rows = ["yes", "no", "Yes!", "a b c", "a b d", "?", "!", "", "?"]
    assert drops(rows, threshold=0.5) == [2, 8]
    assert drops([f"say {n}" for n in range(3000)], threshold=0.5) == []


@pytest.mark.parametrize("rows", [[], ["one row"]])
def test_of_one_row_or_none_nothing_is_dropped(rows: list[str]) -> None:
    assert drops(rows, threshold=0.8) == []


# --- the work for a row is bounded, whatever rows have in common -------------------------------


def framed(number: int, num_frames: int, *, num_words: int = 35) -> list[str]:
    """Different texts, each in one of some frames of 70 words; in none if there are none."""
    frames = texts(num_frames, num_words=70, seed=1) or [""]
    rows = texts(number, num_words=num_words, seed=2)
    return [f"{random.Random(n).choice(frames)} {row}" for n, row in enumerate(rows)]


def comparisons(rows: list[str], threshold: float, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """With how many others each row was compared that was compared at all."""
    counted = []
    similarities = duplicates.similarities

    def count(signature: np.ndarray, others: Signatures) -> np.ndarray:
        counted.append(len(others))
        return similarities(signature, others)

    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "similarities", count)
        assert not near_duplicates(signatures(rows), threshold).any()
    return counted


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.95])
@pytest.mark.parametrize("num_frames", [0, 1, 2, 6, 40])
def test_a_row_is_compared_with_a_bounded_number_of_others(
    num_frames: int, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where frames are rarer than what counts as one: then they do make candidates."""
    num_rows = 2000
    counted = comparisons(framed(num_rows, num_frames), threshold, monkeypatch)
    assert max(counted, default=0) <= 256, "eight in each of 32 bands"
    if num_frames <= 2:
        assert sum(counted) <= num_rows / 100
    elif num_frames == 6 and threshold < 0.9:
        assert sum(counted) > num_rows, "or the bound was never needed"


def test_twice_the_rows_are_twice_the_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (sum(comparisons(framed(number, 6), 0.8, monkeypatch)) for number in (1000, 2000))
    assert few > 1000
    assert many < 2.5 * few


@pytest.mark.parametrize("num_frames", [6, 40])
def test_the_bound_loses_few_of_the_near_duplicates(num_frames: int) -> None:
    """The worst it has to do with: each is far from its first, among hundreds with its frame."""
    rows = framed(1500, num_frames)
    rng = random.Random(0)
    copies = [changed(row, rng.randint(0, 4), seed=n) for n, row in enumerate(rows[:300])]
    found = drops(rows + copies, threshold=0.8)
    assert not any(row < len(rows) for row in found)
    assert len(found) >= 0.99 * len(copies)


@pytest.mark.parametrize("num_others", [0, 30, 300])
@pytest.mark.parametrize("number", [10, 19, 20, 40, 200])
@pytest.mark.parametrize("num_words", [30, 60, 1000])
def test_of_copies_that_differ_in_a_word_one_stays_however_many(
    num_words: int, number: int, num_others: int
) -> None:
    """Also where they are so many that what they have in common is common in the source."""
    [text] = texts(1, num_words=num_words)
    copies = [f"{text} {n}" for n in range(number)]
    found = drops(texts(num_others, seed=1) + copies, threshold=0.8)
    assert found == list(range(num_others + 1, num_others + number))


@pytest.mark.parametrize("number", [10, 20, 200])
def test_of_copies_in_a_frame_that_all_rows_have_one_stays(number: int) -> None:
    [text] = texts(1, seed=3)
    copies = [f"{text} {n}" for n in range(number)]
    [frame] = texts(1, num_words=70, seed=1)
    rows = [f"{frame} {row}" for row in texts(300, seed=2) + copies]
    assert drops(rows, threshold=0.8) == list(range(301, 300 + number))


def test_rows_that_do_not_fit_in_memory_have_the_same_signatures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = framed(200, 1)
    in_memory = signatures(rows)
    monkeypatch.setattr(duplicates, "BYTES_IN_MEMORY", 1000)
    assert (signatures(rows) == in_memory).all()
    gc.collect()  # a file that were left open would be an error here
