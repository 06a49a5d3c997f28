"""Which benchmark drives a gain, as a chart."""

from wit.analysis.charts import Figure, axis
from wit.analysis.digits import decimals_of
from wit.analysis.grid import Gain
from wit.analysis.parts import Parts


def parts_chart(parts: Parts) -> Figure | None:
    """Gain of the best cell on each benchmark (bar), and on the mean without it (diamond).

    None: there is no gain to take apart.
    """
    known = [part for part in parts.parts if part.alone is not None or part.without is not None]
    if not known or parts.together is None or not parts.together.absolute:
        return None
    names = [part.benchmark for part in known]
    alone = [_value(part.alone) for part in known]
    without = [_value(part.without) for part in known]
    decimals = decimals_of([value for value in (*alone, *without) if value is not None])
    template = f"%{{y}}: %{{x:+.{decimals}f}}<extra>"
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": alone,
        "y": names,
        "marker": {"color": "--faint", "line": {"color": "--blue", "width": 1.5}},
        "width": 0.55,
        "hovertemplate": template + "on it alone</extra>",
    }
    diamonds = {
        "type": "scatter",
        "mode": "markers",
        "x": without,
        "y": names,
        "marker": {"symbol": "diamond", "size": 12, "color": "--best"},
        "hovertemplate": template + "mean without it</extra>",
    }
    layout = {
        "xaxis": axis("gain over instruction tuning")
        | {"zeroline": True, "zerolinecolor": "--soft"},
        "yaxis": {"fixedrange": True, "automargin": True, "autorange": "reversed"},
        "margin": {"l": 8, "r": 16, "t": 8, "b": 48},
        "height": 100 + 38 * len(names),
        "showlegend": False,
        "shapes": [_together(parts.together.absolute)],
    }
    return {"data": [bars, diamonds], "layout": layout}


def _together(gain: float) -> Figure:
    """A line at the gain on the mean of all."""
    line = {"color": "--soft", "width": 1.5, "dash": "dash"}
    return {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": gain, "x1": gain, "line": line}


def _value(gain: Gain | None) -> float | None:
    return None if gain is None else gain.absolute
