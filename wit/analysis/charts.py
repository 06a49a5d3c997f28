"""Plotly figures of the report, as plain JSON; colours of ink and paper come from the page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from wit.analysis.grid import INSTRUCTION_TUNING, CellScore, Grid, StageScores

Figure = dict[str, Any]
# Even in lightness and safe for colour-blind readers; the same in the legend of the page.
SCALE = "Cividis"
SCALE_STOPS = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838")
BEST = "#d55e00"  # vermilion: stands out on the scale, in light and in dark
FAR_OUT = 3.0  # quartile distances below the lower quartile, Tukey's "far out"
MAX_LABELLED = 12  # cells; with more, labels would cover each other


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
    both = (*grid.sft.cells, *grid.dpo.cells)
    scores = sorted(sign * cell.score for cell in both) or [0.0]
    first, third = np.quantile(scores, [0.25, 0.75])
    fence = float(first - FAR_OUT * (third - first))
    low = min(score for score in scores if score >= fence)
    high = max(scores[-1], low + 1e-9)
    return ColourRange(sign * low, sign * high, is_clipped=scores[0] < fence)


def heat_map(stage: StageScores, grid: Grid) -> Figure:
    """Scores over prompt weight (across) and response weight (up); a gap is no score."""
    cells = {(c.prompt_weight, c.response_weight): c for c in stage.cells if c.is_on_grid}
    everywhere = [c for s in (grid.sft, grid.dpo) for c in s.cells if c.is_on_grid]
    across = sorted({c.prompt_weight for c in everywhere if c.prompt_weight is not None})
    up = sorted({c.response_weight for c in everywhere if c.response_weight is not None})
    scale = colour_range(grid)
    rows = [[cells.get((p, r)) for p in across] for r in up]
    heat = {
        "type": "heatmap",
        "x": [f"{p:g}" for p in across],
        "y": [f"{r:g}" for r in up],
        "z": [[None if c is None else c.score for c in row] for row in rows],
        "customdata": [[_hover_text(c) for c in row] for row in rows],
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
        "xaxis": _axis("prompt weight λ<sub>p</sub>") | {"type": "category"},
        "yaxis": _axis("response weight λ<sub>r</sub>") | {"type": "category"},
        "margin": {"l": 56, "r": 8, "t": 8, "b": 48},
        "height": max(250, 66 * len(up) + 130),
        "shapes": [] if stage.best is None else _frame(stage.best, across, up),
        "annotations": [
            _label(cell, cell == stage.best, scale, (x, y), len(across))
            for y, row in enumerate(rows)
            for x, cell in enumerate(row)
            if cell is not None
        ],
    }
    return {"data": [heat], "layout": layout}


def _label(
    cell: CellScore, is_best: bool, scale: ColourRange, place: tuple[int, int], num_columns: int
) -> Figure:
    """The numbers on a cell, in white or black, whichever can be read on its colour."""
    score = f"<b>{cell.score:.3f}</b>" if is_best else f"{cell.score:.3f}"
    is_roomy = num_columns <= 4
    is_dark = (cell.score - scale.worst) / (scale.best - scale.worst) < 0.5
    return {
        "x": place[0],  # Plotly takes a category that looks like a number for a position
        "y": place[1],
        "text": f"{score}<br>{_interval_and_seeds(cell)}" if is_roomy else score,
        "showarrow": False,
        "captureevents": False,
        "font": {
            "color": "#ffffff" if is_dark else "#111111",
            "size": 12 if num_columns < 7 else 9,
        },
    }


def _interval_and_seeds(cell: CellScore) -> str:
    interval = "" if cell.half_width is None else f"± {cell.half_width:.3f}<br>"
    return interval + ("1 seed" if cell.num_seeds == 1 else f"{cell.num_seeds} seeds")


def _frame(
    best: CellScore, across: Sequence[float | None], up: Sequence[float | None]
) -> list[Figure]:
    if not best.is_on_grid:
        return []
    x, y = across.index(best.prompt_weight), up.index(best.response_weight)
    box = {"x0": x - 0.48, "x1": x + 0.48, "y0": y - 0.48, "y1": y + 0.48}
    return [{"type": "rect", "line": {"color": BEST, "width": 3}, **box}]


def _hover_text(cell: CellScore | None) -> str:
    if cell is None:
        return ""
    return f"<b>{cell.weights}</b><br>{cell.score:.4f}<br>{_interval_and_seeds(cell)}"


def scatter(grid: Grid) -> Figure:
    """DPO score over SFT score, one point per cell that has both."""
    both = [(c, after) for c in grid.sft.cells if (after := grid.dpo.cell(c.weights))]
    is_labelled = len(both) <= MAX_LABELLED
    named = {INSTRUCTION_TUNING}
    named |= {stage.best.weights for stage in (grid.sft, grid.dpo) if stage.best is not None}
    best = grid.dpo.best
    points = [(before.score, after.score) for before, after in both]
    labels = [c.weights if is_labelled or c.weights in named else "" for c, _ in both]
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [x for x, _ in points],
                "y": [y for _, y in points],
                "error_x": _error([before for before, _ in both]),
                "error_y": _error([after for _, after in both]),
                "text": labels,
                "textposition": _label_corners(points, labels),
                "customdata": [_pair_text(before, after) for before, after in both],
                "hovertemplate": "%{customdata}<extra></extra>",
                "marker": {
                    "size": 11,
                    "color": [
                        BEST if best is not None and c.weights == best.weights else "#0072b2"
                        for c, _ in both
                    ],
                },
                "cliponaxis": False,
            }
        ],
        "layout": {
            "xaxis": _axis("score after SFT"),
            "yaxis": _axis("score after DPO"),
            "margin": {"l": 64, "r": 16, "t": 16, "b": 52},
            "height": 420,
            "showlegend": False,
        },
    }


def _label_corners(points: Sequence[tuple[float, float]], texts: Sequence[str]) -> list[str]:
    """For every point the corner with most room for its label: away from points and labels."""
    if not points:
        return []
    sides = list(zip(*points, strict=True))
    scaled = [
        tuple(
            (v - min(side)) / (max(side) - min(side) or 1) for v, side in zip(p, sides, strict=True)
        )
        for p in points
    ]
    names = {(-1, 1): "top left", (1, 1): "top right", (-1, -1): "bottom left"}
    names[1, -1] = "bottom right"
    placed: list[tuple[float, float]] = []
    corners = []
    for (x, y), text in zip(scaled, texts, strict=True):
        # About where the middle of the label would stand, in shares of the figure.
        middles = {c: (x + 0.07 * c[0], y + 0.06 * c[1]) for c in names}
        others = [other for other in scaled if other != (x, y)] + placed
        best = max(names, key=lambda c, m=middles, o=others: _room(m[c], o))
        corners.append(names[best])
        placed += [middles[best]] if text else []
    return corners


def _room(place: tuple[float, float], others: Sequence[tuple[float, ...]]) -> float:
    """Distance to the nearest of ``others``, or to the left and right edge and the top."""
    to_others = [math.hypot(place[0] - x, place[1] - y) for x, y in others]
    return min([*to_others, place[0] + 0.05, 1.05 - place[0]])


def _error(cells: Sequence[CellScore]) -> Figure:
    widths = [cell.half_width for cell in cells]
    return {
        "type": "data",
        "array": widths,
        "visible": any(width is not None for width in widths),
        "thickness": 1,
        "width": 3,
    }


def _pair_text(before: CellScore, after: CellScore) -> str:
    return f"<b>{after.weights}</b><br>SFT {before.score:.4f}<br>DPO {after.score:.4f}"


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
        "xaxis": _axis("tokens") | {"rangemode": "tozero"},
        "yaxis": {"fixedrange": True, "automargin": True, "autorange": "reversed"},
        "margin": {"l": 8, "r": 16, "t": 8, "b": 48},
        "height": 90 + 34 * len(boxes),
        "showlegend": False,
    }
    return {"data": [trace], "layout": layout}


def _axis(title: str) -> Figure:
    return {"title": {"text": title, "standoff": 8}, "fixedrange": True, "automargin": True}
