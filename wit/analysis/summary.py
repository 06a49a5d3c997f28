"""A study in a few lines of Markdown and in one table, for the Prefect UI."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from wit.analysis.collapse import collapse_sentence, collapses
from wit.analysis.comparison import Measured, compare
from wit.analysis.digits import decimals_of, number, plus_minus
from wit.analysis.grid import stage_scores, summarise
from wit.analysis.heat_map_png import heat_maps
from wit.analysis.rays import rays_of
from wit.analysis.replicates import replicates_in, shown_grid
from wit.analysis.report_tables import problems
from wit.analysis.scores import alignments_in, of_alignment, of_tuning, with_objectives
from wit.analysis.selection import recommend
from wit.config import Study

MAX_REASON = 300  # letters of why a model failed; the report has them all
MARKUP = re.compile(r"([\\`*_\[\]<>|#~$&!])")  # what Markdown, HTML and tables read as their own


def markdown_summary(
    table: pd.DataFrame, report: Path, tracking: str, study: Study | None = None
) -> str:
    """The recommendation, what collapsed, a picture, every objective and cell, what failed.

    Args:
        table: As ``wit.lineage.table`` gives it, of one study.
        report: The HTML report; beside it are the logs of the workers.
        tracking: Address of the study's MLflow run, or of the store.
        study: Its recipe, which says what is one objective.
    """
    every = with_objectives(table, study)
    whole = of_tuning(every)
    table = of_alignment(whole)
    lines = [plain(recommend(table).sentence), ""]
    if collapsed := collapse_sentence(collapses(every)):
        lines += [plain(collapsed), ""]
    lines += [*_picture(table), *_rays(table)]
    if replicates_in(whole):
        lines += ["A = B: the same objective as B; not trained.", ""]
    lines += ["| cell | SFT | DPO |", "|---|---|---|"]
    for cell in compare(every):
        before = cell.models.get("sft") or cell.models.get("base")
        scores = _score(before), _score(cell.models.get("dpo"))
        name = cell.cell if cell.replicate_of is None else f"{cell.cell} = {cell.replicate_of}"
        lines.append(f"| {plain(name)} | {' | '.join(map(plain, scores))} |")
        for name, other in cell.other_alignments.items():
            lines.append(f"| {plain(f'{cell.cell} {name}')} | | {plain(_score(other))} |")
    if missing := problems(every):
        lines += ["", "| missing | stage | state | why |", "|---|---|---|---|"]
    for problem in missing:
        why = problem.error[:MAX_REASON]
        fields = (problem.cell, problem.stage, problem.status, why)
        lines.append(f"| {' | '.join(map(plain, fields))} |")
    is_link = tracking.startswith("http")
    mlflow = f"[MLflow]({tracking})" if is_link else f"MLflow: `{tracking}`"
    logs = f"Logs of the workers: `{report.parent / 'worker-*.log'}`"
    return "\n".join([*lines, "", f"Report: `{report}`", "", mlflow, "", logs])


def cells_table(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per cell and seed with plain values, for a table that can be sorted."""
    rows = []
    # Of several alignments each has its name: another than the main one may be called dpo.
    main, *others = alignments_in(table) or ["dpo"]
    called = {"base": "base", "sft": "sft", "dpo": main if others else "dpo"}
    for cell in compare(table):
        models = {called[stage]: measured for stage, measured in cell.models.items()}
        row: dict[str, Any] = {"cell": cell.cell}
        if cell.replicate_of is not None:
            row["same objective as"] = cell.replicate_of
        for name, measured in (models | cell.other_alignments).items():
            row |= {f"{name} score": measured.score, f"{name} state": measured.status}
            if measured.collapse:
                row[f"{name} collapse"] = "; ".join(measured.collapse)
        rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in columns} for row in rows]


def plain(text: str) -> str:
    """The text as Markdown that means just this, in one line."""
    return MARKUP.sub(r"\\\1", " ".join(text.split()))


def _picture(table: pd.DataFrame) -> list[str]:
    address = heat_maps(shown_grid(summarise(table), replicates_in(table)))
    return [] if address is None else [f"![Scores before and after DPO]({address})", ""]


def _rays(table: pd.DataFrame) -> list[str]:
    """Every objective, before and after DPO."""
    stages = [rays_of(stage_scores(table, stage)) for stage in ("sft", "dpo")]
    names = list(dict.fromkeys(ray.ray for rays in stages for ray in rays.rays))
    if not names:
        return []
    decimals = decimals_of(model.score for rays in stages for model in rays.stage.models)
    lines = ["| objective (prompt : response) | SFT | DPO |", "|---|---|---|"]
    for name in names:
        found = [rays.ray(name) for rays in stages]
        scores = [
            "" if ray is None else plus_minus(ray.score, ray.half_width, decimals) for ray in found
        ]
        best = stages[1].best
        mark = " (best)" if best is not None and best.ray == name else ""
        lines.append(f"| {plain(name)}{mark} | {' | '.join(scores)} |")
    return [*lines, ""]


def _score(measured: Measured | None) -> str:
    if measured is None:
        return ""
    if measured.score is None:
        return measured.status if measured.status != "finished" else "no complete score"
    collapsed = " (collapsed)" if measured.collapse else ""
    return number(measured.score, decimals_of([measured.score])) + collapsed
