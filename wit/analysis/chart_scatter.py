"""SFT score against DPO score, one point per cell; cells that score alike are one point."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from wit.analysis.charts import FAR, Figure, axis, error_bars, scores_of, worst_of_most
from wit.analysis.digits import decimals_of, plus_minus
from wit.analysis.grid import CellScore, Grid
from wit.analysis.scores import INSTRUCTION_TUNING

MAX_LABELLED = 12  # points; with more, only those are named that a sentence speaks of
MAX_NAMES = 3  # at one point; more are counted
SAME = 0.004  # share of the range; closer points are one to the eye


class Point(NamedTuple):
    """Cells with the same two scores, as far as one can see."""

    cells: list[tuple[CellScore, CellScore]]  # before and after

    @property
    def place(self) -> tuple[float, float]:
        """Scores before and after, of the first."""
        return self.cells[0][0].score, self.cells[0][1].score

    def has(self, cell: CellScore | None) -> bool:
        """Whether the cell is here."""
        return cell is not None and any(c.weights == cell.weights for c, _ in self.cells)

    @property
    def label(self) -> str:
        """Names of the cells, or how many they are."""
        if len(self.cells) > MAX_NAMES:
            return f"{len(self.cells)} pairs"
        return ", ".join(cell.weights for cell, _ in self.cells)


class Axis(NamedTuple):
    """What an axis has room for: a few scores that are far worse lie on its edge."""

    low: float
    high: float
    floor: float
    is_less_better: bool

    def is_beyond(self, score: float) -> bool:
        """Whether the score is far worse than the rest."""
        return score > self.floor if self.is_less_better else score < self.floor

    def place(self, score: float) -> float:
        """Where the score is drawn."""
        edge = self.high if self.is_less_better else self.low
        return edge if self.is_beyond(score) else score


def scatter(grid: Grid) -> Figure:
    """DPO score over SFT score; marked are the best cell after DPO and the one before it."""
    best = grid.dpo.shared_with(grid.sft).best
    chosen = grid.sft.shared_with(grid.dpo).best
    # The first label stays where two would meet, so what matters comes first.
    points = sorted(points_of(grid), key=lambda p: (not p.has(best), not p.has(chosen)))
    across, up = (
        _axis_of([point.cells[0][side] for point in points], grid.dpo.is_less_better)
        for side in (0, 1)
    )
    places = [(across.place(x), up.place(y)) for x, y in (point.place for point in points)]
    known = (best, chosen, grid.dpo.cell(INSTRUCTION_TUNING))
    is_labelled = len(points) <= MAX_LABELLED
    labels = [p.label if is_labelled or any(map(p.has, known)) else "" for p in points]
    marks = [_mark(point, best, chosen, across, up) for point in points]
    trace = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [x for x, _ in places],
        "y": [y for _, y in places],
        "error_x": _error([point.cells[0][0] for point in points], across),
        "error_y": _error([point.cells[0][1] for point in points], up),
        "text": labels,
        "textposition": _label_corners(places, labels),
        "customdata": [_hover_text(point, decimals_of(scores_of(grid))) for point in points],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {
            "size": 12,
            "symbol": [symbol for symbol, _ in marks],
            "color": [colour for _, colour in marks],
            "opacity": 1,
        },
        "cliponaxis": False,
    }
    less = ", less is better" if grid.dpo.is_less_better else ""
    layout = {
        "xaxis": axis(f"score after SFT{less}") | {"range": [across.low, across.high]},
        "yaxis": axis(f"score after DPO{less}") | {"range": [up.low, up.high]},
        "margin": {"l": 64, "r": 16, "t": 16, "b": 52},
        "height": 420,
        "showlegend": False,
    }
    return {"data": [trace], "layout": layout}


def _axis_of(cells: Sequence[CellScore], is_less_better: bool) -> Axis:
    sign = -1 if is_less_better else 1
    floor = sign * worst_of_most([sign * cell.score for cell in cells]) if cells else 0.0
    known = Axis(0.0, 0.0, floor, is_less_better)
    shown = [cell for cell in cells if not known.is_beyond(cell.score)]
    low = min((cell.score - (cell.half_width or 0) for cell in shown), default=0.0)
    high = max((cell.score + (cell.half_width or 0) for cell in shown), default=1.0)
    space = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return known._replace(low=low - space, high=high + space)


def points_of(grid: Grid) -> list[Point]:
    """Points of the cells that have both scores."""
    both = [(cell, after) for cell in grid.sft.cells if (after := grid.dpo.cell(cell.weights))]
    if not both:
        return []
    near = [SAME * (max(side) - min(side)) for side in _sides(both)]
    points: list[Point] = []
    for pair in both:
        place = pair[0].score, pair[1].score
        for point in points:
            apart = (abs(a - b) for a, b in zip(point.place, place, strict=True))
            if all(gap <= most for gap, most in zip(apart, near, strict=True)):
                point.cells.append(pair)
                break
        else:
            points.append(Point([pair]))
    return points


def _sides(both: Sequence[tuple[CellScore, CellScore]]) -> list[list[float]]:
    return [[pair[side].score for pair in both] for side in (0, 1)]


def _mark(
    point: Point, best: CellScore | None, chosen: CellScore | None, across: Axis, up: Axis
) -> tuple[str, str]:
    """Symbol and colour; two signs for each mark, so that neither colour nor shape is needed."""
    if point.has(best):
        return "diamond", "--best"
    if point.has(chosen):
        return "square-open", "--best"
    if any(axis.is_beyond(s) for axis, s in zip((across, up), point.place, strict=True)):
        return FAR[1 if up.is_less_better else -1], "--blue"
    return "circle", "--blue"


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


def _error(cells: Sequence[CellScore], axis: Axis) -> Figure:
    widths = [None if axis.is_beyond(cell.score) else cell.half_width for cell in cells]
    return error_bars(widths, "--band")


def _hover_text(point: Point, decimals: int) -> str:
    lines = []
    for before, after in point.cells:
        sft, dpo = (plus_minus(c.score, c.half_width, decimals) for c in (before, after))
        lines.append(f"<b>{after.weights}</b><br>SFT {sft}<br>DPO {dpo}")
    return "<br>".join(lines[:MAX_NAMES])
