"""Several studies together: which choice of weights holds up where it was not made.

Scales of studies differ, so what is averaged over them is the gain over instruction tuning in
percent of its score. Intervals draw studies again: they speak of other models and data sets like
these. The best fixed choice and the oracle are picked by the numbers that they are shown with,
and so look better than they are; only the choice made without the study does not.
"""

import math
import statistics
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wit.analysis.grid import StageScores, gain_of, reference_cell
from wit.analysis.intervals import half_width
from wit.analysis.rays import Rays, RayScore
from wit.analysis.resampling import (
    MIN_UNITS,
    ROUNDING,
    Estimate,
    draws,
    estimate,
    interval,
    mean_estimate,
)
from wit.analysis.scores import Result

Array = np.ndarray
Pair = tuple[float | None, float | None]  # prompt weight and response weight


class FixedChoice(Result):
    """One choice of weights in all studies."""

    name: str  # of the cell, or of the ray
    prompt_weight: float | None  # None: a ray
    response_weight: float | None
    gain_pct: Estimate  # mean over studies
    together: tuple[float, float] | None  # its interval, where those of all choices hold at once
    num_better: int  # studies in which it is better than instruction tuning
    gains: dict[str, float]  # in percent, by study


class Held(Result):
    """For every study, the choice that is best in all others."""

    gain_pct: Estimate
    chosen: dict[str, str]  # by study


class Across(Result):
    """What one stage says over several studies."""

    stage: str
    num_studies: int  # whose cells have gains
    num_cells: int  # different ones in these
    num_rays: int
    cells: tuple[FixedChoice, ...]  # that all of them have, the best first
    rays: tuple[FixedChoice, ...]  # by their mean over cells and seeds, against that of (0, 1)
    held_out_cell: Held | None  # leave one study out
    held_out_ray: Held | None
    oracle_cell: Estimate | None  # gain of each study's own best, of all that it has
    oracle_ray: Estimate | None


def across(stage: str, scores: Mapping[str, StageScores], rays: Mapping[str, Rays]) -> Across:
    """Compares fixed choices over studies.

    Args:
        stage: sft or dpo.
        scores: Of every study, by name.
        rays: The same by ray.
    """
    by_cell = _table({name: _cell_gains(found) for name, found in scores.items()})
    by_ray = _table({name: _ray_gains(found) for name, found in rays.items()})
    return Across(
        stage=stage,
        num_studies=len(by_cell.studies),
        num_cells=len({cell for gains in by_cell.studies.values() for cell in gains}),
        num_rays=len({ray for gains in by_ray.studies.values() for ray in gains}),
        cells=_fixed(by_cell, _pairs(scores)),
        rays=_fixed(by_ray, {}),
        held_out_cell=_held_out(by_cell),
        held_out_ray=_held_out(by_ray),
        oracle_cell=_oracle(by_cell),
        oracle_ray=_oracle(by_ray),
    )


class _Gains(NamedTuple):
    """Gains in percent of the studies that have any."""

    studies: dict[str, dict[str, float]]  # by study and choice
    shared: list[str]  # the choices that all of them have

    @property
    def table(self) -> Array:
        """One row per study, one column per shared choice."""
        return np.array([[gains[c] for c in self.shared] for gains in self.studies.values()])


def _table(studies: dict[str, dict[str, float]]) -> _Gains:
    known = {name: gains for name, gains in studies.items() if gains}
    first = next(iter(known.values()), {})
    return _Gains(known, [c for c in first if all(c in gains for gains in known.values())])


def _pairs(scores: Mapping[str, StageScores]) -> dict[str, Pair]:
    return {
        cell.weights: (cell.prompt_weight, cell.response_weight)
        for stage in scores.values()
        for cell in stage.cells
    }


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


def _fixed(gains: _Gains, pairs: Mapping[str, Pair]) -> tuple[FixedChoice, ...]:
    by_choice = {c: {s: gains.studies[s][c] for s in gains.studies} for c in gains.shared}
    num_others = sum(any(by_study.values()) for by_study in by_choice.values())
    found = []
    for choice, by_study in by_choice.items():
        values = list(by_study.values())
        mean = mean_estimate(values)
        if mean is None:
            continue
        prompt_weight, response_weight = pairs.get(choice, (None, None))
        found.append(
            FixedChoice(
                name=choice,
                prompt_weight=prompt_weight,
                response_weight=response_weight,
                gain_pct=mean,
                together=_together(values, num_others),
                num_better=sum(gain > 0 for gain in values),
                gains=by_study,
            )
        )
    return tuple(sorted(found, key=lambda choice: -choice.gain_pct.value))


def _together(values: list[float], num_choices: int) -> tuple[float, float] | None:
    """A t interval, as one of so many that err together in one of twenty tables."""
    if len(values) < MIN_UNITS or np.ptp(values) < ROUNDING:
        return None
    stderr = statistics.stdev(values) / math.sqrt(len(values))
    width = half_width(stderr, None, len(values) - 1, num_choices) or 0.0
    mean = statistics.fmean(values)
    return mean - width, mean + width


def _held_out(gains: _Gains) -> Held | None:
    """The choice is made anew in every draw: gains of studies that share a choice err together."""
    studies, table = list(gains.studies), gains.table
    if len(studies) < 2 or not gains.shared:
        return None
    chosen = _chosen(table, np.ones((1, len(studies))))[0]
    value = float(table[np.arange(len(studies)), chosen].mean())
    ends = interval(_held_out_means(table, draws(len(studies))), len(studies))
    return Held(
        gain_pct=estimate(value, ends, len(studies)),
        chosen={name: gains.shared[c] for name, c in zip(studies, chosen, strict=True)},
    )


def _held_out_means(table: Array, counts: Array) -> Array:
    """Mean gain per draw of studies; NaN where a draw has one study only, and so no other."""
    found = table[np.arange(len(table)), _chosen(table, counts)]
    means = (counts * found).sum(axis=1) / counts.sum(axis=1)
    return np.where((counts > 0).sum(axis=1) > 1, means, np.nan)


def _chosen(table: Array, counts: Array) -> Array:
    """Per draw and study, the choice that is best on the other studies drawn.

    All copies of the study itself are left out. Of equal choices the first, so that rounding
    must not part them.
    """
    totals = counts @ table
    best = [
        np.round(totals - counts[:, [place]] * gains, 9).argmax(axis=1)
        for place, gains in enumerate(table)
    ]
    return np.stack(best, axis=1)


def _oracle(gains: _Gains) -> Estimate | None:
    return mean_estimate([max(found.values()) for found in gains.studies.values()])
