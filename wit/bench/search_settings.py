"""What a search is simulated on: scores of all runs that it may try, known beforehand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wit.search.knobs import SearchKnobs
from wit.search.trials import degrees_of

NUM_RAYS = 9
NUM_SEEDS = 2  # of a drawn setting
NOISES = (0.02, 0.1, 0.3)  # standard deviation of a run, in units of the curve's range
SHAPES: dict[str, Callable[[float], float]] = {  # of degrees
    "peak": lambda at: math.exp(-(((at - 25) / 22) ** 2) / 2),
    "cliff": lambda at: 1 - 0.25 * at / 90 - 0.75 * math.exp((at - 90) / 4),
    "two peaks": lambda at: (
        0.85 * math.exp(-(((at - 10) / 10) ** 2) / 2) + math.exp(-(((at - 60) / 12) ** 2) / 2)
    ),
}


class Setting(NamedTuple):
    """All runs of a study that was made whole."""

    name: str
    degrees: tuple[float, ...]  # of every candidate, rising
    places: tuple[int, ...]  # of every run, which candidate it is
    rungs: tuple[float, ...]  # of every run, before alignment
    scores: tuple[float, ...]  # of every run, after it; more is better
    truth: tuple[float, ...]  # of every candidate: its expected score, as well as it is known
    noise: float  # standard deviation of a run of one candidate


def paper_settings(csv: Path) -> tuple[Setting, ...]:
    """The settings of the paper; a run is a cell of its grid, and those of one ray replicates.

    The truth is the mean over a ray's cells, of which most rays have one.

    Raises:
        InputError: The file cannot be read.
    """
    from wit.analysis.analyse import by_study
    from wit.analysis.grid import stage_scores
    from wit.analysis.rays import rays_of
    from wit.analysis.reading import read_scores

    found = []
    for name, table in by_study(read_scores(csv)).items():
        after = stage_scores(table, "dpo")
        rays = sorted(rays_of(after).rays, key=lambda ray: ray.degrees or 0.0)
        place_of = {ray.ray: place for place, ray in enumerate(rays)}
        before = {model.weights: model.score for model in stage_scores(table, "sft").models}
        found.append(
            Setting(
                name=name,
                degrees=tuple(ray.degrees or 0.0 for ray in rays),
                places=tuple(place_of[model.ray] for model in after.models),
                rungs=tuple(before[model.weights] for model in after.models),
                scores=tuple(model.score for model in after.models),
                truth=tuple(ray.score for ray in rays),
                noise=rays_of(after).noise.deviation,
            )
        )
    return tuple(found)


def drawn_settings(seed: int) -> tuple[Setting, ...]:
    """Curves that are known, of three shapes and with three levels of noise."""
    generator = np.random.default_rng(seed)
    candidates = SearchKnobs(rays=NUM_RAYS, budget=1).candidates()
    degrees = tuple(degrees_of(weights) for weights in candidates)
    found = []
    for name, shape in SHAPES.items():
        curve = np.array([shape(at) for at in degrees])
        curve = curve / np.ptp(curve)
        for noise in NOISES:
            runs = np.repeat(curve, NUM_SEEDS) + noise * generator.standard_normal(
                NUM_RAYS * NUM_SEEDS
            )
            found.append(
                Setting(
                    name=f"{name}, noise {noise:g}",
                    degrees=degrees,
                    places=tuple(place for place in range(NUM_RAYS) for _ in range(NUM_SEEDS)),
                    rungs=tuple(runs.tolist()),
                    scores=tuple(runs.tolist()),
                    truth=tuple(curve.tolist()),
                    noise=noise,
                )
            )
    return tuple(found)
