"""Tables of scores whose truth is known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wit.analysis.scores import ray_label

STEPS = (0, 0.2, 0.4, 0.6, 0.8, 1.0)
PAPER_GRID = [(p, r) for p in STEPS for r in STEPS if p or r]  # 35 cells on 21 rays
Pair = tuple[float, float]


def rays_of_grid(cells: Sequence[Pair] = PAPER_GRID) -> list[str]:
    return list(dict.fromkeys(ray_label(*cell) for cell in cells))


def table_of(
    stage: str,
    scores: Mapping[Pair, Sequence[float]],
    benchmark: str = "score",
    **more: Any,
) -> pd.DataFrame:
    """One row per cell and seed."""
    return pd.DataFrame(
        [
            {
                "stage": stage,
                "prompt_weight": prompt,
                "response_weight": response,
                "seed": seed,
                "benchmark": benchmark,
                "score": score,
                **more,
            }
            for (prompt, response), seeds in scores.items()
            for seed, score in enumerate(seeds)
        ]
    )


def noisy(
    generator: np.random.Generator,
    effects: Mapping[str, float],
    *,
    noise: float,
    num_seeds: int,
    seed_effect: float = 0.0,
    cells: Sequence[Pair] = PAPER_GRID,
) -> dict[Pair, list[float]]:
    """Scores of every cell: 50, the effect of its ray, that of the seed, and noise."""
    of_seed = seed_effect * generator.standard_normal(num_seeds)
    return {
        cell: [
            50 + effects.get(ray_label(*cell), 0.0) + of_seed[seed] + error
            for seed, error in enumerate(noise * generator.standard_normal(num_seeds))
        ]
        for cell in cells
    }
