"""The report: one HTML file that reads top to bottom, offline, on a screen or a phone."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup
from pydantic import Field

from wit.analysis import charts
from wit.analysis.data_section import data_section
from wit.analysis.data_summary import DataSummary
from wit.analysis.grid import (
    INSTRUCTION_TUNING,
    CellScore,
    Grid,
    Result,
    StageScores,
    gain,
    rows_of,
    select_benchmarks,
    stage_scores,
    summarise,
)
from wit.analysis.selection import Recommendation, basis_in_words, in_words, recommend
from wit.config import Study
from wit.errors import InputError

DIAGNOSTICS = {
    "nll_prompt": "prompt NLL",
    "nll_response": "response NLL",
    "preference_accuracy": "preference accuracy",
}


class Extras(Result):
    """What the report says beside scores and study."""

    tracking_uri: str | None = None  # where the runs are
    versions: dict[str, str] = Field(default_factory=dict)  # of packages, by name
    data: DataSummary | None = None  # None where the scores did not come from here


class Problem(NamedTuple):
    """A model without scores."""

    cell: str
    stage: str
    status: str
    error: str


class Line(NamedTuple):
    """One row of a table of scores: a pair of weights, and a column per figure."""

    weights: str
    is_best: bool
    values: list[CellScore | None]


class Figures(NamedTuple):
    """A table of scores: one group of columns per benchmark or diagnostic."""

    groups: list[str]
    stages: list[str]  # within each group
    lines: list[Line]


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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("wit.analysis", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja").render(_content(table, study, extras))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # A folder of its own: others may write the same report at this moment.
        with TemporaryDirectory(dir=out.parent, prefix=".", suffix=".partial") as folder:
            aside = Path(folder) / out.name
            aside.write_text(page, encoding="utf-8")
            aside.replace(out)
    except OSError as error:
        raise InputError(
            f"{out}: the report cannot be written ({error.strerror}); choose another with --out"
        ) from None
    return out


def _content(table: pd.DataFrame, study: Study | None, extras: Extras) -> dict[str, Any]:
    grid, recommendation = summarise(table), recommend(table)
    select, report = select_benchmarks(table), select_benchmarks(table, "report")
    measured = {row["benchmark"] for row in rows_of(table) if isinstance(row["benchmark"], str)}
    diagnostics = [name for name in DIAGNOSTICS if name in measured]
    data = data_section(extras.data)
    figures = {
        "sft": charts.heat_map(grid.sft, grid),
        "dpo": charts.heat_map(grid.dpo, grid),
        "scatter": charts.scatter(grid),
    }
    if data is not None and data.chart is not None:
        figures["lengths"] = data.chart
    return {
        "title": study.name if study is not None else _name(table),
        "subtitle": _subtitle(grid, study, select),
        "recommendation": recommendation,
        "basis": _capitalised(basis_in_words(recommendation)),
        "findings": [
            *_findings(grid, recommendation),
            *([f"Beware: {data.finding}; see below."] if data and data.finding else []),
        ],
        "figures": {name: Markup(_json(figure)) for name, figure in figures.items()},
        "data": data,
        "scale": charts.colour_range(grid),
        "scale_stops": ", ".join(charts.SCALE_STOPS),
        "grid": grid,
        "off_grid": sorted({c.weights for c in _all_cells(grid) if not c.is_on_grid}),
        "select": select,
        "report": report,
        "benchmarks": figures_of(table, [*select, *report], recommendation),
        "diagnostics": figures_of(table, diagnostics, recommendation),
        "diagnostic_names": DIAGNOSTICS,
        "problems": problems(table),
        "study_yaml": _yaml(study),
        "extras": extras,
        "runs": _runs(table),
        "is_server": (extras.tracking_uri or "").startswith("http"),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "plotly": Markup((files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")),
    }


def figures_of(table: pd.DataFrame, names: Iterable[str], choice: Recommendation) -> Figures:
    """Each of ``names`` apart, for the base and for every cell before and after DPO."""
    groups = list(names)
    stages = ("sft", "dpo")
    scores = {(n, s): stage_scores(table, s, [n]) for n in groups for s in ("base", *stages)}
    lines = []
    base = [scores[name, "base"].cell("base") for name in groups]
    if any(base):
        lines.append(Line("base", False, [cell for cell in base for _ in stages]))
    known = {c.weights: c for found in scores.values() for c in found.cells if c.weights != "base"}
    ordered = sorted(
        known.values(), key=lambda c: (-(c.response_weight or 0), c.prompt_weight or 0)
    )
    best = None if choice.best is None else choice.best.weights
    for cell in ordered:
        values = [scores[name, stage].cell(cell.weights) for name in groups for stage in stages]
        lines.append(Line(cell.weights, cell.weights == best, values))
    return Figures(groups, list(stages), lines)


def problems(table: pd.DataFrame) -> list[Problem]:
    """Every model that has no score, and every score that is not a number."""
    found = []
    for row in rows_of(table):
        cell = row.get("cell") or f"{row['weights']}-s{row['seed']}"
        if not isinstance(row["benchmark"], str):
            error = row.get("error")
            reason = error if isinstance(error, str) else ""
            found.append(Problem(cell, row["stage"], row.get("status", "missing"), reason))
        elif pd.isna(row["score"]):
            found.append(Problem(cell, row["stage"], "not a number", row["benchmark"]))
    return found


def _all_cells(grid: Grid) -> tuple[CellScore, ...]:
    return (*grid.sft.cells, *grid.dpo.cells)


def _findings(grid: Grid, choice: Recommendation) -> Iterable[str]:
    """One sentence each on choice, ranks, alignment and what is left out."""
    if choice.report_scores:
        parts = [_report_phrase(score.model_dump()) for score in choice.report_scores]
        yield f"On the benchmarks that had no say in the choice it scores {'; '.join(parts)}."
    if choice.within_noise:
        yield f"Within the noise of the best: {', '.join(choice.within_noise)}."
    sft, dpo = grid.sft.shared_with(grid.dpo).best, grid.dpo.shared_with(grid.sft).best
    if sft is not None and dpo is not None and grid.num_in_both > 1 and grid.regret is not None:
        has_more = not grid.num_in_both == len(grid.sft.cells) == len(grid.dpo.cells)
        of = "of the cells with both scores, " if has_more else ""
        yield _capitalised(of + _agreement(sft, dpo, grid.regret))
    if grid.spearman is not None:
        yield (
            f"Ranks before and after DPO correlate by {grid.spearman:+.2f} "
            f"(Spearman, {grid.num_in_both} cells)."
        )
    yield from _usual_gains(grid.sft, grid.dpo)


def _report_phrase(score: dict[str, Any]) -> str:
    interval = "" if score["half_width"] is None else f" ± {score['half_width']:.3f}"
    usual = score["instruction_tuning"]
    than = "" if usual is None else f" (instruction tuning {usual:.3f})"
    return f"{score['score']:.3f}{interval} on {score['benchmark']}{than}"


def _agreement(sft: CellScore, dpo: CellScore, regret: float) -> str:
    if sft.weights == dpo.weights:
        return f"the same cell, {in_words(sft)}, is best before DPO and after it."
    return (
        f"before DPO {in_words(sft)} is best, after it {in_words(dpo)}: choosing by the SFT score "
        f"would cost {regret:.3f}."
    )


def _usual_gains(sft: StageScores, dpo: StageScores) -> Iterable[str]:
    parts = []
    if sft.is_mixed:
        return  # a mean of both directions has no unit to gain in
    for stage, name in ((sft, "before DPO"), (dpo, "after DPO")):
        usual, best = stage.cell(INSTRUCTION_TUNING), stage.best
        if usual is not None and best is not None and best != usual:
            found = gain(best, usual)
            percent = "" if found.percent is None else f" ({found.percent:+.1f} %)"
            parts.append(f"{found.absolute:+.3f}{percent} {name}")
    if parts:
        yield f"Best cell against instruction tuning (0, 1): {', '.join(parts)}."


def _subtitle(grid: Grid, study: Study | None, select: tuple[str, ...]) -> str:
    num_cells = len({cell.weights for cell in _all_cells(grid)})
    seeds = max((cell.num_seeds for cell in _all_cells(grid)), default=0)
    parts = [f"{num_cells} pairs of weights", f"{seeds} seed{'s' * (seeds != 1)}"]
    if study is not None:
        parts.insert(0, f"base {study.base.repo or Path(study.base.path or '').name}")
    return " · ".join([*parts, f"chosen by {', '.join(select) or 'nothing'}"])


def _runs(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry per model that has a run, in the order of the table."""
    found = {}
    for row in rows_of(table):
        if isinstance(row.get("run_id"), str):
            keys = ("cell", "stage", "status", "fingerprint", "run_id", "run_url")
            found[row["run_id"]] = {key: row.get(key) for key in keys}
    return list(found.values())


def _capitalised(words: str) -> str:
    return words[:1].upper() + words[1:]


def _name(table: pd.DataFrame) -> str:
    names = list(dict.fromkeys(table["study"])) if "study" in table else []
    return ", ".join(map(str, names)) or "scores"


def _yaml(study: Study | None) -> str:
    if study is None:
        return ""
    values = study.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _json(figure: charts.Figure) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(figure, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


__all__ = ["Extras", "Problem", "figures_of", "problems", "write_report"]
