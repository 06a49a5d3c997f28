"""The report's section on what alignment changed: figures before and after, and collapses."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from wit.analysis.collapse import Collapse, collapse_sentence, collapses
from wit.analysis.digits import decimals_of, plus_minus
from wit.analysis.grid import stage_scores
from wit.analysis.report_diagnostics import is_uncut
from wit.analysis.report_tables import NONE, Numbers
from wit.analysis.score_labels import in_order, signal_name
from wit.analysis.scores import by_tuning, of_alignment, of_tuning
from wit.score_names import ALIGNMENT, PREFERENCE_ACCURACY

STAGES = ("sft", "dpo")
MARK = "\N{BLACK DOWN-POINTING SMALL TRIANGLE}"  # of what collapsed


def alignment_changes(table: pd.DataFrame, weights: list[str]) -> dict[str, Any]:
    """What the page shows of it: collapses of all models, and figures of the main ones.

    Args:
        table: Of one study, with all of its tunings and alignments.
        weights: Whose figures are shown; those without any are left out.
    """
    found = collapses(table)
    main = next(iter(by_tuning(table)))
    return {
        "collapsed": [one for one in found if one.tuning == main],
        "collapse_sentence": collapse_sentence(found),
        "collapse_mark": MARK,
        "alignment": alignment_numbers(of_alignment(of_tuning(table)), weights),
    }


def alignment_numbers(table: pd.DataFrame, weights: list[str]) -> Numbers:
    """A row for each figure, means over seeds; no rows where nothing was measured."""
    measured = set(table.loc[table["stage"] == "dpo", "benchmark"].dropna())
    if measured.isdisjoint(ALIGNMENT):
        return Numbers((), [])
    shown_of = measured & {PREFERENCE_ACCURACY, *ALIGNMENT}
    names = in_order(name for name in shown_of if not is_uncut(table, name))
    scores = {
        (name, stage): stage_scores(table, stage, [name]) for name in names for stage in STAGES
    }
    known = {cell.weights for of in scores.values() for cell in of.cells}
    shown = [one for one in dict.fromkeys(weights) if one in known]
    rows = []
    for name in names:
        cells = [scores[name, stage].cell(one) for one in shown for stage in STAGES]
        decimals = decimals_of([cell.score for cell in cells if cell is not None])
        values = (
            NONE if cell is None else plus_minus(cell.score, cell.half_width, decimals)
            for cell in cells
        )
        rows.append((signal_name(name), *values))
    columns = [f"{one} {stage.upper()}" for one in shown for stage in STAGES]
    return Numbers(("", *columns), rows)


def marked(cells: Numbers, found: list[Collapse], replicates: Mapping[str, str]) -> Numbers:
    """The numbers of all cells, with a mark at DPO scores of those that the main one collapsed.

    Args:
        cells: As ``cells_of`` gives them.
        found: What collapsed, of the same way of SFT.
        replicates: Weights whose scores are those of others, and these.
    """
    collapsed = {one.weights for one in found if one.alignment is None}
    collapsed |= {other for other, first in replicates.items() if first in collapsed}
    place = cells.columns.index("DPO")
    rows = [
        tuple(
            f"{value} {MARK}" if row[0] in collapsed and column == place else value
            for column, value in enumerate(row)
        )
        for row in cells.rows
    ]
    return cells._replace(rows=rows)
