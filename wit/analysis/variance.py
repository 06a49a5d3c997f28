"""How much of the spread of scores is the objective, how much the seed, and how much the rest."""

from collections.abc import Sequence

import numpy as np

from wit.analysis.grid import StageScores
from wit.analysis.scores import Result

Array = np.ndarray


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
    rays = _indicators([model.ray for model in stage.models])
    seeds = _indicators([model.seed for model in stage.models])
    mean = np.ones((len(scores), 1))
    full = _Fit(np.hstack([mean, rays, seeds]))
    freedom = len(scores) - full.rank
    if freedom == 0:
        return VarianceSplit(ray=None, seed=None, rest=None)
    rest = full.rest(scores) / freedom
    if rest <= 1e-12 * float(scores @ scores):  # runs that repeat exactly, but for rounding
        rest = 0.0
    found = {}
    for name, part, other in (("ray", rays, seeds), ("seed", seeds, rays)):
        without = _Fit(np.hstack([mean, other]))
        spread = without.spread(part)
        if full.rank == without.rank or spread <= 0:
            found[name] = None
            continue
        square = without.rest(scores) - full.rest(scores)
        variance = (square - (full.rank - without.rank) * rest) / spread
        found[name] = float(np.sqrt(max(0.0, variance)))
    return VarianceSplit(**found, rest=float(np.sqrt(max(0.0, rest))))


class _Fit:
    """Least squares on the columns of a design."""

    def __init__(self, design: Array) -> None:
        self.rank = int(np.linalg.matrix_rank(design))
        self._residual = np.eye(len(design)) - design @ np.linalg.pinv(design)

    def rest(self, scores: Array) -> float:
        """Sum of squares that the fit leaves."""
        return float(scores @ self._residual @ scores)

    def spread(self, part: Array) -> float:
        """Expected sum of squares that it leaves of effects of ``part`` of variance 1."""
        return float(np.trace(part.T @ self._residual @ part))


def _indicators(names: Sequence[object]) -> Array:
    places = list(dict.fromkeys(names))
    return np.eye(len(places))[[places.index(name) for name in names]]
