"""The report's section on alignments: how the best weights of one fare after another."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from wit.analysis import charts
from wit.analysis.alignment_changes import MARK
from wit.analysis.alignments import AlignmentComparison, AlignmentResult, compare_alignments
from wit.analysis.collapse import Collapse
from wit.analysis.digits import decimals_of, number, plus_minus
from wit.analysis.grid import Grid, stage_scores, summarise
from wit.analysis.replicates import replicates_in, shown_grid
from wit.analysis.report_tables import NONE, Numbers
from wit.analysis.score_labels import signal_name
from wit.analysis.scores import of_alignment, rows_of
from wit.score_names import KL_REFERENCE, NLL_CHOSEN, REWARD_ACCURACY, SAMPLED_TOKENS

CHANGES = (KL_REFERENCE, NLL_CHOSEN, REWARD_ACCURACY, SAMPLED_TOKENS)
TO = " \N{RIGHTWARDS ARROW} "  # between what was before and what is after
STANDING = {
    "best": "the same",
    "within noise": "within the noise",
    "worse": "worse, beyond the noise",
    "worse, noise unknown": "worse; noise unknown",
    "unknown": NONE,
}


class AlignmentsSection(NamedTuple):
    """What the report says of several alignments."""

    sentence: str
    numbers: Numbers
    changes: Numbers  # what each changed
    maps: dict[str, str]  # what stands above a map, by the name of its figure
    scale: charts.ColourRange  # of all maps
    figures: dict[str, charts.Figure]


def alignments_section(
    table: pd.DataFrame, collapsed: Sequence[Collapse]
) -> AlignmentsSection | None:
    """The section; None for a study of one alignment.

    Args:
        table: Of one study and one way of SFT, as ``wit.lineage.table`` gives it, with its
            objectives.
        collapsed: Its models that collapsed, after any alignment.
    """
    found = compare_alignments(table)
    if found is None:
        return None
    trained = [summarise(of_alignment(table, result.name)) for result in found.results]
    grids = [shown_grid(grid, replicates_in(table)) for grid in trained]
    shared = _shared(grids)
    maps, figures = {}, {}
    for place, (result, grid) in enumerate(zip(found.results, grids, strict=True)):
        if any(cell.is_on_grid for cell in grid.dpo.cells):
            maps[f"alignment-{place}"] = _called(result)
            figures[f"alignment-{place}"] = charts.heat_map(grid.dpo, shared)
    return AlignmentsSection(
        sentence=found.sentence,
        numbers=_numbers(found, decimals_of(charts.scores_of(shared))),
        changes=_changes(table, found, collapsed),
        maps=maps,
        scale=charts.colour_range(shared),
        figures=figures,
    )


def _shared(grids: list[Grid]) -> Grid:
    """One grid with the cells of all, by which one colour means one score in all maps."""
    first = grids[0]
    dpo = first.dpo.with_cells(cell for grid in grids for cell in grid.dpo.cells)
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


def _changes(
    table: pd.DataFrame, found: AlignmentComparison, collapsed: Sequence[Collapse]
) -> Numbers:
    """What each alignment changed, means over its models; of figures that any of them has."""
    main, *_ = found.results
    tables = [of_alignment(table, result.name) for result in found.results]
    columns = {"": [_called(result) for result in found.results]}
    counts = [
        sum(one.alignment == (None if result is main else result.name) for one in collapsed)
        for result in found.results
    ]
    columns["collapsed models"] = [
        f"{count} of {_num_models(of_one)}{f' {MARK}' if count else ''}"
        for count, of_one in zip(counts, tables, strict=True)
    ]
    for name in CHANGES:
        means = [_means(of_one, name) for of_one in tables]
        if any(means):
            decimals = decimals_of(value for values in means for value in values)
            columns[signal_name(name)] = [
                TO.join(number(value, decimals) for value in values) or NONE for values in means
            ]
    return Numbers(tuple(columns), list(zip(*columns.values(), strict=True)))


def _means(table: pd.DataFrame, name: str) -> list[float]:
    """Of the models that have it before and after; of what only aligned models have, after."""
    before, after = (
        {(model.weights, model.seed): model.score for model in scores.models}
        for scores in (stage_scores(table, stage, [name]) for stage in ("sft", "dpo"))
    )
    shared = [model for model in after if model in before] if before else list(after)
    if not shared:
        return []
    return [fmean(of[model] for model in shared) for of in (before, after) if of]


def _num_models(table: pd.DataFrame) -> int:
    """How many aligned models were measured."""
    is_measured = (table["stage"] == "dpo") & table["benchmark"].notna()
    return len({(row["weights"], row["seed"]) for row in rows_of(table.loc[is_measured])})
