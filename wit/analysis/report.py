"""The report: one HTML file that reads top to bottom, offline, on a screen, a phone or paper."""

import shlex
from pathlib import Path
from typing import Any

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
from wit.analysis.drawn_pairs import pairs_finding, pairs_numbers
from wit.analysis.grid import CellScore, Grid
from wit.analysis.overlap_section import without_sections
from wit.analysis.page import write_page
from wit.analysis.rays import Rays, rays_of
from wit.analysis.replicates import replicates_in, shown_grid
from wit.analysis.report_diagnostics import diagnostics_of
from wit.analysis.report_findings import (
    capitalised,
    constants_sentence,
    findings,
    parts_sentence,
    relation_words,
    signals_sentence,
)
from wit.analysis.report_spread import split_of
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
from wit.analysis.scores import (
    INSTRUCTION_TUNING,
    Result,
    of_alignment,
    of_tuning,
    select_benchmarks,
    with_objectives,
)
from wit.analysis.search_section import search_section
from wit.analysis.selection import Recommendation, within_noise
from wit.analysis.studies_words import unbroken
from wit.analysis.tunings_section import tunings_section
from wit.config import Study
from wit.lineage.addresses import shown


class Extras(Result):
    """What the report says beside scores and study."""

    tracking_uri: str | None = None  # where the runs are
    versions: dict[str, str] = Field(default_factory=dict)  # of packages, by name
    data: DataSummary | None = None  # None where the scores did not come from here


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
    every = with_objectives(table, study)
    whole = of_tuning(every)
    table = of_alignment(whole)
    [found] = analyse(table.drop(columns="study", errors="ignore")).studies.values()
    grid, choice = found.grid, found.recommendation
    rays = {"sft": rays_of(grid.sft), "dpo": rays_of(grid.dpo)}
    near_sft = [ray.ray for ray in within_noise(rays["sft"])]
    near = {"sft": near_sft, "dpo": [*choice.within_noise]}
    data, drawn = data_section(extras.data), extras.data.pairs if extras.data else ()
    changes = alignment_changes(every, shown_weights(choice))
    decimals = decimals_of(charts.scores_of(grid))
    roles = {role: select_benchmarks(table, role) for role in ("select", "report", "part")}
    benchmarks = figures_of(table, [name for names in roles.values() for name in names], choice)
    aligned = alignments_section(whole, changes["collapsed"])
    tuned = tunings_section(every, study)
    replicates = replicates_in(whole)
    shown = shown_grid(grid, replicates)
    figures = _figures(found, shown, rays, near, data)
    figures |= (tuned.figures if tuned else {}) | (aligned.figures if aligned else {})
    return figures, {
        "subtitle": _subtitle(grid, study, roles["select"]),
        "recommendation": choice,
        "answer": unbroken(choice.sentence),
        "basis": capitalised(choice.basis),
        "findings": [
            *map(unbroken, findings(found, decimals, benchmarks.decimals)),
            *filter(None, [changes["collapse_sentence"], pairs_finding(drawn)]),
            *([f"Beware: {data.finding}; see below."] if data and data.finding else []),
        ],
        "drawn": pairs_numbers(drawn),
        "data": data,
        "aligned": aligned,
        "tuned": tuned,
        "search": search_section(study, grid.sft, grid.dpo, decimals),
        "scale": charts.colour_range(grid),
        "grid": grid,
        "decimals": decimals,
        "cells": marked(cells_of(shown, decimals), changes["collapsed"], replicates),
        "num_replicates": len(replicates),
        "off_grid": sorted({c.weights for c in _all_cells(shown) if not c.is_on_grid}),
        "rays": rays_numbers(found, near_sft, decimals),
        **_noise_of(found, rays),
        **_before_and_after(found, decimals),
        **_what_makes_the_difference(found, rays),
        "select": roles["select"],
        "benchmarks": benchmarks,
        "without_overlap": without_sections(
            extras.data.without_overlap if extras.data else {}, shown_weights(choice)
        ),
        **diagnostics_of(table, choice),
        **changes,
        "samples": side_by_side(extras.data and extras.data.samples, shown_weights(choice)),
        "problems": problems(every),
        "num_excluded": {"SFT": grid.sft.num_excluded, "DPO": grid.dpo.num_excluded},
        **_how_it_was_made(every, study, extras),
    }


def _noise_of(found: StudyAnalysis, rays: dict[str, Rays]) -> dict[str, Any]:
    """What the charts by objective have to say of noise and scale."""
    return {
        "is_seed_shared": "seeds" in {of.stage.replicates for of in rays.values() if of.rays},
        "has_noise": {name: bool(of.noise.deviation) for name, of in rays.items()},
        "has_halo": {"sft": bool(found.sft.from_usual), "dpo": bool(found.dpo.from_usual)},
        "is_scale_seen": any(map(_is_scale_seen, rays.values())),
    }


def _what_makes_the_difference(found: StudyAnalysis, rays: dict[str, Rays]) -> dict[str, Any]:
    """Which benchmarks drive the gain, and what scores differ by."""
    parts = found.dpo.parts or found.sft.parts
    return {
        "parts": parts and parts.together and parts_numbers(parts),
        "parts_ratio": parts and parts.ratio,
        "parts_stage": parts and parts.stage,
        "parts_sentence": parts_sentence(parts),
        "splits": [split_of(found, name, stage) for name, stage in rays.items() if stage.rays],
    }


def _how_it_was_made(table: pd.DataFrame, study: Study | None, extras: Extras) -> dict[str, Any]:
    """The study, and where its runs are."""
    tracking = extras.tracking_uri or ""
    return {
        "study_yaml": _yaml(study),
        "extras": extras,
        "runs": runs_of(table),
        "tracking": shlex.quote(shown(tracking)),
        "is_tracking_whole": shown(tracking) == extras.tracking_uri,
        "is_server": tracking.startswith("http"),
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


def _figures(
    found: StudyAnalysis,
    shown: Grid,
    rays: dict[str, Rays],
    near: dict[str, list[str]],
    data: DataSection | None,
) -> dict[str, charts.Figure]:
    """Every chart that has something to show, by its place."""
    grid = found.grid
    figures: dict[str, charts.Figure] = {}
    for name, stage, part in (("sft", shown.sft, found.sft), ("dpo", shown.dpo, found.dpo)):
        if any(cell.is_on_grid for cell in stage.cells):
            figures[name] = charts.heat_map(stage, shown)
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
