"""Weights that were not trained, for they are the same objective as others: shown, never counted.

A replicate has no model. What is told of it is told of the model of its objective, so in any
statistic it would pass for a run without noise; only tables and maps have it.
"""

import pandas as pd

from wit.analysis.grid import CellScore, Grid, StageScores, in_order
from wit.lineage.cells import cell_columns


def replicates_in(table: pd.DataFrame) -> dict[str, str]:
    """Weights that a study did not train, each with those whose models stand for theirs too.

    Args:
        table: As ``wit.lineage.table`` gives it; of any other, nothing is known.
    """
    return table.attrs.get("replicates", {})


def pair_of(weights: str) -> tuple[float | None, float | None]:
    """Prompt and response weight, by the name of a pair."""
    columns = cell_columns(f"{weights}-s0")
    return columns.get("prompt_weight"), columns.get("response_weight")


def shown_grid(grid: Grid, replicates: dict[str, str]) -> Grid:
    """The grid with its replicates, as maps and tables show it."""
    sft, dpo = (shown_stage(stage, replicates) for stage in (grid.sft, grid.dpo))
    return grid.model_copy(update={"sft": sft, "dpo": dpo})


def shown_stage(stage: StageScores, replicates: dict[str, str]) -> StageScores:
    """The cells of a stage with its replicates, each of which has the scores of its objective."""
    known = {cell.weights: cell for cell in stage.cells}
    added = [_as(other, known[first]) for other, first in replicates.items() if first in known]
    return stage.with_cells(in_order([*stage.cells, *added]))


def _as(weights: str, trained: CellScore) -> CellScore:
    prompt, response = pair_of(weights)
    return trained.model_copy(
        update={
            "weights": weights,
            "prompt_weight": prompt,
            "response_weight": response,
            "replicate_of": trained.weights,
        }
    )
