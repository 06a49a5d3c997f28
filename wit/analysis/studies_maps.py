"""Small maps of grids, side by side: what SVG needs to draw them."""

from collections.abc import Iterable
from typing import NamedTuple

from wit.analysis.charts import SCALE_STOPS, ColourRange, colour_range
from wit.analysis.digits import decimals_of, number
from wit.analysis.grid import CellScore, Grid, StageScores

MAP_CELL = 14  # pixels


class MapCell(NamedTuple):
    """One square of a small map."""

    x: int
    y: int
    colour: str
    text: str
    is_best: bool


class SmallMap(NamedTuple):
    """Scores of a stage over prompt weight (across) and response weight (up)."""

    width: int
    height: int
    cells: tuple[MapCell, ...]
    worst: float  # score of the darkest colour
    best: float  # of the brightest


def small_map(stage: StageScores, grid: Grid) -> SmallMap | None:
    """A small map with a colour range of its own; None where there are no scores to colour."""
    cells = [c for c in stage.cells if c.is_on_grid]
    if not cells:
        return None
    across = _sorted(c.prompt_weight for c in cells)
    up = _sorted(c.response_weight for c in cells)[::-1]
    digits = 1 + decimals_of(c.score for c in cells)  # differences are smaller than scores
    scale = colour_range(grid.model_copy(update={"sft": stage, "dpo": stage}))
    squares = [
        MapCell(
            x=MAP_CELL * across.index(c.prompt_weight or 0),
            y=MAP_CELL * up.index(c.response_weight or 0),
            colour=_colour(c, scale),
            text=f"{c.weights}: {number(c.score, digits)}",
            is_best=c == stage.best,
        )
        for c in cells
    ]
    squares.sort(key=lambda square: square.is_best)  # its frame lies on its neighbours
    return SmallMap(
        MAP_CELL * len(across), MAP_CELL * len(up), tuple(squares), scale.worst, scale.best
    )


def _sorted(values: Iterable[float | None]) -> list[float]:
    return sorted({value for value in values if value is not None})


def _colour(cell: CellScore, scale: ColourRange) -> str:
    share = min(1.0, max(0.0, (cell.score - scale.worst) / (scale.best - scale.worst)))
    place = share * (len(SCALE_STOPS) - 1)
    first = min(int(place), len(SCALE_STOPS) - 2)
    pair = [bytes.fromhex(stop[1:]) for stop in SCALE_STOPS[first : first + 2]]
    mixed = [round(a + (b - a) * (place - first)) for a, b in zip(*pair, strict=True)]
    return "#" + bytes(mixed).hex()
