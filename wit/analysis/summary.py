"""A study in a few lines of Markdown, for the Prefect UI."""

import pandas as pd

from wit.analysis.comparison import Measured, compare
from wit.analysis.selection import recommend


def markdown_summary(table: pd.DataFrame, report: str, tracking: str) -> str:
    """The recommendation, one line per cell and seed, and where to read on.

    Args:
        table: As ``wit.lineage.table`` gives it, of one study.
        report: Path of the HTML report.
        tracking: Address of the study's MLflow run, or of the store.
    """
    lines = [recommend(table).sentence, "", "| cell | SFT | DPO |", "|---|---|---|"]
    for cell in compare(table):
        before = cell.models.get("sft") or cell.models.get("base")
        lines.append(f"| {cell.cell} | {_score(before)} | {_score(cell.models.get('dpo'))} |")
    return "\n".join([*lines, "", f"Report: `{report}`", "", f"MLflow: {tracking}"])


def _score(measured: Measured | None) -> str:
    if measured is None:
        return ""
    return measured.status if measured.score is None else f"{measured.score:.3f}"
