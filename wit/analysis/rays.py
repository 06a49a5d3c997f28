"""Scores by ray: cells whose weights have one ratio are one objective, and so replicates.

AdamW without clipping does not see the scale of a loss, only the ratio of prompt weight to
response weight. So what cells of one ray differ by is noise, and their pooled standard deviation
is the noise floor of the study.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from wit.analysis.blocks import fit_blocks
from wit.analysis.grid import ModelScore, StageScores, runs_of
from wit.analysis.intervals import (
    LEVEL,
    Spread,
    half_width,
    of_difference,
    t_quantile,
)
from wit.analysis.scores import INSTRUCTION_TUNING, Result

NUM_DRAWS = 20_000  # of normal differences: the 95 % point of the largest is known to 1 %
MAX_DRAWN = 50  # rays; for more, Bonferroni's point, which is a little wider, and quick
SEED = 0
Array = np.ndarray


class RayScore(Result):
    """Score of one objective, over its cells and seeds."""

    ray: str  # ratio of prompt weight to response weight, such as "1 : 4"
    degrees: float | None  # 0: responses only; 45: both alike; 90: prompts only; None: no ratio
    weights: tuple[str, ...]  # its cells
    score: float
    half_width: float | None  # of its interval
    item_stderr: float | None
    num_runs: int


class Rays(NamedTuple):
    """All rays of a stage, and how their differences err."""

    stage: StageScores
    rays: tuple[RayScore, ...]  # by angle
    noise: Spread  # of a run, within rays and seeds: the noise floor
    covariance: Array  # of the scores but for what all share; in units of the noise's variance
    places: dict[str, int]  # of the rays, by name

    def ray(self, name: str) -> RayScore | None:
        """The ray of that name."""
        return self.rays[self.places[name]] if name in self.places else None

    @property
    def instruction_tuning(self) -> RayScore | None:
        """The ray of loss on responses only."""
        return next((r for r in self.rays if INSTRUCTION_TUNING in r.weights), self.ray("0 : 1"))

    @property
    def best(self) -> RayScore | None:
        """The best score; of equal ones that of instruction tuning, then the smaller angle."""
        sign = -1 if self.stage.is_less_better else 1
        usual = self.instruction_tuning
        ordered = sorted(self.rays, key=lambda ray: (ray != usual, _angle_first(ray)))
        return max(ordered, key=lambda ray: sign * ray.score, default=None)

    @property
    def is_noise_known(self) -> bool:
        """Whether a difference of the best ray can be held against anything."""
        return self.best is not None and self.noise_of(self.best) is not None

    def lead(self, one: RayScore, other: RayScore) -> float:
        """How much better ``one`` is."""
        return (-1 if self.stage.is_less_better else 1) * (one.score - other.score)

    def noise_of(
        self, control: RayScore, others: Sequence[RayScore] | None = None
    ) -> dict[str, float] | None:
        """By ray, the half-width of the interval of its difference from ``control``.

        All of these intervals hold together with 95 % (Dunnett 1955), so that the ray that looks
        best of many must lead by more. The wider of two: over runs, and over the benchmarks'
        items, whose errors are taken to be apart. None: neither is known.

        Args:
            control: What is compared with all others.
            others: Those whose intervals are asked for; unset: all.
        """
        asked = [r for r in (self.rays if others is None else others) if r.ray != control.ray]
        wide = self._over_runs(control, asked)
        found = {}
        for ray in asked:
            items = of_difference(ray.item_stderr, control.item_stderr)
            over_items = half_width(None, items, 0, len(self.rays) - 1)
            widths = [w for w in (wide.get(ray.ray), over_items) if w is not None]
            if not widths:
                return None
            found[ray.ray] = max(widths)
        return found

    def _over_runs(self, control: RayScore, others: Sequence[RayScore]) -> dict[str, float]:
        if not self.noise.deviation or len(self.rays) < 2:
            return {}
        place = self.places[control.ray]
        shared = self.covariance[place]
        squares = np.diag(self.covariance) + shared[place] - 2 * shared
        num_others = len(self.rays) - 1
        if num_others > MAX_DRAWN:
            point = _bonferroni(num_others, self.noise.freedom)
        else:
            errors = np.sqrt(np.delete(squares, place))
            both = self.covariance - shared[:, None] - shared[None, :] + shared[place]
            covariance = np.delete(np.delete(both, place, axis=0), place, axis=1)
            point = _largest(covariance / np.outer(errors, errors), self.noise.freedom)
        widths = point * np.sqrt(squares) * self.noise.deviation
        return {ray.ray: float(widths[self.places[ray.ray]]) for ray in others}


def rays_of(stage: StageScores) -> Rays:
    """The rays of a stage.

    With several seeds, the runs of one seed on one ray count as one, since they share the order
    of the rows, and seeds are blocks: what a seed does to all rays is in no difference.
    """
    by_ray: dict[str, list[ModelScore]] = {}
    for model in stage.models:
        by_ray.setdefault(model.ray, []).append(model)
    names = sorted(by_ray, key=lambda name: _key(by_ray[name]))
    ordered = [model for name in names for model in by_ray[name]]
    fit = fit_blocks(runs_of(ordered))
    covariance = fit.covariance
    rays = []
    for place, name in enumerate(names):
        models = by_ray[name]
        item_stderr = _mean_or_none([model.stderr for model in models])
        seed_stderr = fit.noise.deviation * math.sqrt(covariance[place, place]) or None
        rays.append(
            RayScore(
                ray=name,
                degrees=_degrees(models),
                weights=tuple(dict.fromkeys(model.weights for model in models)),
                score=float(fit.means[place]),
                half_width=half_width(seed_stderr, item_stderr, fit.noise.freedom),
                item_stderr=item_stderr,
                num_runs=len(models),
            )
        )
    places = {name: place for place, name in enumerate(names)}
    return Rays(stage, tuple(rays), fit.noise, covariance, places)


def _largest(correlation: Array, freedom: int) -> float:
    """The 95 % point of the largest of several t values, in size, that are correlated so."""
    return _largest_of(np.round(correlation, 9).tobytes(), freedom)


@cache  # studies of one grid, and a hundred simulated ones, share their points
def _largest_of(correlation: bytes, freedom: int) -> float:
    from scipy import optimize  # takes 0.3 s to load

    flat = np.frombuffer(correlation)
    size = math.isqrt(len(flat))
    values, vectors = np.linalg.eigh(flat.reshape(size, size))
    root = vectors * np.sqrt(np.clip(values, 0, None))
    largest = np.abs(_normal_draws(size) @ root.T).max(axis=1)

    def share_below(point: float) -> float:
        """Of t values: drawn normal ones over the estimated deviation, whose law is known."""
        return float(special.chdtrc(freedom, freedom * (largest / point) ** 2).mean())

    between = [0.8 * t_quantile((1 + LEVEL) / 2, freedom), 1.2 * _bonferroni(size, freedom)]
    return optimize.root_scalar(lambda point: share_below(point) - LEVEL, bracket=between).root


@cache
def _bonferroni(size: int, freedom: int) -> float:
    return t_quantile(1 - (1 - LEVEL) / 2 / size, freedom)


@cache
def _normal_draws(size: int) -> Array:
    return np.random.default_rng(SEED).standard_normal((NUM_DRAWS, size))


def _degrees(models: Sequence[ModelScore]) -> float | None:
    first = models[0]
    if not first.is_on_grid or first.prompt_weight is None or first.response_weight is None:
        return None
    return math.degrees(math.atan2(first.prompt_weight, first.response_weight))


def _key(models: Sequence[ModelScore]) -> tuple[float, str]:
    degrees = _degrees(models)
    return (math.inf if degrees is None else round(degrees, 9)), models[0].weights


def _angle_first(ray: RayScore) -> float:
    return math.inf if ray.degrees is None else ray.degrees


def _mean_or_none(values: Sequence[float]) -> float | None:
    mean = math.fsum(values) / len(values)
    return None if math.isnan(mean) else mean
