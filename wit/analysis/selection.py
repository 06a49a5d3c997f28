"""Which weights to take, and whether the numbers can tell. Chosen by select, shown by report."""

import pandas as pd

from wit.analysis.grid import (
    INSTRUCTION_TUNING,
    CellScore,
    Result,
    StageScores,
    difference_half_width,
    rows_of,
    select_benchmarks,
    stage_scores,
)
from wit.analysis.intervals import BASIS_IN_WORDS, Basis


class ReportScore(Result):
    """Score of the recommended cell on a benchmark that had no say in the choice."""

    benchmark: str
    score: float
    half_width: float | None
    instruction_tuning: float | None  # the same of the cell (0, 1)


class Recommendation(Result):
    """The best cell after DPO, with its evidence."""

    sentence: str  # the result in words, with its uncertainty
    best: CellScore | None  # None: nothing was measured after DPO
    instruction_tuning: CellScore | None  # the cell (0, 1) after DPO
    difference: float | None  # of the two
    difference_half_width: float | None  # of its interval, as one of all comparisons with the best
    is_better: bool | None  # than instruction tuning, beyond the noise; None: cannot be asked
    within_noise: tuple[str, ...]  # other weights that cannot be told from the best
    report_scores: tuple[ReportScore, ...]
    fingerprints: tuple[str, ...]  # DPO models of the best cell, by seed
    basis: Basis
    num_cells: int
    num_excluded: int  # pairs of weights and seed without a complete score


def recommend(table: pd.DataFrame) -> Recommendation:
    """The weights whose DPO models have the best mean of select scores.

    The interval of the difference from instruction tuning (0, 1) allows for the choice of the
    best among all cells. Where it includes 0, no difference can be told: that is a result.

    Args:
        table: Of one study, as ``wit.lineage.table`` gives it.
    """
    dpo = stage_scores(table, "dpo")
    best = dpo.best
    usual = dpo.cell(INSTRUCTION_TUNING)
    difference = half_width = is_better = None
    within_noise: list[str] = []
    if best is not None:
        num_comparisons = len(dpo.cells) - 1
        for cell in dpo.cells:
            width = difference_half_width(dpo, best, cell, num_comparisons)
            if cell != best and dpo.lead(best, cell) <= (width or 0):
                within_noise.append(cell.weights)
        if usual is not None and usual != best:
            difference = best.score - usual.score
            half_width = difference_half_width(dpo, best, usual, num_comparisons)
            is_better = None if half_width is None else dpo.lead(best, usual) > half_width
    return Recommendation(
        sentence=_sentence(dpo, best, usual, half_width, within_noise),
        best=best,
        instruction_tuning=usual,
        difference=difference,
        difference_half_width=half_width,
        is_better=is_better,
        within_noise=tuple(within_noise),
        report_scores=() if best is None else _report_scores(table, best),
        fingerprints=() if best is None else _fingerprints(table, best),
        basis=dpo.basis,
        num_cells=len(dpo.cells),
        num_excluded=dpo.num_excluded,
    )


def _report_scores(table: pd.DataFrame, best: CellScore) -> tuple[ReportScore, ...]:
    found = []
    for benchmark in select_benchmarks(table, "report"):
        scores = stage_scores(table, "dpo", [benchmark])
        cell, usual = scores.cell(best.weights), scores.cell(INSTRUCTION_TUNING)
        if cell is not None:
            found.append(
                ReportScore(
                    benchmark=benchmark,
                    score=cell.score,
                    half_width=cell.half_width,
                    instruction_tuning=None if usual is None else usual.score,
                )
            )
    return tuple(found)


def _fingerprints(table: pd.DataFrame, best: CellScore) -> tuple[str, ...]:
    if "fingerprint" not in table:
        return ()
    by_seed = {
        row["seed"]: row["fingerprint"]
        for row in rows_of(table)
        if row["stage"] == "dpo" and row["weights"] == best.weights and row["status"] == "finished"
    }
    return tuple(str(by_seed[seed]) for seed in sorted(by_seed))


def _sentence(
    dpo: StageScores,
    best: CellScore | None,
    usual: CellScore | None,
    half_width: float | None,
    within_noise: list[str],
) -> str:
    if best is None:
        return "Nothing can be recommended yet: no cell has its select scores after DPO."
    lead = (
        f"After DPO, {in_words(best)} scores best of {len(dpo.cells)} "
        f"cell{'s' * (len(dpo.cells) != 1)}: {_scores_in_words(dpo, best)}"
    )
    if len(dpo.cells) == 1:
        return f"{lead}. It is the only cell with scores, so there is nothing to compare it with."
    if usual is None:
        return f"{lead}. Instruction tuning (0, 1) has no score to compare it with."
    if usual == best:
        if within_noise:
            near = ", ".join(within_noise)
            return f"{lead}. Within the noise of it: {near}; no gain from the prompt can be told."
        return f"{lead}. Putting loss on the prompt does not help here: all else scores worse."
    side = "below" if dpo.is_less_better else "above"
    subject = f"the {dpo.measure} is " if dpo.is_mixed else ""
    gap = f"{lead}, {subject}{dpo.lead(best, usual):.3f} {side} instruction tuning (0, 1)"
    if half_width is None:
        return (
            f"{gap}. Neither seeds that differ nor standard errors: whether that is more than "
            "noise is unknown."
        )
    if dpo.lead(best, usual) > half_width:
        return f"{gap}. That is more than the noise of ± {half_width:.3f}: it is better."
    return f"{gap}. The noise is ± {half_width:.3f}, so no difference can be told."


def in_words(cell: CellScore) -> str:
    """The cell as a person calls it."""
    if cell.weights == INSTRUCTION_TUNING:
        return "instruction tuning (0, 1)"
    if cell.is_on_grid:
        return f"prompt weight {cell.prompt_weight:g} with response weight {cell.response_weight:g}"
    return f"the cell {cell.weights}"


def _scores_in_words(stage: StageScores, cell: CellScore) -> str:
    """A score with its interval and number of seeds; each of them, where no mean has a meaning."""
    seeds = "one seed" if cell.num_seeds == 1 else f"mean of {cell.num_seeds} seeds"
    if stage.is_mixed:
        scores = ", ".join(f"{name} {cell.values[name]:.3f}" for name in stage.benchmarks)
        return f"{scores} ({seeds})"
    interval = "" if cell.half_width is None else f" ± {cell.half_width:.3f}"
    return f"{cell.score:.3f}{interval} ({seeds})"


def basis_in_words(recommendation: Recommendation) -> str:
    """What the intervals rest on, and what was left out."""
    words = BASIS_IN_WORDS[recommendation.basis]
    if recommendation.num_excluded:
        one = recommendation.num_excluded == 1
        left_out = "1 model" if one else f"{recommendation.num_excluded} models"
        words += f"; {left_out} without complete scores {'is' if one else 'are'} left out"
    return words
