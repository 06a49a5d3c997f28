"""Plotly figures of the report, as plain JSON; colours of ink and paper come from the page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from wit.analysis.digits import decimals_of, number
from wit.analysis.grid import CellScore, Grid, StageScores

Figure = dict[str, Any]
# Even in lightness and safe for colour-blind readers; the same in the legend of the page.
SCALE = "Cividis"
SCALE_STOPS = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838")
BEST = "#d55e00"  # vermilion: stands out on the scale, in light and in dark
FAR = {-1: "triangle-down", 1: "triangle-up"}  # what lies beyond the lower, the upper edge
FEW = 10  # scores; of fewer, quartiles say too little of what is far out
FAR_OUT = 3.0  # quartile distances below the lower quartile, Tukey's "far out"
ROOMY = 4  # columns; cells of more are too narrow for intervals
MAX_COLUMNS = 12  # with more, numbers would cover each other: only the best cell has one


class ColourRange(NamedTuple):
    """Scores at the two ends of the scale, for both maps: one colour means one score."""

    worst: float
    best: float  # below ``worst`` where less is better
    is_clipped: bool  # worse scores than ``worst`` exist and have its colour


def colour_range(grid: Grid) -> ColourRange:
    """From the worst to the best score; from a fence, if a few scores are far worse than the rest.

    Cells without loss on the response learn next to nothing. Up to their scores, the scale would
    show all others in one colour.
    """
    sign = -1 if grid.dpo.is_less_better else 1
    scores = sorted(sign * score for score in scores_of(grid)) or [0.0]
    low = worst_of_most(scores)
    high = max(scores[-1], low + 1e-9)
    return ColourRange(sign * low, sign * high, is_clipped=scores[0] < low)


def worst_of_most(scores: Sequence[float]) -> float:
    """The lowest score that is not far below the rest."""
    if len(scores) < FEW:
        return min(scores)
    first, third = np.quantile(scores, [0.25, 0.75])
    fence = first - FAR_OUT * (third - first)
    return min(score for score in scores if score >= fence)


def scores_of(grid: Grid) -> list[float]:
    """All scores of cells, before and after; of an objective that is shown twice, once."""
    cells = (*grid.sft.cells, *grid.dpo.cells)
    return [cell.score for cell in cells if cell.replicate_of is None]


def heat_map(stage: StageScores, grid: Grid) -> Figure:
    """Scores over prompt weight (across) and response weight (up); a gap is no score."""
    cells = {(c.prompt_weight, c.response_weight): c for c in stage.cells if c.is_on_grid}
    everywhere = [c for s in (grid.sft, grid.dpo) for c in s.cells if c.is_on_grid]
    across = sorted({c.prompt_weight for c in everywhere if c.prompt_weight is not None})
    up = sorted({c.response_weight for c in everywhere if c.response_weight is not None})
    scale, decimals = colour_range(grid), decimals_of(scores_of(grid))
    rows = [[cells.get((p, r)) for p in across] for r in up]
    heat = {
        "type": "heatmap",
        "x": [f"{p:g}" for p in across],
        "y": [f"{r:g}" for r in up],
        "z": [[None if c is None else c.score for c in row] for row in rows],
        "customdata": [[_hover_text(c, decimals) for c in row] for row in rows],
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": False,
        "zmin": min(scale.worst, scale.best),
        "zmax": max(scale.worst, scale.best),
        "colorscale": SCALE,
        "reversescale": scale.best < scale.worst,
        "showscale": False,
        "xgap": 3,
        "ygap": 3,
    }
    layout = {
        "xaxis": axis("prompt weight λ<sub>p</sub>") | {"type": "category"},
        "yaxis": axis("response weight λ<sub>r</sub>") | {"type": "category"},
        "margin": {"l": 56, "r": 8, "t": 8, "b": 48},
        "height": max(250, 66 * len(up) + 130),
        "shapes": [] if stage.best is None else _frame(stage.best, across, up),
        "annotations": [
            _label(cell, cell == stage.best, scale, (x, y), len(across), decimals)
            for y, row in enumerate(rows)
            for x, cell in enumerate(row)
            if cell is not None and (len(across) <= MAX_COLUMNS or cell == stage.best)
        ],
    }
    return {"data": [heat], "layout": layout}


def _label(
    cell: CellScore,
    is_best: bool,
    scale: ColourRange,
    place: tuple[int, int],
    num_columns: int,
    decimals: int,
) -> Figure:
    """The numbers on a cell, in white or black, whichever can be read on its colour."""
    text = number(cell.score, decimals)
    score = f"<b>{text}</b>" if is_best else text
    is_dark = (cell.score - scale.worst) / (scale.best - scale.worst) < 0.5
    return {
        "x": place[0],  # Plotly takes a category that looks like a number for a position
        "y": place[1],
        "text": f"{score}<br>{_more(cell, decimals)}" if num_columns <= ROOMY else score,
        "showarrow": False,
        "captureevents": False,
        "font": {
            "color": "#ffffff" if is_dark else "#111111",
            "size": 12 if num_columns < 7 else 9,
        },
    }


def _more(cell: CellScore, decimals: int) -> str:
    """Interval and number of seeds."""
    interval = "" if cell.half_width is None else f"± {number(cell.half_width, decimals)}<br>"
    seeds = "1 seed" if cell.num_seeds == 1 else f"{cell.num_seeds} seeds"
    return interval + (seeds if cell.replicate_of is None else f"as {cell.replicate_of}")


def _frame(
    best: CellScore, across: Sequence[float | None], up: Sequence[float | None]
) -> list[Figure]:
    if not best.is_on_grid:
        return []
    x, y = across.index(best.prompt_weight), up.index(best.response_weight)
    box = {"x0": x - 0.48, "x1": x + 0.48, "y0": y - 0.48, "y1": y + 0.48}
    return [{"type": "rect", "line": {"color": BEST, "width": 3}, **box}]


def _hover_text(cell: CellScore | None, decimals: int) -> str:
    if cell is None:
        return ""
    return f"<b>{cell.weights}</b><br>{number(cell.score, decimals + 1)}<br>{_more(cell, decimals)}"


def lengths_chart(lengths: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Figure | None:
    """Lengths of rows and of their parts, by set: a box from 25 to 75 %, whiskers to 5 and 95 %.

    Args:
        lengths: By set and part, percentiles under names such as ``p50``.
    """
    boxes = [
        (f"{name}: {part}", values)
        for name, parts in lengths.items()
        for part, values in parts.items()
        if values
    ]
    if not boxes:
        return None
    at = {"q1": "p25", "median": "p50", "q3": "p75", "lowerfence": "p5", "upperfence": "p95"}
    trace = {
        "type": "box",
        "orientation": "h",
        "y": [name for name, _ in boxes],
        **{key: [values[name] for _, values in boxes] for key, name in at.items()},
        "boxpoints": False,
        "hoverinfo": "x",
        "line": {"color": "#3a8fc4", "width": 1.5},
        "fillcolor": "rgba(86, 180, 233, 0.3)",
    }
    layout = {
        "xaxis": axis("tokens") | {"rangemode": "tozero"},
        "yaxis": {"fixedrange": True, "automargin": True, "autorange": "reversed"},
        "margin": {"l": 8, "r": 16, "t": 8, "b": 48},
        "height": 90 + 34 * len(boxes),
        "showlegend": False,
    }
    return {"data": [trace], "layout": layout}


def error_bars(widths: Sequence[float | None], colour: str) -> Figure:
    """Lines of so much to either side of points; none where nothing is known."""
    return {
        "type": "data",
        "array": [*widths],
        "visible": any(width is not None for width in widths),
        "thickness": 1,
        "width": 0,
        "color": colour,
    }


def axis(title: str) -> Figure:
    """An axis that cannot be zoomed: a finger on a phone scrolls the page instead."""
    return {"title": {"text": title, "standoff": 8}, "fixedrange": True, "automargin": True}
