"""Gains over instruction tuning, over several studies: whose, how chosen, and beside what noise."""

import math
from collections.abc import Iterable, Mapping, Sequence

from wit.analysis.across import Across, FixedChoice
from wit.analysis.analyse import Analysis
from wit.analysis.resampling import Estimate, mean_estimate
from wit.analysis.studies_charts import GAIN, MEAN, SERIES, Chart, Line, Point, Section, point_of
from wit.analysis.studies_numbers import (
    PROMPTS_ONLY,
    Lead,
    chance_gain,
    leads_of,
    point_digits,
    stage_of,
    usual_ray,
)
from wit.analysis.studies_words import STAGES, angles_of, best_fixed, verdicts, with_interval

HOLLOW = "Hollow: within the noise, or the same objective as (0, 1) under other weights."


def gains(analysis: Analysis) -> Section | None:
    """Gains by study, with their means."""
    leads = {name: leads_of(study) for name, study in analysis.studies.items()}
    if not any(lead for three in leads.values() for lead in three):
        return None
    lines = [Line(name, tuple(map(_gain_point, three))) for name, three in leads.items()]
    keys = ("gain_sft_best_pct", "gain_dpo_best_pct", "gain_dpo_at_sft_best_pct")
    means = [analysis.overall.get(key) for key in keys]
    if len(lines) > 1:
        lines.append(Line(MEAN, tuple(map(point_of, means)), is_mean=True))
    words = (
        "Best cell against instruction tuning (0, 1), before and after DPO, and what DPO gives "
        "when it starts from the best SFT cell: that one was not chosen by DPO scores, so less "
        "of it may be noise, though the luck of a run may last through DPO. "
        f"{HOLLOW} After DPO, objective by objective: {verdicts(analysis)}"
    )
    what = "Gain of the best cell by study, before and after DPO"
    return Section("Gains", words, Chart("gains", what, GAIN, SERIES, tuple(lines)))


def _gain_point(lead: Lead | None) -> Point | None:
    if lead is None or lead.gain.percent is None:
        return None
    return Point(lead.gain.percent, is_hollow=lead.is_beyond is False)


def selection(analysis: Analysis) -> Section | None:
    """How much of the gain is the choice itself."""
    stages = (analysis.sft, analysis.dpo)
    if not any(stage.held_out_cell for stage in stages):
        return None
    rows: list[tuple[str, list[Estimate | None]]] = [
        ("best cell of each study", [stage.oracle_cell for stage in stages]),
        ("if all were alike but for noise", [chance_gain(analysis, s.stage) for s in stages]),
        ("one cell for all studies", [_first(stage.cells) for stage in stages]),
        ("cell chosen on the other studies", [_held(s, "cell") for s in stages]),
        ("best objective of each study", [stage.oracle_ray for stage in stages]),
        ("one objective for all studies", [_first(stage.rays) for stage in stages]),
        ("objective chosen on the other studies", [_held(s, "ray") for s in stages]),
    ]
    lines = tuple(Line(_in_two(name), tuple(map(point_of, found))) for name, found in rows)
    fixed = "; ".join(text for stage in stages if (text := best_fixed(stage)))
    words = (
        "The best of many is lucky: it is chosen by the scores that it is shown with, and so is "
        "one choice for all studies. Only a choice made on the other studies is fair; for its "
        "interval it is made anew in every draw of studies. An "
        "objective is the mean of its cells, against the mean of instruction tuning's cells. "
        f"{fixed[:1].upper()}{fixed[1:]}.{_shared(stages)}"
    )
    chart = Chart("selection", "Gain by way of choosing", GAIN, SERIES[:2], lines)
    return Section("How much of the gain is the choice", words, chart)


def _shared(stages: Sequence[Across]) -> str:
    """Said where studies have different cells."""
    parts = [
        f"{len(stage.cells)} of {stage.num_cells} cells and {len(stage.rays)} of {stage.num_rays} "
        f"objectives {STAGES[stage.stage]}"
        for stage in stages
        if (len(stage.cells), len(stage.rays)) != (stage.num_cells, stage.num_rays)
    ]
    if not parts:
        return ""
    return (
        f" The studies have different weights: {' and '.join(parts)} are in all of them, and only "
        "these can be one choice for all, or be chosen on the others."
    )


def _first(choices: Sequence[FixedChoice]) -> Estimate | None:
    return choices[0].gain_pct if choices else None


def _held(stage: Across, kind: str) -> Estimate | None:
    held = stage.held_out_cell if kind == "cell" else stage.held_out_ray
    return None if held is None else held.gain_pct


def _in_two(name: str) -> str:
    """Broken near its middle: phones are narrow."""
    words = name.split(" ")
    ends = [len(" ".join(words[:count])) for count in range(1, len(words))]
    cut = min(range(len(ends)), key=lambda i: abs(ends[i] - len(name) / 2)) + 1
    return " ".join(words[:cut]) + "\n" + " ".join(words[cut:])


def angles(analysis: Analysis) -> Section | None:
    """Gain over the angle of rays: the mean over studies, or that of the only study."""
    degrees = angles_of(analysis)
    by_name = [_ray_points(analysis, stage) for stage in STAGES]
    names = [name for name in degrees if any(name in found for found in by_name)]
    if len(names) < 2:
        return None
    names.sort(key=lambda name: degrees[name])
    points = {name: tuple(found.get(name) for found in by_name) for name in names}
    is_one = len(analysis.studies) == 1
    bars = "all of them together" if is_one else "over studies, each by itself"
    far = _far_below(points, degrees)
    lines = [Line(n, points[n], at=None if n in far else degrees[n]) for n in names]
    left_out = f" {', '.join(far)} is far below and stands in the table only." if far else ""
    words = (
        "Gain of every objective over that of instruction tuning, which is 0 by definition. "
        "0 : 1 is loss on responses only, 1 : 1 both alike, 1 : 0 prompts only. "
        f"Bars: 95 % intervals, {bars}.{left_out}"
    )
    what = "Gain by objective, before and after DPO"
    return Section(
        "Gain by objective: the ratio of prompt to response weight",
        words,
        Chart("angles", what, "gain, %" if is_one else "mean gain, %", SERIES[:2], tuple(lines)),
    )


def _ray_points(analysis: Analysis, stage: str) -> dict[str, Point | None]:
    if len(analysis.studies) > 1:
        found = analysis.sft if stage == "sft" else analysis.dpo
        return {ray.name: point_of(ray.gain_pct) for ray in found.rays}
    [study] = analysis.studies.values()
    by_ray, scores = stage_of(study, stage)
    usual = usual_ray(by_ray)
    if usual is None or usual.score <= 0:
        return {}
    unit = (-100 if scores.is_less_better else 100) / usual.score
    points = {}
    for ray in by_ray.rays:
        gain, width = unit * (ray.score - usual.score), by_ray.from_usual.get(ray.ray)
        half = None if width is None else abs(unit) * width
        points[ray.ray] = Point(gain) if half is None else Point(gain, gain - half, gain + half)
    return points


def _far_below(
    points: Mapping[str, tuple[Point | None, ...]], degrees: Mapping[str, float]
) -> list[str]:
    """The ray without loss on the response, where it would press all others into a line."""
    inside = [
        point.value if point.low is None else point.low
        for name, both in points.items()
        for point in both
        if point is not None and degrees[name] != PROMPTS_ONLY
    ]
    lowest = min(inside, default=-math.inf)
    return [
        name
        for name, both in points.items()
        if degrees[name] == PROMPTS_ONLY and all(p is None or p.value < lowest for p in both)
    ]


def noise(analysis: Analysis) -> Section | None:
    """Gains in points beside what noise may do."""
    lines, floors, digits = [], [], point_digits(analysis)
    for name, study in analysis.studies.items():
        leads = leads_of(study)
        both = [_noise_point(lead) for lead in leads[:2]]
        if any(point is not None and point.band is not None for point in both):
            lines.append(Line(name, tuple(both)))
        floors.append((study.sft.noise_sd, study.dpo.noise_sd))
    if not lines:
        return None
    means = [_mean(side) for side in zip(*floors, strict=True)]
    said = " and ".join(
        f"{with_interval(mean, '', digits, is_signed=False)} {STAGES[stage]}"
        for stage, mean in zip(STAGES, means, strict=True)
        if mean is not None
    )
    words = (
        "The noise floor is the standard deviation between runs of one objective: "
        f"{said} on average. Grey bands: how far the best of all cells may be from (0, 1) by noise "
        f"alone, with 95 % confidence. {HOLLOW}"
    )
    what = "Gain of the best cell in points by study, with bands of noise"
    chart = Chart("noise", what, "gain over (0, 1), points", SERIES[:2], tuple(lines), digits)
    return Section("Gain and noise", words, chart)


def _noise_point(lead: Lead | None) -> Point | None:
    if lead is None:
        return None
    return Point(lead.gain.absolute, is_hollow=lead.is_beyond is False, band=lead.half_width)


def _mean(values: Iterable[float | None]) -> Estimate | None:
    return mean_estimate([value for value in values if value is not None])
