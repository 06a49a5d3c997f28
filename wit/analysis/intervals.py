"""Intervals: how far a score may lie from what other runs and other items would give.

* Two sources of error, of which the wider interval counts.
* Runs: a t interval, with one standard deviation for all cells of the stage (pooled within cells,
  or within rays where there is one seed), because two runs alone say next to nothing about their
  own spread. What a seed does to all models of the stage alike is not in it: see ``blocks``.
* Items: the benchmarks' standard errors. All runs answer the same items, so more runs do not
  lessen that part, and runs that happen to agree are no proof.
"""

import math
from functools import cache
from typing import Literal, NamedTuple

from scipy import special

Basis = Literal["both", "seeds", "items", "none"]
Replicates = Literal["seeds", "rays"]  # what is run more than once: a cell, or only an objective
LEVEL = 0.95  # of every interval


class Spread(NamedTuple):
    """How runs of one objective differ."""

    deviation: float  # standard deviation within; exactly 0 where all agree
    freedom: int  # its degrees of freedom; 0: nothing is known of it


def basis_in_words(basis: Basis, replicates: Replicates) -> str:
    """What the intervals rest on, and what is not in them."""
    over = (
        "over seeds, their spread pooled over objectives (what a seed does to all cells alike is "
        "in no difference, and not in them)"
        if replicates == "seeds"
        else "over cells of one objective, their spread pooled over objectives; there is one "
        "seed only, and how much seeds vary is not in them"
    )
    items = "that of the benchmarks' standard errors"
    return {
        "both": f"95 % intervals, the wider of two: a t interval {over}; and {items}",
        "seeds": f"95 % t intervals {over}; without standard errors of every benchmark, how much "
        "items vary is not in them",
        "items": f"95 % intervals: {items}; too little was run twice to tell how much training "
        "varies, which is not in them",
        "none": "no intervals: too few runs that could differ by noise alone, or all agree, and no "
        "standard errors",
    }[basis]


def item_stderr(score: float, stderr: float, num_items: float) -> float:
    """Standard error of a benchmark, which is not 0 where all items score alike.

    Then the usual formula says 0, as if no other item could have scored otherwise. Wilson's
    interval reaches z² / (n + z²) from the end of the scale.

    Args:
        score: A share; of anything else, no scale is known that has an end.
        stderr: As measured; NaN: not known.
        num_items: n; NaN: not known, and then an error of 0 says nothing.

    Returns:
        NaN where it is not known.
    """
    if stderr != 0:
        return stderr
    z = t_quantile((1 + LEVEL) / 2, math.inf)
    return z / (num_items + z**2) if 0 <= score <= 1 else math.nan


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
        widths.append(t_quantile(probability, freedom) * seed_stderr)
    if item_stderr is not None:
        widths.append(t_quantile(probability, math.inf) * item_stderr)
    return max(widths, default=None)


@cache
def t_quantile(probability: float, freedom: float) -> float:
    """The value below which a t value lies with that probability; scipy.stats takes 1 s to load."""
    normal = math.isinf(freedom)
    return float(special.ndtri(probability) if normal else special.stdtrit(freedom, probability))


def of_difference(one: float | None, other: float | None) -> float | None:
    """Standard error of the difference of two scores that err apart from each other."""
    return None if one is None or other is None else math.hypot(one, other)
