"""Bootstrap intervals: what other draws of the same kind of things would have given.

* What is drawn again is the unit that errs on its own: a ray of cells, or a study. Cells of one
  ray are one objective; drawn one by one they would pretend to be five.
* A draw is a row of counts, one per unit, so that a thousand draws are a few products of
  matrices.
* Intervals are *expanded percentiles* (Hesterberg 2015, "What teachers should know about the
  bootstrap", section 5.3): percentiles of the draws, a little further out, because few units
  look more alike than they are. Kendall's tau has plain ones: that drawn cells are tied with
  themselves spreads its draws enough. On simulated grids (21 rays, known ranks, known noise) the
  intervals of all three correlations cover 95 +- 3 %; those of a mean of 15 lopsided studies 90.
  What they cover is the correlation of scores as measured, with their noise: see ``relation``.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import special

from wit.analysis.intervals import LEVEL, t_quantile
from wit.analysis.scores import Result

NUM_DRAWS = 2000
SEED = 0  # the same table gives the same intervals
MIN_UNITS = 6  # of three, four and five, intervals of a mean cover 74, 89 and 92 %
ROUNDING = 1e-9  # a sum of squares below it is none: values are ranks, signs, or of range 1
Array = np.ndarray


class Estimate(Result):
    """A figure with its interval."""

    value: float
    low: float | None  # of the 95 % interval; None: too few units
    high: float | None
    num_units: int  # that were drawn again: rays, or studies


@cache
def draws(num_units: int, num_draws: int = NUM_DRAWS) -> Array:
    """Counts of every unit, one row per draw; always the same, so nobody may write to them."""
    generator = np.random.default_rng(SEED)
    counts = generator.multinomial(num_units, np.full(num_units, 1 / num_units), num_draws)
    counts.setflags(write=False)
    return counts


def interval(
    found: Array, num_units: int, *, is_expanded: bool = True
) -> tuple[float, float] | None:
    """The percentile interval of the drawn figures; None for too few units.

    Draws in which the figure does not exist (a correlation of one value) are left out. Where all
    draws agree, as those of a perfect ranking do, they tell nothing of how it may err.
    """
    finite = found[np.isfinite(found)]
    if num_units < MIN_UNITS or len(finite) < len(found) / 2 or np.ptp(finite) < ROUNDING:
        return None
    tail = (1 - LEVEL) / 2
    if is_expanded:
        wider = np.sqrt(num_units / (num_units - 1))
        tail = float(special.ndtr(wider * t_quantile(tail, num_units - 1)))
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def interval_of(correlation: str, found: Array, num_units: int) -> tuple[float, float] | None:
    """The interval of the drawn correlations of that name."""
    return interval(found, num_units, is_expanded=correlation != "kendall")


def estimate(value: float, ends: tuple[float, float] | None, num_units: int) -> Estimate:
    """A figure and its interval, if it has one."""
    low, high = ends or (None, None)
    return Estimate(value=value, low=low, high=high, num_units=num_units)


def mean_estimate(values: Sequence[float]) -> Estimate | None:
    """The mean over units, each drawn again; None of nothing."""
    if not values:
        return None
    counts = draws(len(values))
    found = counts @ np.asarray(values, dtype=float) / len(values)
    return estimate(float(np.mean(values)), interval(found, len(values)), len(values))


def spearman(weights: Array, one: Array, other: Array) -> Array:
    """Rank correlation for every row of weights.

    Args:
        weights: How often each cell counts, one row per draw.
        one: A value per cell.
        other: Another one.

    Returns:
        One figure per row; NaN where a side has one value only.
    """
    return _correlation(weights, _ranks(weights, one), _ranks(weights, other))


def pearson(weights: Array, one: Array, other: Array) -> Array:
    """Correlation of the values themselves; as ``spearman``."""
    scaled = (np.broadcast_to(side / (np.ptp(side) or 1.0), weights.shape) for side in (one, other))
    return _correlation(weights, *scaled)


def kendall(weights: Array, one: Array, other: Array) -> Array:
    """Tau-b: pairs in the same order less pairs in the other, of those not tied; as ``spearman``.

    A cell that is drawn twice makes no pair with itself.
    """
    sides = [np.sign(side[:, None] - side[None, :]) for side in (one, other)]

    def over_pairs(signs: Array) -> Array:
        return ((weights @ signs) * weights).sum(axis=1)

    squares = [over_pairs(side**2) for side in sides]
    return _ratio(over_pairs(sides[0] * sides[1]), *squares)


CORRELATIONS = {"spearman": spearman, "kendall": kendall, "pearson": pearson}


def _ranks(weights: Array, values: Array) -> Array:
    """Mid-ranks of the values in every draw: cells below, and half of those that are equal."""
    # By counts that are whole numbers, so their sums are exact in whatever order.
    _, place = np.unique(values, return_inverse=True)
    tied = np.zeros((len(weights), place.max(initial=-1) + 1))
    np.add.at(tied.T, place, weights.T)
    return (np.cumsum(tied, axis=1) - 0.5 * tied)[:, place]


def _correlation(weights: Array, one: Array, other: Array) -> Array:
    total = weights.sum(axis=1, keepdims=True)
    one, other = (
        side - (weights * side).sum(axis=1, keepdims=True) / total for side in (one, other)
    )
    squares = ((weights * side**2).sum(axis=1) for side in (one, other))
    return _ratio((weights * one * other).sum(axis=1), *squares)


def _ratio(product: Array, square: Array, other: Array) -> Array:
    """Product over the root of both squares; NaN where a side does not vary but for rounding."""
    exists = np.minimum(square, other) > ROUNDING
    roots = np.sqrt(square * other, where=exists, out=np.ones(len(product)))
    return np.divide(product, roots, where=exists, out=np.full(len(product), np.nan))
