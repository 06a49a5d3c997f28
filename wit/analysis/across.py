"""Several studies together: which choice of weights holds up where it was not made.

Scales of studies differ, so what is averaged over them is the gain over instruction tuning in
percent of its score. Intervals draw studies again: they speak of other models and data sets like
these. The best fixed choice and the oracle are picked by the numbers that they are shown with,
and so look better than they are; only the choice made without the study does not.
"""

from collections.abc import Mapping
from statistics import fmean

from wit.analysis.grid import StageScores, gain_of, reference_cell
from wit.analysis.rays import Rays, RayScore
from wit.analysis.resampling import Estimate, mean_estimate
from wit.analysis.scores import Result

Gains = dict[str, dict[str, float]]  # in percent, by choice and study


class FixedChoice(Result):
    """One choice of weights in all studies."""

    name: str  # of the cell, or of the ray
    gain_pct: Estimate  # mean over studies
    num_better: int  # studies in which it is better than instruction tuning
    gains: dict[str, float]  # in percent, by study


class Held(Result):
    """For every study, the choice that is best in all others."""

    gain_pct: Estimate
    chosen: dict[str, str]  # by study


class Across(Result):
    """What one stage says over several studies."""

    stage: str
    num_studies: int
    cells: tuple[FixedChoice, ...]  # that all studies have, the best first
    rays: tuple[FixedChoice, ...]  # by their mean over cells and seeds, against that of (0, 1)
    held_out_cell: Held | None  # leave one study out
    held_out_ray: Held | None
    oracle_cell: Estimate | None  # gain of each study's own best
    oracle_ray: Estimate | None


def across(stage: str, scores: Mapping[str, StageScores], rays: Mapping[str, Rays]) -> Across:
    """Compares fixed choices over studies.

    Args:
        stage: sft or dpo.
        scores: Of every study, by name.
        rays: The same by ray.
    """
    by_cell = _shared({name: _cell_gains(found) for name, found in scores.items()})
    by_ray = _shared({name: _ray_gains(found) for name, found in rays.items()})
    return Across(
        stage=stage,
        num_studies=len(scores),
        cells=_fixed(by_cell),
        rays=_fixed(by_ray),
        held_out_cell=_held_out(by_cell),
        held_out_ray=_held_out(by_ray),
        oracle_cell=_oracle(by_cell),
        oracle_ray=_oracle(by_ray),
    )


def _cell_gains(stage: StageScores) -> dict[str, float]:
    usual = reference_cell(stage)
    if usual is None:
        return {}
    gains = {cell.weights: gain_of(stage, cell, usual).percent for cell in stage.cells}
    return {name: gain for name, gain in gains.items() if gain is not None}


def _ray_gains(rays: Rays) -> dict[str, float]:
    usual = rays.instruction_tuning
    if usual is None or usual.score <= 0:
        return {}

    def percent(ray: RayScore) -> float:
        return 100 * rays.lead(ray, usual) / usual.score

    return {ray.ray: percent(ray) for ray in rays.rays}


def _shared(studies: dict[str, dict[str, float]]) -> Gains:
    """By choice and study, of the studies with any gain; choices that some of them lack are out."""
    known = {name: gains for name, gains in studies.items() if gains}
    names = [set(gains) for gains in known.values()]
    common = set.intersection(*names) if names else set()
    first = next(iter(known.values()), {})
    return {
        choice: {study: gains[choice] for study, gains in known.items()}
        for choice in first
        if choice in common
    }


def _fixed(gains: Gains) -> tuple[FixedChoice, ...]:
    found = [
        FixedChoice(
            name=choice,
            gain_pct=mean,
            num_better=sum(gain > 0 for gain in by_study.values()),
            gains=by_study,
        )
        for choice, by_study in gains.items()
        if (mean := mean_estimate(list(by_study.values())))
    ]
    return tuple(sorted(found, key=lambda choice: -choice.gain_pct.value))


def _held_out(gains: Gains) -> Held | None:
    studies = list(next(iter(gains.values()), {}))
    if len(studies) < 2:
        return None
    chosen = {}
    for study in studies:
        others = [other for other in studies if other != study]
        chosen[study] = max(gains, key=lambda c, among=others: fmean(gains[c][s] for s in among))
    mean = mean_estimate([gains[chosen[study]][study] for study in studies])
    return None if mean is None else Held(gain_pct=mean, chosen=chosen)


def _oracle(gains: Gains) -> Estimate | None:
    studies = list(next(iter(gains.values()), {}))
    return mean_estimate([max(gains[choice][study] for choice in gains) for study in studies])
