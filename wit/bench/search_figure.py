"""Regret against budget, as a picture: the search, cells at random, and grids."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wit.analysis.charts import BEST
from wit.analysis.resampling import mean_estimate
from wit.analysis.studies_charts import COLOURS, ZERO
from wit.bench.search import Regrets, regrets_of
from wit.bench.search_settings import Setting, drawn_settings, paper_settings
from wit.bench.search_ways import GRID, RANDOM, SEARCH

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WAYS = {
    "search": (SEARCH, COLOURS[0], "-"),
    "search, best score": (SEARCH._replace(by_curve=False), COLOURS[0], ":"),
    "random cells, best score": (RANDOM, BEST, "--"),
    "even grid, best score": (GRID, COLOURS[2], "-."),
}
BUDGETS = range(4, 27)  # the search has no more: two seeds of 21 rays, most of which have one
BUDGETS_OF_DRAWN = range(4, 19)
DOTS_PER_INCH = 110
MOST_SHOWN = 2.5  # standard deviations


def write_figure(csv: Path, path: Path, num_draws: int = 8) -> dict[str, Any]:
    """Writes the picture.

    Args:
        csv: The paper's scores.
        path: A PNG file.
        num_draws: Simulations of every setting.

    Returns:
        The regrets drawn, by panel, way and budget, with their intervals over settings.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(12, 4.2), dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    axes: Any = picture.subplots(1, 3)
    of_paper = _regrets([paper_settings(csv)] * num_draws, BUDGETS)
    of_drawn = _regrets([drawn_settings(seed) for seed in range(num_draws)], BUDGETS_OF_DRAWN)
    whole, _ = regrets_of(GRID, paper_settings(csv), [35], [0])
    panels = (
        ("paper: chosen cell, below the best of 35", of_paper, BUDGETS, 0),
        ("paper: its ray, below the best ray", of_paper, BUDGETS, 1),
        ("drawn curves: true regret of the ray", of_drawn, BUDGETS_OF_DRAWN, 1),
    )
    drawn = {}
    for place, (title, regrets, budgets, column) in zip(axes, panels, strict=True):
        drawn[title] = {
            name: _line(place, name, found[:, :, column], budgets)
            for name, found in regrets.items()
        }
        place.set(
            title=title, xlabel="cells begun", ylim=(0, MOST_SHOWN), xlim=(budgets[0], budgets[-1])
        )
        place.axhline(1, color=ZERO, linewidth=0.8)
        if regrets is of_paper:
            label = "the paper's grid, all 35"
            at = whole[:, 0, column].mean()
            place.axhline(at, color="black", linewidth=1, label=label)
    axes[0].set_ylabel("regret, standard deviations of the noise")
    axes[1].legend(fontsize=8, frameon=False)
    picture.savefig(path, format="png")
    return drawn


def _regrets(draws: Sequence[Sequence[Setting]], budgets: Sequence[int]) -> dict[str, Regrets]:
    """By way the mean over draws, of [setting, budget, 2]."""
    return {
        name: np.mean(
            [regrets_of(way, of, budgets, [seed])[0] for seed, of in enumerate(draws)], axis=0
        )
        for name, (way, _, _) in WAYS.items()
    }


def _line(
    axes: "Axes", name: str, regrets: np.ndarray, budgets: Sequence[int]
) -> dict[int, tuple[float, float | None, float | None]]:
    _, colour, style = WAYS[name]
    found = [mean_estimate(column.tolist()) for column in regrets.T]
    means = [(one.value, one.low, one.high) for one in found if one is not None]
    axes.plot(budgets, [mean for mean, _, _ in means], style, color=colour, label=name)
    if name == "search":
        ends = [(low or mean, high or mean) for mean, low, high in means]
        lows, highs = zip(*ends, strict=True)
        axes.fill_between(budgets, lows, highs, color=colour, alpha=0.15, linewidth=0)
    return dict(zip(budgets, means, strict=True))
