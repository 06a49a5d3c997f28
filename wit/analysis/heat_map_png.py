"""The heat maps of a study as a picture, for pages that draw none themselves, such as Prefect's."""

import base64
from io import BytesIO
from typing import TYPE_CHECKING, Any

from wit.analysis.charts import BEST, MAX_COLUMNS, ColourRange, colour_range, scores_of
from wit.analysis.digits import decimals_of, number
from wit.analysis.grid import Grid, StageScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELL_INCHES = 0.62
DOTS_PER_INCH = 110
TITLES = {"sft": "after SFT", "dpo": "after DPO"}


def heat_maps(grid: Grid) -> str | None:
    """Scores over the weights before and after DPO, on one colour scale, the best cells framed.

    Returns:
        A PNG as a ``data:`` address; None where no cell lies on the grid.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cells = [c for stage in (grid.sft, grid.dpo) for c in stage.cells if c.is_on_grid]
    if not cells:
        return None
    across = sorted({c.prompt_weight for c in cells if c.prompt_weight is not None})
    up = sorted({c.response_weight for c in cells if c.response_weight is not None})
    size = (2 * (CELL_INCHES * len(across) + 1), CELL_INCHES * len(up) + 1)
    picture = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    scale, decimals = colour_range(grid), decimals_of(scores_of(grid))
    axes: Any = picture.subplots(1, 2, sharey=True)
    for place, (name, title) in zip(axes, TITLES.items(), strict=True):
        _draw(place, getattr(grid, name), (across, up), scale, decimals)
        place.set_title(title, fontsize=10)
    axes[0].set_ylabel("response weight λr", fontsize=9)
    content = BytesIO()
    picture.savefig(content, format="png")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _draw(
    axes: "Axes",
    stage: StageScores,
    places: tuple[list[float], list[float]],
    scale: ColourRange,
    decimals: int,
) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    across, up = places
    is_less_better = scale.best < scale.worst
    colours = colormaps["cividis_r" if is_less_better else "cividis"]
    colour = Normalize(min(scale.worst, scale.best), max(scale.worst, scale.best), clip=True)
    for cell in stage.cells:
        if not cell.is_on_grid:
            continue
        x, y = across.index(cell.prompt_weight or 0.0), up.index(cell.response_weight or 0.0)
        is_best = cell == stage.best
        square = Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, facecolor=colours(colour(cell.score)))
        square.set(edgecolor=BEST if is_best else "white", linewidth=2.5 if is_best else 1)
        axes.add_patch(square)
        if len(across) <= MAX_COLUMNS or is_best:
            is_dark = (cell.score - scale.worst) / (scale.best - scale.worst) < 0.5
            axes.text(
                x,
                y,
                number(cell.score, decimals),
                ha="center",
                va="center",
                fontsize=9 if len(across) <= 7 else 7,
                fontweight="bold" if is_best else "normal",
                color="white" if is_dark else "#111111",
            )
    axes.set(xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5), aspect="equal")
    axes.set_xticks(range(len(across)), [f"{p:g}" for p in across], fontsize=8)
    axes.set_yticks(range(len(up)), [f"{r:g}" for r in up], fontsize=8)
    axes.set_xlabel("prompt weight λp", fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
