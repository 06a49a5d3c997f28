"""The report: one HTML file that reads top to bottom, offline, on a screen, a phone or paper."""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from pydantic import Field

from wit.analysis import charts
from wit.analysis.alignment_changes import alignment_changes, marked
from wit.analysis.alignments_section import alignments_section
from wit.analysis.analyse import StudyAnalysis, analyse
from wit.analysis.answers import side_by_side
from wit.analysis.chart_parts import parts_chart
from wit.analysis.chart_rays import ray_chart
from wit.analysis.chart_scatter import points_of, scatter
from wit.analysis.data_section import DataSection, data_section
from wit.analysis.data_summary import DataSummary
from wit.analysis.digits import decimals_of
from wit.analysis.forgetting import FORGETTING, forgetting_sentence
from wit.analysis.grid import CellScore, Grid
from wit.analysis.overlap_section import without_sections
from wit.analysis.page import write_page
from wit.analysis.rays import Rays, rays_of
from wit.analysis.report_findings import (
    capitalised,
    constants_sentence,
    findings,
    parts_sentence,
    relation_words,
    signals_sentence,
    variance_note,
)
from wit.analysis.report_tables import (
    cells_of,
    correlations_of,
    figures_of,
    parts_numbers,
    problems,
    rays_numbers,
    runs_of,
    signals_of,
)
from wit.analysis.score_labels import in_order, signal_name
from wit.analysis.scores import (
    INSTRUCTION_TUNING,
    Result,
    of_alignment,
    select_benchmarks,
    with_objectives,
)
from wit.analysis.selection import Recommendation, within_noise
from wit.analysis.studies_words import unbroken
from wit.analysis.variance import VarianceSplit
from wit.config import Study
from wit.lineage.addresses import shown
from wit.score_names import ALIGNMENT, CUT_PROMPTS, JUDGED, RESPONSES, SENSITIVITY, WORDING


class Extras(Result):
    """What the report says beside scores and study."""

    tracking_uri: str | None = None  # where the runs are
    versions: dict[str, str] = Field(default_factory=dict)  # of packages, by name
    data: DataSummary | None = None  # None where the scores did not come from here


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


def write_report(table: pd.DataFrame, study: Study | None, extras: Extras, out: Path) -> Path:
    """Writes the report of a study to ``out``; whole or not at all.

    Args:
        table: As ``wit.lineage.table`` gives it, of one study.
        study: Its recipe; None where the scores did not come from here.
        extras: What else to say.
        out: An HTML file; its folder is made.

    Returns:
        ``out``.

    Raises:
        InputError: It cannot be written.
    """
    figures, content = _content(table, study, extras)
    title = study.name if study is not None else _name(table)
    return write_page("report.html.jinja", title, figures, content | {"title": title}, out)


def _content(
    table: pd.DataFrame, study: Study | None, extras: Extras
) -> tuple[dict[str, charts.Figure], dict[str, Any]]:
    # One study, whatever it is called: a table of none has no name to group by.
    whole = with_objectives(table, study)
    table = of_alignment(whole)
    [found] = analyse(table.drop(columns="study", errors="ignore")).studies.values()
    grid, choice = found.grid, found.recommendation
    rays = {"sft": rays_of(grid.sft), "dpo": rays_of(grid.dpo)}
    near_sft = [ray.ray for ray in within_noise(rays["sft"])]
    parts = found.dpo.parts or found.sft.parts
    near = {"sft": near_sft, "dpo": [*choice.within_noise]}
    data = data_section(extras.data)
    changes = alignment_changes(table, shown_weights(choice))
    decimals = decimals_of(charts.scores_of(grid))
    roles = {role: select_benchmarks(table, role) for role in ("select", "report", "part")}
    benchmarks = figures_of(table, [name for names in roles.values() for name in names], choice)
    aligned = alignments_section(whole)
    figures = _figures(found, rays, near, data) | (aligned.figures if aligned else {})
    return figures, {
        "subtitle": _subtitle(grid, study, roles["select"]),
        "recommendation": choice,
        "answer": unbroken(choice.sentence),
        "basis": capitalised(choice.basis),
        "findings": [
            *map(unbroken, findings(found, decimals, benchmarks.decimals)),
            *filter(None, [changes["collapse_sentence"]]),
            *([f"Beware: {data.finding}; see below."] if data and data.finding else []),
        ],
        "data": data,
        "aligned": aligned,
        "scale": charts.colour_range(grid),
        "grid": grid,
        "decimals": decimals,
        "cells": marked(cells_of(grid, decimals), changes["collapsed"]),
        "off_grid": sorted({c.weights for c in _all_cells(grid) if not c.is_on_grid}),
        "rays": rays_numbers(found, near_sft, decimals),
        "is_seed_shared": "seeds" in {of.stage.replicates for of in rays.values() if of.rays},
        "has_noise": {name: bool(of.noise.deviation) for name, of in rays.items()},
        "has_halo": {"sft": bool(found.sft.from_usual), "dpo": bool(found.dpo.from_usual)},
        **_before_and_after(found, decimals),
        "parts": parts and parts.together and parts_numbers(parts),
        "parts_ratio": parts and parts.ratio,
        "parts_stage": parts and parts.stage,
        "parts_sentence": parts_sentence(parts),
        "is_scale_seen": _is_scale_seen(rays["dpo"]) or _is_scale_seen(rays["sft"]),
        "splits": [_split(found, name, stage) for name, stage in rays.items() if stage.rays],
        "select": roles["select"],
        "benchmarks": benchmarks,
        "without_overlap": without_sections(
            extras.data.without_overlap if extras.data else {}, shown_weights(choice)
        ),
        **_beside_benchmarks(table, choice),
        **changes,
        "samples": side_by_side(extras.data and extras.data.samples, shown_weights(choice)),
        "problems": problems(whole),
        "num_excluded": {"SFT": grid.sft.num_excluded, "DPO": grid.dpo.num_excluded},
        "study_yaml": _yaml(study),
        "extras": extras,
        "runs": runs_of(whole),
        "tracking": shlex.quote(shown(extras.tracking_uri or "")),
        "is_tracking_whole": shown(extras.tracking_uri or "") == extras.tracking_uri,
        "is_server": (extras.tracking_uri or "").startswith("http"),
    }


def _before_and_after(found: StudyAnalysis, decimals: int) -> dict[str, Any]:
    """What scores before DPO say of those after it, and what else was known before."""
    return {
        "is_same_best": found.relation.same_best,
        "relation": relation_words(found, decimals),
        "correlations": correlations_of(found),
        "signals": signals_of(found, decimals),
        "signals_sentence": signals_sentence(found.signals),
        "constants_sentence": constants_sentence(found.signals),
    }


def _beside_benchmarks(table: pd.DataFrame, choice: Recommendation) -> dict[str, Any]:
    """What is known of models beside how good they are, by sections."""
    measured = select_benchmarks(table, "diagnostic")
    judged = [n for n in measured if n.partition("/")[2] in JUDGED and not _is_uncut(table, n)]
    known = {name for name in measured if "/" not in name} - {*FORGETTING, *ALIGNMENT}
    responses = [n for n in in_order(known) if n in RESPONSES and not _is_uncut(table, n)]
    wording = [n for n in in_order(known) if n in WORDING or n.startswith(SENSITIVITY)]
    diagnostics = in_order(known - {*wording, *RESPONSES})
    forgotten = [*select_benchmarks(table, "forgetting"), *FORGETTING]
    return {
        "judged": figures_of(table, judged, choice),
        "judged_names": {name: signal_name(name) for name in judged},
        "forgetting": figures_of(table, forgotten, choice),
        "forgetting_names": {name: signal_name(name) for name in FORGETTING},
        "forgetting_sentence": forgetting_sentence(table, choice),
        "wording": figures_of(table, wording, choice),
        "wording_names": {name: signal_name(name) for name in wording},
        "responses": figures_of(table, responses, choice),
        "responses_names": {name: signal_name(name) for name in responses},
        "diagnostics": figures_of(table, diagnostics, choice),
        "diagnostic_names": {name: signal_name(name) for name in diagnostics},
    }


def _is_uncut(table: pd.DataFrame, name: str) -> bool:
    """Whether it counts prompts that were cut, and there are none."""
    is_zero = not table.loc[table["benchmark"] == name, "score"].any()
    return is_zero and name.rpartition("/")[2] == CUT_PROMPTS


def _figures(
    found: StudyAnalysis,
    rays: dict[str, Rays],
    near: dict[str, list[str]],
    data: DataSection | None,
) -> dict[str, charts.Figure]:
    """Every chart that has something to show, by its place."""
    grid = found.grid
    figures: dict[str, charts.Figure] = {}
    for name, stage, part in (("sft", grid.sft, found.sft), ("dpo", grid.dpo, found.dpo)):
        if any(cell.is_on_grid for cell in stage.cells):
            figures[name] = charts.heat_map(stage, grid)
        if rays[name].rays:
            figures[f"rays-{name}"] = ray_chart(rays[name], near[name], part.from_usual)
    if len(points_of(grid)) > 1:
        figures["scatter"] = scatter(grid)
    parts = found.dpo.parts or found.sft.parts
    gains = None if parts is None else parts_chart(parts)
    if gains is not None:
        figures["parts"] = gains
    if data is not None and data.chart is not None:
        figures["lengths"] = data.chart
    return figures


def _is_scale_seen(rays: Rays) -> bool:
    """Whether several objectives have one ratio: the recipe makes them differ by scale."""
    angles = [ray.degrees for ray in rays.rays if ray.degrees is not None]
    return len(set(angles)) < len(angles)


def _split(study: StudyAnalysis, name: str, rays: Rays) -> Split:
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


def _all_cells(grid: Grid) -> tuple[CellScore, ...]:
    return (*grid.sft.cells, *grid.dpo.cells)


def _subtitle(grid: Grid, study: Study | None, select: tuple[str, ...]) -> str:
    num_cells = len({cell.weights for cell in _all_cells(grid)})
    seeds = max((cell.num_seeds for cell in _all_cells(grid)), default=0)
    parts = []
    if num_cells:
        parts.append(f"{num_cells} pair{'s' * (num_cells != 1)} of weights")
        parts.append(f"{seeds} seed{'s' * (seeds != 1)}")
    if study is not None:
        parts.insert(0, f"base {study.base.repo or Path(study.base.path or '').name}")
    return " · ".join([*parts, f"chosen by {', '.join(select)}" if select else "no scores yet"])


def _name(table: pd.DataFrame) -> str:
    names = list(dict.fromkeys(table["study"])) if "study" in table else []
    return ", ".join(map(str, names)) or "scores"


def shown_weights(choice: Recommendation) -> list[str]:
    """Whose samples are shown: the recommended weights, and the usual ones."""
    best = [] if choice.best is None else [choice.best.weights]
    return [*best, INSTRUCTION_TUNING]


def _yaml(study: Study | None) -> str:
    if study is None:
        return ""
    values = study.stated()
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
