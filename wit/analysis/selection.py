"""Which weights to take, and whether the numbers can tell. Chosen by select, shown by report."""

import pandas as pd

from wit.analysis.grid import CellScore, StageScores, stage_scores
from wit.analysis.intervals import Basis, basis_in_words
from wit.analysis.rays import Rays, RayScore, rays_of
from wit.analysis.scores import INSTRUCTION_TUNING, Result, rows_of, select_benchmarks
from wit.analysis.wording import NO_DPO, NOTHING_YET, sentence


class ReportScore(Result):
    """Score of the recommended cell on a benchmark that had no say in the choice."""

    benchmark: str
    score: float
    half_width: float | None
    instruction_tuning: float | None  # the same of the cell (0, 1)


class Recommendation(Result):
    """The best objective after DPO, with its evidence."""

    sentence: str  # the result in words, with its uncertainty
    ray: RayScore | None  # the best one; None: nothing was measured after DPO
    best: CellScore | None  # the best cell of that ray
    instruction_tuning: RayScore | None  # the ray of loss on responses only, after DPO
    difference: float | None  # of the two rays
    difference_half_width: float | None  # of its interval, as one of all comparisons with it
    is_better: bool | None  # than instruction tuning, beyond the noise; None: cannot be asked
    within_noise: tuple[str, ...]  # other rays that cannot be told from the best, by angle
    interval: tuple[str, str] | None  # first and last of the rays next to the best and within noise
    report_scores: tuple[ReportScore, ...]
    fingerprints: tuple[str, ...]  # DPO models of the best cell, by seed
    basis: str  # what the intervals rest on, and what was left out
    num_cells: int
    num_rays: int
    num_excluded: int  # pairs of weights and seed without a complete score


def recommend(table: pd.DataFrame) -> Recommendation:
    """The weights whose DPO models have the best mean of select scores.

    Compared are rays, since cells of one ray are one objective. The interval of the difference
    from instruction tuning (0, 1) allows for the choice of the best among all. Where it includes
    0, no difference can be told: that is a result.

    Args:
        table: Of one study, as ``wit.lineage.table`` gives it.
    """
    dpo = stage_scores(table, "dpo")
    shown = dpo if dpo.cells else stage_scores(table, "sft")
    rays = rays_of(dpo)
    best, usual = rays.best, rays.instruction_tuning
    within = within_noise(rays)
    difference = is_better = None
    width = _width_of_lead(rays)
    if best is not None and usual is not None and best != usual:
        difference = best.score - usual.score
        is_better = None if width is None else rays.lead(best, usual) > width
    cell = None if best is None else best_cell_of(dpo, best)
    return Recommendation(
        sentence=_said_of(rays) if dpo.cells else _without_dpo(table, rays_of(shown)),
        ray=best,
        best=cell,
        instruction_tuning=usual,
        difference=difference,
        difference_half_width=width,
        is_better=is_better,
        within_noise=tuple(ray.ray for ray in within),
        interval=_interval(rays, within),
        report_scores=() if cell is None else _report_scores(table, cell),
        fingerprints=() if cell is None else _fingerprints(table, cell),
        basis=_basis(shown.basis, shown),
        num_cells=len(dpo.cells),
        num_rays=len(rays.rays),
        num_excluded=dpo.num_excluded,
    )


def _width_of_lead(rays: Rays) -> float | None:
    """Half-width of the interval of the best ray's lead over instruction tuning."""
    best, usual = rays.best, rays.instruction_tuning
    if best is None or usual is None or best == usual:
        return None
    noise = rays.noise_of(usual)
    return None if noise is None else noise[best.ray]


def _said_of(rays: Rays) -> str:
    cell = None if rays.best is None else best_cell_of(rays.stage, rays.best)
    return sentence(rays, cell, _width_of_lead(rays), within_noise(rays))


def _without_dpo(table: pd.DataFrame, before: Rays) -> str:
    """That nothing is known after DPO, and what is known before it."""
    if before.best is None:
        return NOTHING_YET
    lead = NOTHING_YET if "dpo" in set(table["stage"]) else NO_DPO
    return f"{lead} {_said_of(before)}"


def within_noise(rays: Rays) -> list[RayScore]:
    """The rays other than the best that may be as good, by angle.

    Each is the control of comparisons with all others, as instruction tuning is: with 95 %
    confidence the best ray that there is, is the best one measured or among these (Hsu 1984).
    Where nothing is known of noise: those that score alike.
    """
    best = rays.best
    if best is None:
        return []
    found = []
    for ray in rays.rays:
        noise = rays.noise_of(ray, [best])
        width = 0.0 if noise is None else noise.get(best.ray, 0.0)
        if ray != best and rays.lead(best, ray) <= width:
            found.append(ray)
    return found


def best_cell_of(stage: StageScores, ray: RayScore) -> CellScore | None:
    """The best cell of the ray."""
    found = (stage.cell(weights) for weights in ray.weights)
    return stage.with_cells(cell for cell in found if cell is not None).best


def _interval(rays: Rays, within: list[RayScore]) -> tuple[str, str] | None:
    """Ends of the run of neighbouring rays around the best that are within the noise."""
    best = rays.best
    if best is None:
        return None
    first = last = rays.rays.index(best)
    while first > 0 and rays.rays[first - 1] in within:
        first -= 1
    while last + 1 < len(rays.rays) and rays.rays[last + 1] in within:
        last += 1
    return rays.rays[first].ray, rays.rays[last].ray


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
        for row in rows_of(table.loc[table["stage"] == "dpo"])
        if row["weights"] == best.weights and row["status"] == "finished"
    }
    return tuple(str(by_seed[seed]) for seed in sorted(by_seed))


def _basis(basis: Basis, stage: StageScores) -> str:
    words = basis_in_words(basis, stage.replicates)
    if stage.num_excluded:
        one = stage.num_excluded == 1
        left_out = "1 model" if one else f"{stage.num_excluded} models"
        words += f"; {left_out} without complete scores {'is' if one else 'are'} left out"
    return words
