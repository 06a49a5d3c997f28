"""Which candidates are tried next, given the scores of those that were."""

import math
from collections.abc import Sequence

import numpy as np

from wit.search.process import Posterior, posterior

Scored = Sequence[tuple[int, float]]  # place of the candidate, and score, of every run that has one
FIRST = 4  # rays before the curve has a say


def propose(
    degrees: Sequence[float],
    num_begun: Sequence[int],
    free: Sequence[int],
    scored: Scored,
    wanted: int,
) -> list[int]:
    """Places of the candidates whose next runs are begun together.

    Args:
        degrees: Angle of every candidate, rising.
        num_begun: Runs of every candidate so far, whatever became of them.
        free: Runs that every candidate may still have.
        scored: Runs that have a score.
        wanted: How many places at most.
    """
    left, begun = list(free), list(num_begun)
    chosen: list[int] = []
    believed = list(scored)
    while len(chosen) < wanted and any(left):
        place = _next(degrees, begun, left, believed)
        if len({score for _, score in believed}) > 1:
            # Until its score is known a run is taken to come out as expected.
            believed.append((place, float(posterior(degrees, *_apart(believed)).mean[place])))
        chosen.append(place)
        left[place] -= 1
        begun[place] += 1
    return chosen


def known_curve(
    degrees: Sequence[float], scored: Scored
) -> tuple[list[float | None], list[float | None]]:
    """Mean and deviation of every candidate's score, given all runs."""
    values = [score for _, score in scored]
    if len(set(values)) < 2:
        return [values[0] if values else None] * len(degrees), [None] * len(degrees)
    found = posterior(degrees, *_apart(scored))
    return found.mean.tolist(), np.sqrt(np.diag(found.covariance)).tolist()


def _next(
    degrees: Sequence[float], begun: Sequence[int], left: Sequence[int], scored: Scored
) -> int:
    new = [place for place, num in enumerate(left) if num and not begun[place]]
    num_rays = sum(map(bool, begun))
    if len({score for _, score in scored}) < 2 or (new and num_rays < FIRST):
        return _most_apart(degrees, begun, left)
    gains = _expected_improvement(
        posterior(degrees, *_apart(scored)), sorted({p for p, _ in scored})
    )
    return max((place for place, num in enumerate(left) if num), key=lambda place: gains[place])


def _most_apart(degrees: Sequence[float], begun: Sequence[int], left: Sequence[int]) -> int:
    """The candidate farthest from all that were begun; of equal ones, one with fewer runs."""
    tried = [degrees[place] for place, num in enumerate(begun) if num]
    may_be = [place for place, num in enumerate(left) if num]
    if not tried:
        return may_be[0]
    return max(
        may_be,
        key=lambda place: (min(abs(degrees[place] - other) for other in tried), -begun[place]),
    )


def _expected_improvement(curve: Posterior, tried: Sequence[int]) -> np.ndarray:
    """By candidate, how far its mean is expected to rise above the best one that was tried."""
    best = curve.mean[list(tried)].max()
    deviations = np.sqrt(np.maximum(np.diag(curve.covariance), 1e-300))
    lead = (curve.mean - best) / deviations
    below = np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in lead])
    density = np.exp(-(lead**2) / 2) / math.sqrt(2 * math.pi)
    return deviations * (lead * below + density)


def _apart(scored: Scored) -> tuple[list[int], list[float]]:
    return [place for place, _ in scored], [score for _, score in scored]
