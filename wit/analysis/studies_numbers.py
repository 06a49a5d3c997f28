"""What the page of several studies counts: leads beside noise, means over studies."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from wit.analysis.analyse import Analysis, StageAnalysis, StudyAnalysis
from wit.analysis.digits import decimals_of
from wit.analysis.grid import (
    CellScore,
    Gain,
    StageScores,
    difference_half_width,
    gain_of,
    reference_cell,
)
from wit.analysis.intervals import LEVEL
from wit.analysis.rays import RayScore
from wit.analysis.relation import Signal
from wit.analysis.resampling import ROUNDING, Estimate, mean_estimate
from wit.analysis.scores import INSTRUCTION_TUNING

Verdict = Literal["better", "usual", "untold", "unknown"]
PROMPTS_ONLY = 90.0  # degrees of the ray without loss on the response


class Lead(NamedTuple):
    """A cell against instruction tuning."""

    cell: CellScore
    gain: Gain
    half_width: float | None  # of the interval of the difference; None: noise is unknown
    is_usual: bool  # it is instruction tuning, or the same objective under other weights

    @property
    def is_beyond(self) -> bool | None:
        """Whether it is more than noise; None: unknown."""
        if self.is_usual:
            return False
        return None if self.half_width is None else self.gain.absolute > self.half_width


def lead_of(stage: StageScores, cell: CellScore | None, num_tried: int) -> Lead | None:
    """How much better a cell is, and what noise alone may do to the best of ``num_tried``."""
    usual = reference_cell(stage)
    if cell is None or usual is None:
        return None
    width = difference_half_width(stage, cell, usual, num_tried)
    return Lead(cell, gain_of(stage, cell, usual), width, cell.ray == usual.ray)


class Leads(NamedTuple):
    """The three leads of a study."""

    sft_best: Lead | None
    dpo_best: Lead | None
    dpo_at_sft_best: Lead | None


def leads_of(study: StudyAnalysis) -> Leads:
    """The best cells before and after DPO, and DPO from the best SFT cell.

    All three are the best of many: the luck of a checkpoint may last through DPO.
    """
    sft, dpo = study.grid.sft, study.grid.dpo
    best_sft = study.relation.best_sft or sft.best
    best_dpo = study.relation.best_dpo or dpo.best
    at_sft_best = None if best_sft is None else dpo.cell(best_sft.weights)
    return Leads(
        lead_of(sft, best_sft, len(sft.cells) - 1),
        lead_of(dpo, best_dpo, len(dpo.cells) - 1),
        lead_of(dpo, at_sft_best, len(dpo.cells) - 1),
    )


class Apart(NamedTuple):
    """Studies in which an objective with loss on the response is beyond noise of the usual one."""

    num_studies: int  # in which that can be asked
    better: tuple[str, ...]
    worse: tuple[str, ...]

    @property
    def either(self) -> tuple[str, ...]:
        """Studies in which one is better, or worse, or some are and some are."""
        return tuple(dict.fromkeys((*self.better, *self.worse)))

    @property
    def is_more_than_chance(self) -> bool:
        """Whether so many would not be there if each study erred in one of twenty."""
        error = 1 - LEVEL
        chance = stats.binom.sf(len(self.either) - 1, self.num_studies, error)
        return bool(chance <= error + ROUNDING)


def apart(analysis: Analysis, stage: str) -> Apart:
    """Where weights matter: all comparisons of a study together err in one of twenty."""
    asked, better, worse = 0, [], []
    for name, study in analysis.studies.items():
        leads = _ray_leads(study, stage)
        asked += bool(leads)
        if any(lead > width for lead, width in leads):
            better.append(name)
        if any(-lead > width for lead, width in leads):
            worse.append(name)
    return Apart(asked, tuple(better), tuple(worse))


def usual_ray(stage: StageAnalysis) -> RayScore | None:
    """The ray of instruction tuning."""
    named = (ray for ray in stage.rays if INSTRUCTION_TUNING in ray.weights)
    return next(named, next((ray for ray in stage.rays if ray.degrees == 0), None))


def _ray_leads(study: StudyAnalysis, stage: str) -> list[tuple[float, float]]:
    """Lead and half-width of every ray with loss on the response."""
    found, scores = stage_of(study, stage)
    usual = usual_ray(found)
    if usual is None:
        return []
    sign = -1 if scores.is_less_better else 1
    return [
        (sign * (ray.score - usual.score), found.from_usual[ray.ray])
        for ray in found.rays
        if ray.ray in found.from_usual and ray.degrees != PROMPTS_ONLY
    ]


def stage_of(study: StudyAnalysis, stage: str) -> tuple[StageAnalysis, StageScores]:
    """A stage of a study by its name."""
    return (study.sft, study.grid.sft) if stage == "sft" else (study.dpo, study.grid.dpo)


def verdict(study: StudyAnalysis) -> Verdict:
    """What the recommendation comes to: another objective, the usual one, or neither."""
    found = study.recommendation
    if found.ray is None or found.instruction_tuning is None or found.num_rays < 2:
        return "unknown"
    if len(found.within_noise) == found.num_rays - 1:
        return "untold"
    if not study.dpo.from_usual:
        return "unknown"  # nothing that a lead could be held against
    if found.ray == found.instruction_tuning:
        return "untold" if found.within_noise else "usual"
    return "better" if found.is_better else "untold"


def chance_gain(analysis: Analysis, stage: str) -> Estimate | None:
    """Mean gain in percent of the best cell over (0, 1) if all were alike but for noise.

    The expected largest of as many normal values as there are cells with loss on the response,
    in units of the noise floor.
    """
    found = []
    for study in analysis.studies.values():
        by_ray, scores = stage_of(study, stage)
        usual = reference_cell(scores)
        num_cells = sum(bool(cell.response_weight) for cell in scores.cells)
        if by_ray.noise_sd is not None and usual is not None and usual.score > 0 and num_cells:
            noise = by_ray.noise_sd / math.sqrt(usual.num_seeds)
            found.append(100 * noise * expected_largest(num_cells) / usual.score)
    return mean_estimate(found) if len(found) == len(analysis.studies) else None


@cache
def expected_largest(count: int) -> float:
    """Of that many standard normal values."""
    x = np.linspace(-9, 9, 4001)
    density = count * stats.norm.cdf(x) ** (count - 1) * stats.norm.pdf(x)
    return float(np.trapezoid(x * density, x))


class PartMean(NamedTuple):
    """A benchmark over studies: gains of the best cell."""

    benchmark: str
    alone: Estimate | None  # on it, in points: where it collapses, percents of it explode
    without: Estimate | None  # on the mean of the others, in percent
    chosen_without: Estimate | None  # on that mean, of the cell that is best on it


class PartMeans(NamedTuple):
    """The benchmarks that a score is the mean of, over studies."""

    stage: str
    together: Estimate
    parts: tuple[PartMean, ...]
    ratio: float | None  # of the file's average to the mean of its parts

    @property
    def driver(self) -> PartMean | None:
        """The benchmark without which least of the gain is left."""
        known = [part for part in self.parts if part.without is not None]
        return min(known, key=lambda p: p.without.value if p.without else 0, default=None)


def part_means(analysis: Analysis, stage: str) -> PartMeans | None:
    """Means over studies of what ``parts_of`` found; None unless every study has parts."""
    found = [p for s in analysis.studies.values() if (p := stage_of(s, stage)[0].parts)]
    together = _mean([parts.together for parts in found])
    if len(found) < len(analysis.studies) or together is None:
        return None
    names = [part.benchmark for part in found[0].parts]
    by_name = [{part.benchmark: part for part in parts.parts} for parts in found]
    parts = tuple(
        PartMean(
            name,
            mean_estimate([part.alone.absolute for part in same if part.alone]),
            _mean([part.without for part in same]),
            _mean([part.chosen_without for part in same]),
        )
        for name in names
        if (same := [parts[name] for parts in by_name if name in parts])
    )
    ratios = [parts.ratio for parts in found if parts.ratio is not None]
    return PartMeans(stage, together, parts, fmean(ratios) if ratios else None)


def _mean(gains: Sequence[Gain | None]) -> Estimate | None:
    percents = [gain.percent for gain in gains if gain is not None and gain.percent is not None]
    return mean_estimate(percents) if len(percents) == len(gains) else None


def lasting_luck(analysis: Analysis) -> Estimate | None:
    """Mean over studies of how far the luck of a run lasts through DPO."""
    found = [study.relation.luck for study in analysis.studies.values()]
    return mean_estimate([luck for luck in found if luck is not None])


class SignalMean(NamedTuple):
    """What can be measured before DPO, over studies."""

    name: str
    spearman: Estimate | None
    regret: Estimate | None
    num_studies: int


def signal_means(analysis: Analysis) -> tuple[SignalMean, ...]:
    """Means over the studies that have the signal, the best rank correlation first."""
    by_name: dict[str, list[Signal]] = {}
    for study in analysis.studies.values():
        for signal in study.signals:
            by_name.setdefault(signal.name, []).append(signal)
    found = [
        SignalMean(
            name,
            mean_estimate([s.spearman.value for s in same if s.spearman]),
            mean_estimate([s.regret for s in same]),
            len(same),
        )
        for name, same in by_name.items()
    ]
    return tuple(sorted(found, key=lambda s: -(s.spearman.value if s.spearman else -math.inf)))


def point_digits(analysis: Analysis) -> int:
    """Of differences of scores, over all studies."""
    return max(score_digits(analysis).values(), default=2)


def score_digits(analysis: Analysis) -> Mapping[str, int]:
    """By study: one more than scores alone need, for noise and differences are smaller."""
    return {
        name: 1 + decimals_of(c.score for s in (study.grid.sft, study.grid.dpo) for c in s.cells)
        for name, study in analysis.studies.items()
    }
