"""Accuracy against steps, as a picture: a line and its interval for each method."""

from pathlib import Path
from typing import Any

from wit.analysis.studies_charts import ZERO
from wit.bench.memorisation_results import Curve, Memorisation

DOTS_PER_INCH = 110
# Safe for colour-blind readers (Okabe and Ito); one family of methods has one colour.
COLOURS = {"full": "#000000", "lora": "#0072b2", "dora": "#009e73", "mora": "#d55e00"}
DASHES = ("-", "--", ":")  # of a family's methods, in their order


def write_figure(found: Memorisation, path: Path) -> None:
    """Writes the picture.

    Args:
        found: What was measured.
        path: A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(8, 4.6), dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    axes: Any = picture.subplots()
    drawn: dict[str, int] = {}
    for curve in found.curves:
        family = curve.method.partition("-")[0]
        style = DASHES[drawn.get(family, 0) % len(DASHES)]
        drawn[family] = drawn.get(family, 0) + 1
        _draw(axes, curve, found.steps, COLOURS.get(family, ZERO), style)
    axes.axhline(found.without_keys.value, color=ZERO, linewidth=0.8)
    axes.annotate(
        "one response to all keys",
        (found.steps[-1], found.without_keys.value),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        color=ZERO,
        fontsize=8,
    )
    axes.set(
        xlabel=f"optimizer steps of {found.pairs_per_step} pairs",
        ylabel=f"hex digits recalled, of {found.num_pairs} pairs",
        xlim=(found.steps[0], found.steps[-1]),
        xticks=found.steps,
        ylim=(0, 1.02),
    )
    axes.legend(fontsize=8, frameon=False)
    picture.savefig(path, format="png")


def _draw(axes: Any, curve: Curve, steps: tuple[int, ...], colour: str, style: str) -> None:
    means = [mean.value for mean in curve.accuracies]
    label = f"{curve.method}, {curve.num_trained:,} weights"
    axes.plot(steps, means, style, color=colour, label=label, marker="o", markersize=3)
    widths = [mean.half_width or 0.0 for mean in curve.accuracies]
    lows, highs = (
        [min(1.0, max(0.0, mean + sign * width)) for mean, width in zip(means, widths, strict=True)]
        for sign in (-1, 1)
    )
    axes.fill_between(steps, lows, highs, color=colour, alpha=0.12, linewidth=0)
