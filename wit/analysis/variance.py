"""How much of the spread of scores is the objective, how much the seed, and how much the rest."""

from collections.abc import Sequence

import numpy as np

from wit.analysis.grid import StageScores
from wit.analysis.scores import Result

Array = np.ndarray

RANK = 1e-10  # singular values below that share of the largest are none
ROUNDING = 1e-10  # effects that leave less of each run leave nothing


class VarianceSplit(Result):
    """Standard deviations of what a score is the sum of, in units of the score.

    A share that the numbers do not show is 0; one that they cannot show is None.
    """

    ray: float | None  # between objectives
    seed: float | None  # between seeds, the same for all rays; None: one seed
    rest: float | None  # between runs of one ray and seed; None: nothing was run twice


def variance_split(stage: StageScores) -> VarianceSplit:
    """Splits the variance of the models' scores.

    The model is ``score = mean + ray + seed + rest`` with random, unrelated parts. Their
    variances are those that make the sums of squares of least-squares fits what they are expected
    to be, whatever cells and seeds are missing (method 3 of Henderson 1953, "Estimation of
    variance and covariance components").
    """
    scores = np.array([model.score for model in stage.models])
    if len(scores) < 2:
        return VarianceSplit(ray=None, seed=None, rest=None)
    scores = np.zeros(len(scores)) if np.ptp(scores) == 0 else scores - scores.mean()
    rays = _places([model.ray for model in stage.models])
    seeds = _places([model.seed for model in stage.models])
    rank, left = _fit_of_both(scores, rays, seeds)
    freedom = len(scores) - rank
    if freedom == 0:
        return VarianceSplit(ray=None, seed=None, rest=None)
    rest = left / freedom
    if rest <= 1e-12 * float(scores @ scores):  # runs that repeat exactly, but for rounding
        rest = 0.0
    found = {}
    for name, part, other in (("ray", rays, seeds), ("seed", seeds, rays)):
        num_others = other.max() + 1
        spread = _left_of_part(part, other)
        if rank == num_others or spread <= ROUNDING * len(scores):
            found[name] = None
            continue
        within = _less_means(scores[:, None], other)
        square = float(np.sum(within**2)) - left
        variance = (square - (rank - num_others) * rest) / spread
        found[name] = float(np.sqrt(max(0.0, variance)))
    return VarianceSplit(**found, rest=float(np.sqrt(max(0.0, rest))))


def _fit_of_both(scores: Array, rays: Array, seeds: Array) -> tuple[int, float]:
    """Rank of a fit with both, and the sum of squares that it leaves.

    The means of that with more levels are taken out first; what is left has a column for each
    level of the other, so the work grows with the runs and not with their cube.
    """
    many, few = (rays, seeds) if rays.max() >= seeds.max() else (seeds, rays)
    design = _less_means(np.eye(few.max() + 1)[few], many)
    within = _less_means(scores[:, None], many)[:, 0]
    found, _, rank, _ = np.linalg.lstsq(design, within, rcond=RANK)
    rest = within - design @ found
    return int(many.max() + 1 + rank), float(rest @ rest)


def _left_of_part(part: Array, other: Array) -> float:
    """Expected sum of squares that means of ``other`` leave of effects of ``part``, variance 1."""
    counts = np.zeros((part.max() + 1, other.max() + 1))
    np.add.at(counts, (part, other), 1)
    return float(len(part) - np.sum(counts**2 / counts.sum(axis=0)))


def _less_means(values: Array, places: Array) -> Array:
    """Values, row by row, less the mean of the rows of their place."""
    total = np.zeros((places.max() + 1, values.shape[1]))
    np.add.at(total, places, values)
    return values - (total.T / np.bincount(places)).T[places]


def _places(names: Sequence[object]) -> Array:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])
