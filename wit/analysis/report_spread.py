"""The report's bars of what the scores of a stage differ by: objective, seed, and the rest."""

from typing import NamedTuple

from wit.analysis.analyse import StudyAnalysis
from wit.analysis.rays import Rays
from wit.analysis.report_findings import variance_note
from wit.analysis.variance import VarianceSplit


class Share(NamedTuple):
    """A piece of the bar of what scores differ by."""

    name: str
    deviation: float  # standard deviation, in units of the score
    percent: float  # of the variance
    colour: str


class Split(NamedTuple):
    """How the scores of a stage differ."""

    stage: str
    shares: list[Share]  # empty: nothing can be told
    note: str  # what cannot be told, and why
    noise_sd: float | None  # within rays; None also where all runs of a ray are alike
    freedom: int


def split_of(study: StudyAnalysis, name: str, rays: Rays) -> Split:
    """The split of the stage of that name."""
    stage = study.sft if name == "sft" else study.dpo
    num_seeds = len({model.seed for model in rays.stage.models})
    scores = [model.score for model in rays.stage.models]
    return Split(
        stage=name.upper(),
        shares=_shares(stage.variance, scores),
        note=variance_note(stage.variance, num_seeds, is_alike=_are_alike(scores)),
        noise_sd=stage.noise_sd or None,
        freedom=stage.noise_freedom,
    )


def _shares(split: VarianceSplit, scores: list[float]) -> list[Share]:
    parts = [
        ("objective", split.ray, "#0072b2"),
        ("seed", split.seed, "#e69f00"),
        ("rest", split.rest, "#8c939d"),
    ]
    known = [(name, value, colour) for name, value, colour in parts if value is not None]
    total = sum(value**2 for _, value, _ in known)
    if not split.rest or not total or _are_alike(scores):
        return []
    return [Share(name, value, 100 * value**2 / total, colour) for name, value, colour in known]


def _are_alike(scores: list[float]) -> bool:
    return max(scores) - min(scores) <= 1e-9 * max(map(abs, scores))  # but for rounding
