"""Texts of random words, and which of them are dropped as near-duplicates."""

import random

import numpy as np

from wit.data.duplicates import Signatures, WordRuns, near_duplicates

VOCABULARY = [f"word{n}" for n in range(3000)]


def texts(number: int, *, num_words: int = 60, seed: int = 0) -> list[str]:
    """Texts that have nothing in common."""
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


def signatures(*sources: list[str]) -> Signatures:
    """Of all texts of all sources."""
    word_runs = WordRuns()
    for text in (text for of_source in sources for text in of_source):
        word_runs.add(text)
    ends = np.cumsum([len(of_source) for of_source in sources])
    return word_runs.signatures(np.split(np.arange(ends[-1]), ends[:-1]))


def drops(*sources: list[str], threshold: float) -> list[int]:
    """Numbers of the texts that are dropped, counted over all sources."""
    return np.flatnonzero(near_duplicates(signatures(*sources), threshold)).tolist()
