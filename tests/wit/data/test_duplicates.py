"""Near-duplicates: those above the threshold, the first of them stays."""

import random
import re

import numpy as np
import pytest

from wit.data.duplicates import NUM_VALUES, Signatures, Signer, near_duplicates

VOCABULARY = [f"word{n}" for n in range(3000)]


def signatures(texts: list[str]) -> Signatures:
    signer = Signer()
    signed = b"".join(map(signer.sign, texts))
    return np.frombuffer(signed, dtype=np.uint16).reshape(-1, NUM_VALUES)


def drops(texts: list[str], threshold: float) -> list[int]:
    return np.flatnonzero(near_duplicates(signatures(texts), threshold)).tolist()


def texts(number: int, *, num_words: int = 60, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(VOCABULARY, k=num_words)) for _ in range(number)]


def changed(text: str, num_words: int, *, seed: int) -> str:
    """With its last words replaced, so that the similarity is known."""
    words = text.split()
    return " ".join(
        words[: len(words) - num_words] + texts(1, num_words=num_words, seed=seed)[0].split()
    )


def jaccard(one: str, other: str) -> float:
    """By hand: shared word 5-grams of all."""
    runs = [
        {tuple(words[i : i + 5]) for i in range(len(words) - 4)}
        for words in (one.split(), other.split())
    ]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_pairs_well_above_the_threshold_go_and_those_well_below_stay(threshold: float) -> None:
    first = texts(300)
    later = [changed(text, n % 30, seed=n) for n, text in enumerate(first, start=1)]
    similar = [jaccard(a, b) for a, b in zip(first, later, strict=True)]
    found = set(drops(first + later, threshold))
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
    assert drops([first, second, first, third], 0.57) == [1, 2]
    assert drops([second, first, third], 0.57) == [1, 2]


def test_case_and_punctuation_do_not_count() -> None:
    [text] = texts(1)
    loud = re.sub(r"(\w+)", r"\1,", text).upper()
    assert drops([text, loud], 1.0) == [1]


def test_short_texts_are_alike_only_if_they_are_the_same() -> None:
    assert drops(["yes", "no", "Yes!", "a b c", "a b d", "?", "!", "", "?"], 0.5) == [2, 8]


def test_many_rows_of_one_kind_are_found_in_seconds() -> None:
    [frame] = texts(1, num_words=30)
    rows = [f"{frame} {text}" for text in texts(1500, num_words=25)]
    assert drops(rows, 0.8) == []
    assert len(drops([f"{frame} {n}" for n in range(1500)], 0.8)) == 1499
