"""Two models that answered the same items: is the one better than the other?

* Items differ far more than models do, so only differences on the same item are looked at.
* The difference is the mean over benchmarks of the mean over items, positive where the first
  model is better; benchmarks of which less is better count the other way round.
* The decision is a sign-flip test: were the models equal, each item's difference would be as
  likely with the other sign. It assumes no shape, and for one benchmark of right and wrong
  answers it is McNemar's exact test. Several items of one model say nothing about other seeds.
* The interval is a Welch interval of paired differences, in which every benchmark has two more
  items: on each of them one of the models is ahead by the largest difference seen. So it has a
  width even where all differences are equal. For right and wrong answers it is the interval of
  Bonett and Price (2012, doi 10.3102/1076998611411915), with t in the place of z.
* "Better" needs both: a difference above 0 at 5 % (two-sided), and an interval above 0.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from pydantic import Field
from scipy import stats

from wit.analysis.digits import number
from wit.settings import Settings

LEVEL = 0.95  # of the interval; the test has the rest
NUM_FLIPS = 20_000  # of all signs; the p-value is exact to about 0.002 near 0.05
MANY = 120  # equal differences, from which on a binomial number is quicker than bytes
# All signs that eight items can have, one row for each.
SIGNS = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)


class ItemScores(NamedTuple):
    """How one model scored on every item of a benchmark."""

    metric: str  # the main one, with its filter
    items_hash: str  # of what was asked and wanted
    scores: tuple[float | None, ...]  # None: the metric exists only for all items together
    higher_is_better: bool
    may_lack: bool = False  # None: nothing is known of this item alone, so it is left out


class PairedComparison(Settings):
    """What is known of the difference of two models, or why nothing is."""

    sentence: str
    is_better: bool = False  # the first model, beyond doubt about the items
    difference: float | None = None  # None: they cannot be compared
    interval: tuple[float, float] | None = None  # 95 %, of the difference
    p_value: float | None = None  # two-sided
    num_items: dict[str, int] = Field(default_factory=dict)  # by benchmark


def compare_paired(
    one: Mapping[str, ItemScores], other: Mapping[str, ItemScores]
) -> PairedComparison:
    """Compares two models on the items of all benchmarks of ``one``.

    Args:
        one: The model in question, by benchmark.
        other: The model that it is compared with; may have more benchmarks.
    """
    reasons = [reason for name in sorted(one) if (reason := _obstacle(name, one[name], other))]
    if reasons or not one:
        why = "; ".join(reasons) or "there is no benchmark to compare them on"
        return PairedComparison(sentence=f"They cannot be compared: {why}.")
    differences = {name: _differences(one[name], other[name]) for name in sorted(one)}
    difference = _mean([float(values.mean()) for values in differences.values()])
    interval = _interval(list(differences.values()))
    p_value = _p_value(list(differences.values()))
    num_items = {name: len(values) for name, values in differences.items()}
    is_better = difference > 0 and interval[0] > 0 and p_value <= 1 - LEVEL
    return PairedComparison(
        sentence=_sentence(difference, interval, num_items, is_better),
        is_better=is_better,
        difference=difference,
        interval=interval,
        p_value=p_value,
        num_items=num_items,
    )


def _obstacle(name: str, mine: ItemScores, other: Mapping[str, ItemScores]) -> str | None:
    """Why the two cannot be paired on a benchmark."""
    theirs = other.get(name)
    if theirs is None:
        return f"only one of them was measured on {name}"
    if mine.items_hash != theirs.items_hash or len(mine.scores) != len(theirs.scores):
        return f"they were asked other items of {name}"
    if (mine.metric, mine.higher_is_better) != (theirs.metric, theirs.higher_is_better):
        return f"on {name} the metric of one is {mine.metric}, of the other {theirs.metric}"
    if mine.may_lack and theirs.may_lack:
        known, _ = _known(mine, theirs)
        return None if known else f"no item of {name} has a score of both"
    both = [*mine.scores, *theirs.scores]
    if not both or any(score is None or not math.isfinite(score) for score in both):
        return f"{mine.metric} of {name} does not exist for single items, so none can be paired"
    return None


def _known(mine: ItemScores, theirs: ItemScores) -> tuple[list[float], list[float]]:
    """Scores of the items that both have."""
    pairs = zip(mine.scores, theirs.scores, strict=True)
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    return [one for one, _ in known], [other for _, other in known]


def _differences(mine: ItemScores, theirs: ItemScores) -> np.ndarray:
    sign = 1 if mine.higher_is_better else -1
    one, other = map(np.array, _known(mine, theirs))
    return sign * (one - other)


def _interval(differences: list[np.ndarray]) -> tuple[float, float]:
    """Benchmarks err apart from each other, so the variances of their means add up."""
    wider = [np.append(d, [np.abs(d).max(), -np.abs(d).max()]) for d in differences]
    center = _mean([float(d.mean()) for d in wider])
    variances = [float(d.var(ddof=1)) / len(d) for d in wider]
    if not any(variances):
        return center, center
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (len(d) - 1) for variance, d in zip(variances, wider, strict=True)
    )
    half_width = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(sum(variances))
    half_width /= len(differences)
    return center - half_width, center + half_width


def _p_value(differences: list[np.ndarray]) -> float:
    """Share of flips of signs by which the difference is at least as large.

    The flips are the same in every call: who asks twice gets one answer.
    """
    sizes = np.abs(np.concatenate([d / len(d) for d in differences]))
    sizes = np.sort(sizes[sizes > 0])
    observed = abs(float(sum(d.mean() for d in differences)))
    least = observed - 1e-12 * float(sizes.sum())  # equal sums differ by rounding
    as_large = int((np.abs(_flipped(sizes)) >= least).sum())
    return (1 + as_large) / (1 + NUM_FLIPS)


def _flipped(sizes: np.ndarray) -> np.ndarray:
    """Sums of the sizes under random signs, one per flip.

    Of many that are equal, how many are positive is one binomial number. Of others, eight signs
    are one random byte, whose 256 sums are known beforehand: that is some forty times quicker than
    to draw every sign, and memory does not grow with the items.
    """
    rng = np.random.default_rng(0)
    sums = np.zeros(NUM_FLIPS)
    values, places, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    for value, count in zip(values[counts >= MANY], counts[counts >= MANY], strict=True):
        sums += value * (2.0 * rng.binomial(count, 0.5, NUM_FLIPS) - count)
    few = sizes[counts[places] < MANY]
    for start in range(0, len(few), 8):
        eight = few[start : start + 8]
        sums += (SIGNS[:, : len(eight)] @ eight)[rng.integers(256, size=NUM_FLIPS, dtype=np.uint8)]
    return sums


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _sentence(
    difference: float, interval: tuple[float, float], num_items: dict[str, int], is_better: bool
) -> str:
    asked = ", ".join(f"{count} items of {name}" for name, count in num_items.items())
    on = f"On the same {asked}"
    if interval == (0, 0):
        return f"{on} both score alike on every one, so no difference can be told."
    value, low, high = (number(v, 3, is_signed=True) for v in (difference, *interval))
    found = f"{on} the difference is {value}, 95 % interval {low} to {high}"
    if is_better:
        return f"{found}: it is better."
    if difference < 0 and interval[1] < 0:
        return f"{found}: it is worse."
    return f"{found}: no difference can be told."
