"""Does what is measured after SFT foretell the score after DPO?

Over cells: rank correlations, whether one cell is best before and after, and the *selection
regret*, which is what is lost after DPO by choosing the cell by what was measured before. The
best score of many is lucky by some noise, so a regret above 0 is to be expected.
"""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from wit.analysis.grid import (
    CellScore,
    StageScores,
    difference_half_width,
    scores_among,
    stage_scores,
)
from wit.analysis.resampling import CORRELATIONS, Estimate, draws, estimate, interval_of
from wit.analysis.scores import Result
from wit.analysis.stage_rows import stage_rows
from wit.score_names import ALIGNMENT

MIN_FOR_RANKS = 3  # cells; two points always agree or disagree fully


class Relation(Result):
    """How scores before DPO relate to those after it, over the cells that have both."""

    all: dict[str, Estimate]  # by spearman, kendall, pearson; empty: too few cells
    response_positive: dict[str, Estimate]  # of the cells with loss on the response
    num_cells: int
    num_response_positive: int
    best_sft: CellScore | None
    best_dpo: CellScore | None
    regret: float | None  # how much better the best DPO score is than DPO from the best SFT cell
    regret_half_width: float | None  # of its interval, as one of all comparisons with the best
    luck: float | None  # Pearson of what cells of one objective differ by; None: no two cells do

    @property
    def same_best(self) -> bool | None:
        """Whether one cell is best before and after; None where nothing has both scores."""
        if self.best_sft is None or self.best_dpo is None:
            return None
        return self.best_sft.weights == self.best_dpo.weights


class Signal(Result):
    """What can be measured before DPO, and what choosing the cell by it would have cost."""

    name: str  # "SFT score", a benchmark, nll_<role>, sensitivity, preference_accuracy
    higher_is_better: bool
    spearman: Estimate | None  # with the DPO score; positive: better goes with better
    chosen: str  # weights of the cell that is best by it
    regret: float  # what is lost after DPO
    is_constant: bool = False  # the same for all cells: it chooses none


def relate(sft: StageScores, dpo: StageScores) -> Relation:
    """Relates the scores of two stages of one study."""
    pairs = _pairs(sft, dpo)
    positive = [(one, other) for one, other in pairs if one.response_weight]
    best_sft, best_dpo = sft.shared_with(dpo).best, dpo.shared_with(sft).best
    at_best_sft = None if best_sft is None else dpo.cell(best_sft.weights)
    width = None
    if best_dpo is not None and at_best_sft is not None and best_dpo != at_best_sft:
        width = difference_half_width(dpo, best_dpo, at_best_sft, len(pairs) - 1)
    return Relation(
        all=correlations(sft, dpo, pairs),
        response_positive=correlations(sft, dpo, positive),
        num_cells=len(pairs),
        num_response_positive=len(positive),
        best_sft=best_sft,
        best_dpo=best_dpo,
        regret=selection_regret(sft, dpo),
        regret_half_width=width,
        luck=_luck(sft, dpo, pairs),
    )


def selection_regret(sft: StageScores, dpo: StageScores) -> float | None:
    """What is lost after DPO by choosing the cell by SFT scores, among cells that have both."""
    chosen, best = sft.shared_with(dpo).best, dpo.shared_with(sft).best
    after = None if chosen is None else dpo.cell(chosen.weights)
    return None if best is None or after is None else dpo.lead(best, after)


def correlations(
    sft: StageScores,
    dpo: StageScores,
    pairs: list[tuple[CellScore, CellScore]],
    names: Iterable[str] = CORRELATIONS,
) -> dict[str, Estimate]:
    """Spearman, Kendall and Pearson of pairs of scores, each so that positive is agreement.

    The bootstrap draws rays, with all their cells: the interval says what other objectives,
    measured as often, would have shown; for the same ones it is wider than needed, and covers
    99 %. Noise in the scores is in it: noise of its own in each stage makes all three smaller than
    those of the true scores; luck of a checkpoint that lasts through DPO makes them larger. Where
    noise is as large as the effects and nine tenths of it last, scores whose true parts are
    unrelated correlate by 0.45, and 6 of 10 intervals leave 0 out. ``Relation.luck`` warns of it.
    """
    if len(pairs) < MIN_FOR_RANKS:
        return {}
    one = np.array([before.score for before, _ in pairs]) * _sign(sft)
    other = np.array([after.score for _, after in pairs]) * _sign(dpo)
    names_of_rays = dict.fromkeys(before.ray for before, _ in pairs)
    rays = {name: number for number, name in enumerate(names_of_rays)}
    place = [rays[before.ray] for before, _ in pairs]
    counts = draws(len(rays))[:, place].astype(float)
    found = {}
    for name in names:
        correlation = CORRELATIONS[name]
        value = float(correlation(np.ones((1, len(pairs))), one, other)[0])
        if not math.isnan(value):
            ends = interval_of(name, correlation(counts, one, other), len(rays))
            found[name] = estimate(value, ends, len(rays))
    return found


def _luck(
    sft: StageScores, dpo: StageScores, pairs: list[tuple[CellScore, CellScore]]
) -> float | None:
    """How far luck lasts through DPO: cells of one objective differ by nothing else."""
    rays: dict[str, list[tuple[float, float]]] = {}
    for before, after in pairs:
        both = (_sign(sft) * before.score, _sign(dpo) * after.score)
        rays.setdefault(before.ray, []).append(both)
    rest = [np.array(both) - np.mean(both, axis=0) for both in rays.values()]
    if len(pairs) - len(rays) < MIN_FOR_RANKS:
        return None
    one, other = np.vstack(rest).T
    found = float(CORRELATIONS["pearson"](np.ones((1, len(pairs))), one, other)[0])
    return None if math.isnan(found) else found


def signals(table: pd.DataFrame) -> list[Signal]:
    """Every measure of the SFT models, the one with the best rank correlation first.

    But for the figures of what alignment changed: they say what to watch, of most of them more is
    not better, and the luckiest of many measures would be believed.
    """
    dpo = stage_scores(table, "dpo")
    rows = stage_rows(table, "sft")
    score = scores_among(rows)
    named = {name for of in rows.models.values() for name in of if isinstance(name, str)}
    named -= {*score.benchmarks, *ALIGNMENT}
    stages = [("SFT score", score)]
    stages += [(name, scores_among(rows, [name])) for name in sorted(named)]
    if len(score.benchmarks) > 1:
        stages += [(name, scores_among(rows, [name])) for name in score.benchmarks]
    found = [signal for name, stage in stages if (signal := _signal(name, stage, dpo))]
    return sorted(found, key=lambda signal: (-_value(signal.spearman), signal.regret))


def _signal(name: str, stage: StageScores, dpo: StageScores) -> Signal | None:
    pairs = _pairs(stage, dpo)
    chosen, regret = stage.shared_with(dpo).best, selection_regret(stage, dpo)
    if chosen is None or regret is None:
        return None
    return Signal(
        name=name,
        higher_is_better=not stage.is_less_better,
        spearman=correlations(stage, dpo, pairs, ["spearman"]).get("spearman"),
        chosen=chosen.weights,
        regret=regret,
        is_constant=_is_constant([before.score for before, _ in pairs]),
    )


def _is_constant(scores: list[float]) -> bool:
    """Whether several are alike, but for rounding."""
    return len(scores) > 1 and max(scores) - min(scores) <= 1e-9 * max(map(abs, scores))


def _pairs(sft: StageScores, dpo: StageScores) -> list[tuple[CellScore, CellScore]]:
    return [(cell, after) for cell in sft.cells if (after := dpo.cell(cell.weights))]


def _sign(stage: StageScores) -> int:
    return -1 if stage.is_less_better else 1


def _value(found: Estimate | None) -> float:
    return -math.inf if found is None else found.value
