"""Seeds as blocks: what a seed does to all models of a stage alike is no noise of a comparison.

A score is taken to be the sum of a constant of its ray, a constant of its seed, and noise, fitted
by least squares, whatever runs are missing. Constants of seeds sum to 0, so that means are over
all seeds. Without them, intervals are those within blocks (Loftus & Masson 1994).

* Runs of one seed on one ray count as one: they share the order of the rows, and often agree to
  the last digit. With one seed, they are all that there is.
* Seeds that have no ray in common cannot be told from rays; then what a seed does is noise.
* Where as many constants are fitted as there are runs, nothing is known of noise.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wit.analysis.intervals import Spread

ROUNDING = 1e-12  # runs that agree to the last bit differ by that share of a score after a fit
Array = np.ndarray


class Run(NamedTuple):
    """A score, and what was run."""

    ray: str
    weights: str
    seed: int
    score: float


class Blocks(NamedTuple):
    """The fit of one stage. Covariances are in units of the noise's variance."""

    means: Array  # of rays, in the order of their first runs
    num_units: Array  # runs that these are means of
    tilt: Array  # by ray and seed: what effects of seeds would add to a plain mean
    seeds: tuple[int, ...]
    effects: Array  # by seed; 0 where they cannot be told
    effects_covariance: Array
    noise: Spread  # of a run, within rays and seeds
    num_effects: int  # that were fitted: one less than seeds, or 0

    @property
    def covariance(self) -> Array:
        """Of the means, but for what all share."""
        return np.diag(1 / self.num_units) + self.tilt @ self.effects_covariance @ self.tilt.T

    def shift(self, seeds: Sequence[int]) -> float:
        """What a mean over these seeds differs by from one over all; 0 of all."""
        share = self._share(seeds)
        return 0.0 if np.ptp(share) == 0 else float(share @ self.effects)

    def stderr(self, seeds: Sequence[int]) -> float:
        """Standard error of a cell's mean over these seeds, in units of the noise."""
        share = self._share(seeds)
        return math.sqrt(1 / len(seeds) + float(share @ self.effects_covariance @ share))

    def apart(self, one: Sequence[int], other: Sequence[int]) -> float:
        """Standard error of the difference of two cells, as a share of that of unrelated ones.

        1, unless both lack seeds: then what their seeds are taken to do errs for both.
        """
        shared = float(self._share(one) @ self.effects_covariance @ self._share(other))
        square = self.stderr(one) ** 2 + self.stderr(other) ** 2
        return math.sqrt(max(0.0, 1 - 2 * shared / square))

    def _share(self, seeds: Sequence[int]) -> Array:
        return np.array([(seed in seeds) / len(seeds) for seed in self.seeds])


def fit_blocks(runs: Sequence[Run]) -> Blocks:
    """Fits rays and seeds to the runs of one stage."""
    seeds = tuple(sorted({run.seed for run in runs}))
    names = {name: place for place, name in enumerate(dict.fromkeys(run.ray for run in runs))}
    units = [(names[run.ray], seeds.index(run.seed), run.score) for run in runs]
    if len(seeds) > 1:
        units = _averaged(units)
    places = np.array([place for place, _, _ in units], dtype=int)
    has_seed = np.eye(len(seeds))[[block for _, block, _ in units]]
    scores = np.array([score for _, _, score in units])
    # Effects sum to 0: they are those of all seeds but the last, and less their sum.
    sums = np.vstack([np.eye(len(seeds) - 1), -np.ones(len(seeds) - 1)]) if runs else has_seed.T
    coded = has_seed @ sums
    within = coded - _means(places, coded)[places]
    if np.linalg.matrix_rank(within) < sums.shape[1]:
        sums, coded, within = sums[:, :0], coded[:, :0], within[:, :0]
    inverse = np.linalg.inv(within.T @ within)
    effects = sums @ inverse @ within.T @ scores
    tilt = _means(places, has_seed)
    means = _means(places, scores - has_seed @ effects)
    rest = scores - has_seed @ effects - means[places]
    return Blocks(
        means=means,
        num_units=np.bincount(places),
        tilt=tilt,
        seeds=seeds,
        effects=effects,
        effects_covariance=sums @ inverse @ sums.T,
        noise=_noise(float(rest @ rest), len(units) - len(names) - sums.shape[1], scores),
        num_effects=sums.shape[1],
    )


def _means(places: Array, values: Array) -> Array:
    """Of the rows of each place."""
    total = np.zeros((places.max(initial=-1) + 1, *values.shape[1:]))
    np.add.at(total, places, values)
    return (total.T / np.bincount(places)).T


def _averaged(units: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    together: dict[tuple[int, int], list[float]] = {}
    for place, block, score in units:
        together.setdefault((place, block), []).append(score)
    means = {key: of[0] if len(of) == 1 else float(np.mean(of)) for key, of in together.items()}
    return [(*key, mean) for key, mean in means.items()]


def _noise(square: float, freedom: int, scores: Array) -> Spread:
    is_rounding = square <= len(scores) * (ROUNDING * np.abs(scores).max(initial=0.0)) ** 2
    if freedom <= 0:
        return Spread(0.0, 0)
    return Spread(0.0 if is_rounding else math.sqrt(square / freedom), freedom)


def spread_of_cells(runs: Sequence[Run], blocks: Blocks) -> Spread:
    """Spread of scores around the mean of their cell, but for what their seeds do.

    Cells of one ray and seed may agree to the last digit, and may err apart. So a ray has the
    mean variance of its cells, but the freedom of one of them.
    """
    effects = dict(zip(blocks.seeds, blocks.effects, strict=True))
    rays: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        rays.setdefault(run.ray, {}).setdefault(run.weights, []).append(run)
    found, seeds = [], set()
    for cells in rays.values():
        several = [cell for cell in cells.values() if len(cell) > 1]
        if several:
            seeds |= {run.seed for cell in several for run in cell}
            rest = [[run.score - effects[run.seed] for run in cell] for cell in several]
            variance = statistics.fmean(map(statistics.variance, rest))
            found.append((max(map(len, several)) - 1, variance))
    square = math.fsum(free * variance for free, variance in found)
    num_effects = min(blocks.num_effects, max(0, len(seeds) - 1))
    freedom = sum(free for free, _ in found) - num_effects
    return _noise(square, freedom, np.array([run.score for run in runs]))
