"""Which candidate is tried next, given the scores of those that were."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from wit.search.process import Array, Posterior, posterior

Scored = Sequence[tuple[int, float]]  # place of the candidate, and score, of every run that has one
SPREAD = 6  # rays that are tried for their distance from each other, before the curve has a say
FLOOR = 2.0  # times as far below the best score as the median is
DIGITS = 9  # of values and gains: what differs by rounding alone is equal, on every machine
QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 25) for i in range(25)])


def propose(
    degrees: Sequence[float], num_begun: Sequence[int], free: Sequence[int], scored: Scored
) -> int:
    """Place of the candidate whose next run is begun.

    The first few are spread. Then it is the one with the largest knowledge gradient: by how much,
    once its score is known, the best mean among tried candidates is expected to have risen. So a
    candidate is tried again where a replicate tells more than a new candidate would; one with
    no score above the floor only when nothing else is left.

    Args:
        degrees: Angle of every candidate, rising.
        num_begun: Runs of every candidate so far, whatever became of them.
        free: Runs that every candidate may still have; not all 0.
        scored: Runs that have a score.

    Source: Frazier, Powell & Dayanik 2009, the knowledge-gradient policy for correlated beliefs.
    Differs: only candidates that were tried can be chosen, as in the end.
    """
    may_be = [place for place, num in enumerate(free) if num > 0]
    num_rays = sum(num > 0 for num in num_begun)
    has_new = any(num_begun[place] == 0 for place in may_be)
    if len({score for _, score in scored}) < 2 or (has_new and num_rays < SPREAD):
        return _most_apart(degrees, num_begun, may_be)
    values, _, _ = _in_own_unit(scored)
    places = [place for place, _ in scored]
    curve = posterior(degrees, places, values)
    gains = np.round(_knowledge_gradient(curve, sorted(set(places))), DIGITS)
    means = np.round(curve.mean, DIGITS)
    hopeless = set(places) - _with_hope(scored)
    return max(
        may_be,
        key=lambda place: (place not in hopeless, gains[place], means[place], -num_begun[place]),
    )


def expected(degrees: Sequence[float], scored: Scored, place: int) -> float | None:
    """What a run is expected to score; None: there is no score yet."""
    return known_curve(degrees, scored)[0][place]


def known_curve(
    degrees: Sequence[float], scored: Scored
) -> tuple[list[float | None], list[float | None]]:
    """Mean and deviation of every candidate's score, given all runs; None: no telling yet.

    Scores far below the best count as less bad than they are (``FLOOR``): where a curve falls off
    a cliff, the rest of it would seem flat, and one smoothness could not describe both.
    """
    first = scored[0][1] if scored else None
    if len({score for _, score in scored}) < 2:
        return [first] * len(degrees), [None] * len(degrees)
    values, best, unit = _in_own_unit(scored)
    curve = posterior(degrees, [place for place, _ in scored], values)
    deviations = unit * np.sqrt(np.maximum(np.diag(curve.covariance), 0))
    return (best + unit * curve.mean).tolist(), deviations.tolist()


def _in_own_unit(scored: Scored) -> tuple[list[float], float, float]:
    """Scores from -1 to 0 (the best), which one is best, and their unit."""
    own = [score for _, score in scored]
    scores, best = np.maximum(own, _floor(own)), max(own)
    unit = best - scores.min()
    return np.round((scores - best) / unit, DIGITS).tolist(), best, float(unit)


def _floor(scores: Sequence[float]) -> float:
    """What a score counts as if it is below that."""
    best, median = max(scores), float(np.median(scores))
    return best - FLOOR * (best - median) if median < best else min(scores)


def _with_hope(scored: Scored) -> set[int]:
    """Candidates with a score that is not below the floor by more than rounding."""
    scores = [score for _, score in scored]
    floor = _floor(scores) - (max(scores) - min(scores)) / 10**DIGITS
    return {place for place, score in scored if score >= floor}


def _most_apart(degrees: Sequence[float], num_begun: Sequence[int], may_be: Sequence[int]) -> int:
    """The candidate farthest from all that were begun; of equal ones, one with fewer runs."""
    tried = [degrees[place] for place, num in enumerate(num_begun) if num > 0]
    if not tried:
        return may_be[0]

    def distance(place: int) -> float:
        return round(min(abs(degrees[place] - other) for other in tried), 1)

    return max(may_be, key=lambda place: (distance(place), -num_begun[place]))


def _knowledge_gradient(curve: Posterior, tried: Sequence[int]) -> Array:
    """By candidate, how far the best mean among the tried is expected to rise if it is tried."""
    num = len(curve.mean)
    spreads = np.sqrt(np.maximum(np.diag(curve.covariance), 0) + curve.noise)
    moves = curve.covariance / spreads[None, :]  # [of, by], in standard deviations of the score
    means = curve.mean[:, None, None] + moves[:, :, None] * QUANTILES  # [of, by, draw]
    counts = np.eye(num, dtype=bool)
    counts[list(tried)] = True
    best = np.where(counts[:, :, None], means, -np.inf).max(0)
    return best.mean(1) - curve.mean[list(tried)].max()
