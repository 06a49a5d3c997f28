"""The report's section on alignments: how the best weights of one fare after another."""

from typing import NamedTuple

import pandas as pd

from wit.analysis import charts
from wit.analysis.alignments import AlignmentComparison, AlignmentResult, compare_alignments
from wit.analysis.digits import decimals_of, number, plus_minus
from wit.analysis.grid import Grid, StageScores, summarise
from wit.analysis.report_tables import NONE, Numbers
from wit.analysis.scores import of_alignment

STANDING = {
    "best": "the same",
    "within noise": "within the noise",
    "worse": "worse, beyond the noise",
    "unknown": NONE,
}


class AlignmentsSection(NamedTuple):
    """What the report says of several alignments."""

    sentence: str
    numbers: Numbers
    maps: dict[str, str]  # what stands above a map, by the name of its figure
    scale: charts.ColourRange  # of all maps
    figures: dict[str, charts.Figure]


def alignments_section(table: pd.DataFrame) -> AlignmentsSection | None:
    """The section; None for a study of one alignment.

    Args:
        table: Of one study, as ``wit.lineage.table`` gives it, with its objectives.
    """
    found = compare_alignments(table)
    if found is None:
        return None
    grids = [summarise(of_alignment(table, result.name)) for result in found.results]
    shared = _shared(grids)
    maps, figures = {}, {}
    for place, (result, grid) in enumerate(zip(found.results, grids, strict=True)):
        if any(cell.is_on_grid for cell in grid.dpo.cells):
            maps[f"alignment-{place}"] = _called(result)
            figures[f"alignment-{place}"] = charts.heat_map(grid.dpo, shared)
    return AlignmentsSection(
        sentence=found.sentence,
        numbers=_numbers(found, decimals_of(charts.scores_of(shared))),
        maps=maps,
        scale=charts.colour_range(shared),
        figures=figures,
    )


def _shared(grids: list[Grid]) -> Grid:
    """One grid with the cells of all, by which one colour means one score in all maps."""
    first = grids[0]
    dpo: StageScores = first.dpo.model_copy(
        update={"cells": tuple(cell for grid in grids for cell in grid.dpo.cells)}
    )
    return Grid(base=first.base, sft=first.sft, dpo=dpo)


def _called(result: AlignmentResult) -> str:
    if result.objective is None or result.beta is None:
        return result.name
    return f"{result.name} ({result.objective}, beta {result.beta:g})"


def _numbers(found: AlignmentComparison, decimals: int) -> Numbers:
    rows = [_row(result, decimals) for result in found.results]
    columns = (
        "alignment",
        "best weights",
        "their score",
        "best SFT weights",
        "gain over SFT",
        "models that gained",
    )
    return Numbers(columns, rows)


def _row(result: AlignmentResult, decimals: int) -> tuple[str, ...]:
    best, gain = result.best, result.gain
    score = NONE if best is None else plus_minus(best.score, best.half_width, decimals)
    mean = share = NONE
    if gain is not None:
        mean = number(gain.mean, decimals, is_signed=True)
        if gain.half_width is not None:
            mean += f" ± {number(gain.half_width, decimals)}"
        share = f"{100 * gain.share:.0f} % of {gain.num_models}"
    weights = NONE if best is None else best.weights
    return _called(result), weights, score, STANDING[result.sft_best], mean, share
