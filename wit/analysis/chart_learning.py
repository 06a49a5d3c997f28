"""What was learned over what was kept, a curve for each way of SFT and a point for each epoch."""

from collections.abc import Sequence

from wit.analysis.charts import Figure, axis, error_bars
from wit.analysis.digits import decimals_of, plus_minus
from wit.analysis.tunings import Learning, Score, TuningComparison
from wit.analysis.wording import seeds_in_words

# Okabe and Ito's colours: safe for colour-blind readers, on light and on dark.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


def learning_chart(found: TuningComparison, stage: str) -> Figure | None:
    """One stage: kept across, learned up; None where there is no point with both.

    Args:
        found: The tunings of a study.
        stage: sft or dpo.
    """
    points = [point for point in found.points if point.stage == stage and point.kept]
    if not points:
        return None
    curves = list(dict.fromkeys(point.curve for point in found.points))
    traces = [
        _trace(curves.index(curve), curve, [point for point in points if point.curve == curve])
        for curve in dict.fromkeys(point.curve for point in points)
    ]
    if found.base is not None and found.base.kept is not None:
        traces.append(_base(found.base))
    layout = {
        "xaxis": axis(f"kept ({found.kept_is})"),
        "yaxis": axis(f"learned ({found.learned_is})"),
        "margin": {"l": 64, "r": 16, "t": 16, "b": 52},
        "height": 460,
        "showlegend": True,
        "legend": {"orientation": "h", "y": -0.22, "x": 0},
    }
    return {"data": traces, "layout": layout}


def _trace(place: int, curve: str, points: Sequence[Learning]) -> Figure:
    colour = COLOURS[place % len(COLOURS)]
    return {
        "type": "scatter",
        "mode": "lines+markers+text",
        "name": curve,
        "x": [point.kept.value for point in points if point.kept],
        "y": [point.learned.value for point in points],
        "error_x": _error([point.kept for point in points], colour),
        "error_y": _error([point.learned for point in points], colour),
        "text": ["" if point.num_epochs is None else str(point.num_epochs) for point in points],
        "textposition": "top right",
        "customdata": [_hover_text(point) for point in points],
        "hovertemplate": "%{customdata}<extra></extra>",
        "line": {"color": colour, "width": 1.5},
        "marker": {"size": 10, "symbol": SYMBOLS[place % len(SYMBOLS)], "color": colour},
        "cliponaxis": False,
    }


def _base(base: Learning) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "base",
        "x": [base.kept.value] if base.kept else [],
        "y": [base.learned.value],
        "customdata": [_hover_text(base)],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {"size": 12, "symbol": "star", "color": "--ink"},
        "cliponaxis": False,
    }


def _error(scores: Sequence[Score | None], colour: str) -> Figure:
    return error_bars([None if score is None else score.half_width for score in scores], colour)


def _hover_text(point: Learning) -> str:
    decimals = decimals_of([point.learned.value])
    lines = [f"<b>{point.tuning}</b>"]
    for name, score in (("learned", point.learned), ("kept", point.kept)):
        if score is not None:
            lines.append(f"{name} {plus_minus(score.value, score.half_width, decimals)}")
    seeds = seeds_in_words(point.learned.num_seeds, point.kept and point.kept.num_seeds)
    return "<br>".join([*lines, seeds])
