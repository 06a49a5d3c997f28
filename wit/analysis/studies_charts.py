"""Charts of many studies side by side: plotly figures as plain JSON.

A chart and the table of its numbers are made from the same lines, so they cannot disagree.
"""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

from wit.analysis.charts import Figure
from wit.analysis.digits import number
from wit.analysis.resampling import Estimate

# After Okabe and Ito, for colour-blind readers, with a blue that is seen on dark paper too; shapes
# tell series apart without colour.
COLOURS = ("#2b8fd0", "#d55e00", "#009e73")
SHAPES = ("circle", "diamond", "square")
SIGNS = ("●", "◆", "■")  # the same shapes, for the legend
BAND = "rgba(128, 134, 142, 0.28)"  # readable on white and on dark paper
ZERO = "#868c94"
ROW_HEIGHT = 40  # pixels
MAX_IN_ONE = 16  # letters of a name in one row
GAIN = "gain over (0, 1), %"
SERIES = ("before DPO", "after DPO", "DPO from the best SFT cell")
MEAN = "mean of studies"


class Point(NamedTuple):
    """A figure with its interval."""

    value: float
    low: float | None = None  # None: no interval
    high: float | None = None
    is_hollow: bool = False  # within the noise
    band: float | None = None  # from 0: what noise alone may do


class Line(NamedTuple):
    """One row of a chart: a study, or a choice, or an angle."""

    name: str
    points: tuple[Point | None, ...]  # one per series
    is_mean: bool = False
    at: float | None = None  # place on the x axis of a curve, in degrees; None: in the table only


class Chart(NamedTuple):
    """A chart and the table of its numbers."""

    name: str  # of its place on the page
    what: str  # for those who do not see it
    axis: str
    series: tuple[str, ...]
    lines: tuple[Line, ...]
    digits: int = 2  # behind the point

    @property
    def legend(self) -> list[tuple[str, str, str]]:
        """Sign, colour and name of each series."""
        return list(zip(SIGNS, COLOURS, self.series, strict=False))

    @property
    def has_bands(self) -> bool:
        """Whether it shows what noise alone may do."""
        return any(p is not None and p.band is not None for li in self.lines for p in li.points)


class Section(NamedTuple):
    """A chart under its heading."""

    title: str
    words: str  # soft, above the chart
    chart: Chart

    @property
    def figure(self) -> Figure:
        """The chart as plotly takes it."""
        is_curve = any(line.at is not None for line in self.chart.lines)
        return curve(self.chart) if is_curve else dot_plot(self.chart)


def point_of(found: Estimate | None) -> Point | None:
    """The figure as a point."""
    return None if found is None else Point(found.value, found.low, found.high)


def dot_plot(chart: Chart) -> Figure:
    """One row per line, values across; means apart at the bottom."""
    places = _places(chart.lines)
    traces: list[Figure] = []
    shapes = [_line_at_zero()]
    for index, series in enumerate(chart.series):
        offset = (index - (len(chart.series) - 1) / 2) * 0.24
        pairs = [
            (line.points[index], p + offset) for line, p in zip(chart.lines, places, strict=True)
        ]
        known = [(point, at) for point, at in pairs if point is not None]
        traces += _traces(index, series, known, chart.digits, is_across=True)
        shapes += [_band(point.band, at) for point, at in known if point.band is not None]
    is_long = any(len(line.name) > MAX_IN_ONE for line in chart.lines)
    names = [_tick(line, is_long) for line in chart.lines]
    bottom = max(places, default=0.0) + 0.6
    layout = {
        "xaxis": _axis(chart.axis) | _range_of_bands(chart),
        "yaxis": {
            "tickvals": places,
            "ticktext": names,
            "range": [bottom, -0.6],
            "fixedrange": True,
            "automargin": True,
        },
        "margin": {"l": 14, "r": 14, "t": 8, "b": 48},
        "height": int(ROW_HEIGHT * (bottom + 0.6)) + 64,
        "showlegend": False,
        "shapes": shapes,
    }
    return {"data": traces, "layout": layout}


# Names of objectives by their angle in degrees, far enough from each other to be read.
TICKS = {
    math.degrees(math.atan2(prompt, response)): f"{prompt} : {response}"
    for prompt, response in ((0, 1), (1, 4), (1, 2), (1, 1), (2, 1), (4, 1), (1, 0))
}


def curve(chart: Chart) -> Figure:
    """Values over the angle of a ray."""
    traces: list[Figure] = []
    for index, series in enumerate(chart.series):
        offset = (index - (len(chart.series) - 1) / 2) * 0.8
        known = [
            (point, line.at + offset)
            for line in chart.lines
            if line.at is not None and (point := line.points[index]) is not None
        ]
        traces += _traces(index, series, known, chart.digits, is_across=False)
    layout = {
        "xaxis": _axis("objective: prompt to response weight, by angle")
        | {"tickvals": list(TICKS), "ticktext": list(TICKS.values()), "range": [-3, 93]},
        "yaxis": _axis(chart.axis),
        "margin": {"l": 56, "r": 12, "t": 8, "b": 52},
        "height": 400,
        "showlegend": False,
        "shapes": [_line_at_zero() | {"xref": "paper", "x1": 1, "yref": "y", "y1": 0}],
    }
    return {"data": traces, "layout": layout}


def _traces(
    index: int, name: str, points: Sequence[tuple[Point, float]], digits: int, is_across: bool
) -> list[Figure]:
    """One for points with an interval, one for those without: plotly bars all or none."""
    sides = [[p for p in points if (p[0].low is None) == is_bare] for is_bare in (False, True)]
    return [_trace(index, name, side, digits, is_across) for side in sides if side]


def _trace(
    index: int, name: str, points: Sequence[tuple[Point, float]], digits: int, is_across: bool
) -> Figure:
    values, places = [p.value for p, _ in points], [at for _, at in points]
    colour = COLOURS[index % len(COLOURS)]
    bars, none = _error([p for p, _ in points]), {"type": "data", "array": [], "visible": False}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": values if is_across else places,
        "y": places if is_across else values,
        "error_x": bars if is_across else none,
        "error_y": none if is_across else bars,
        "customdata": [_hover(name, point, digits) for point, _ in points],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {
            "size": 9,
            "symbol": [
                SHAPES[index % len(SHAPES)] + "-open" * point.is_hollow for point, _ in points
            ],
            "color": colour,
            "line": {"color": colour, "width": 1.5},
        },
        "cliponaxis": False,
    }


def _error(points: Sequence[Point]) -> Figure:
    return {
        "type": "data",
        "symmetric": False,
        "array": [0 if p.high is None else p.high - p.value for p in points],
        "arrayminus": [0 if p.low is None else p.value - p.low for p in points],
        "visible": any(p.low is not None for p in points),
        "thickness": 1.2,
        "width": 3,
    }


def _hover(name: str, point: Point, digits: int) -> str:
    interval = ""
    if point.low is not None and point.high is not None:
        interval = f"<br>[{number(point.low, digits)}, {number(point.high, digits)}]"
    return f"{html.escape(name)}<br><b>{number(point.value, digits)}</b>{interval}"


def _places(lines: Sequence[Line]) -> list[float]:
    """Rows from the top; the means stand a little apart."""
    places, at = [], 0.0
    for before, line in zip([None, *lines], lines, strict=False):
        if before is not None and line.is_mean and not before.is_mean:
            at += 0.35
        places.append(at)
        at += 1
    return places


def _tick(line: Line, is_long: bool) -> str:
    """The name, in two rows where it has two parts and some are long: phones are narrow."""
    name = html.escape(line.name).replace("\n", "<br>")
    name = name.replace("/", "<br>", 1) if is_long else name
    return f"<b>{name}</b>" if line.is_mean else name


def _band(end: float, at: float) -> Figure:
    return {
        "type": "rect",
        "layer": "below",
        "x0": 0,
        "x1": end,
        "y0": at - 0.11,
        "y1": at + 0.11,
        "fillcolor": BAND,
        "line": {"width": 0},
    }


def _range_of_bands(chart: Chart) -> Figure:
    """Plotly does not make room for bands by itself."""
    if not chart.has_bands:
        return {}
    points = [point for line in chart.lines for point in line.points if point is not None]
    ends = [v for p in points for v in (p.value, p.low, p.high, p.band) if v is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = 0.04 * (high - low)
    return {"range": [low - room, high + room]}


def _line_at_zero() -> Figure:
    line = {"color": ZERO, "width": 1}
    return {
        "type": "line",
        "layer": "below",
        "x0": 0,
        "x1": 0,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": line,
    }


def _axis(title: str) -> Figure:
    return {"title": {"text": title, "standoff": 8}, "fixedrange": True, "automargin": True}
