"""Intervals: how far a score may lie from what other seeds and other items would give.

* Two sources of error, of which the wider interval counts.
* Seeds: a t interval, with one standard deviation for all cells of the stage (pooled within
  cells), because two seeds alone say next to nothing about their own spread.
* Items: the benchmarks' standard errors. All seeds answer the same items, so more seeds do not
  lessen that part, and seeds that happen to agree are no proof.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

from scipy import stats

Basis = Literal["both", "seeds", "items", "none"]
BASIS_IN_WORDS: dict[Basis, str] = {
    "both": "95 % intervals, the wider of two: a t interval over seeds, their spread pooled over "
    "cells, and that of the benchmarks' standard errors",
    "seeds": "95 % t intervals over seeds, their spread pooled over cells: without standard "
    "errors of every benchmark, how much items vary is not in them",
    "items": "95 % intervals from the benchmarks' standard errors, as there is one seed only: "
    "how much training varies is not in them",
    "none": "no intervals: no seeds that differ, and no standard errors",
}
LEVEL = 0.95  # of every interval


class Spread(NamedTuple):
    """How seeds differ."""

    deviation: float  # standard deviation within cells; exactly 0 where all seeds agree
    freedom: int  # its degrees of freedom; 0: one seed


def pooled_spread(cells: Sequence[Sequence[float]]) -> Spread:
    """Spread of the seeds' scores around the mean of their cell."""
    several = [seeds for seeds in cells if len(seeds) > 1]
    freedom = sum(len(seeds) - 1 for seeds in several)
    squares = math.fsum(statistics.variance(seeds) * (len(seeds) - 1) for seeds in several)
    return Spread(math.sqrt(squares / freedom) if freedom else 0.0, freedom)


def half_width(
    seed_stderr: float | None, item_stderr: float | None, freedom: int, num_comparisons: int = 1
) -> float | None:
    """The wider of the intervals over seeds and over items; None: there is neither.

    Several comparisons share the error (Bonferroni): the best of many cells looks better than
    it is.
    """
    probability = 1 - (1 - LEVEL) / 2 / max(1, num_comparisons)
    widths = []
    if seed_stderr is not None:
        widths.append(float(stats.t.ppf(probability, freedom)) * seed_stderr)
    if item_stderr is not None:
        widths.append(float(stats.norm.ppf(probability)) * item_stderr)
    return max(widths, default=None)


def of_difference(one: float | None, other: float | None) -> float | None:
    """Standard error of the difference of two scores that err apart from each other."""
    return None if one is None or other is None else math.hypot(one, other)
