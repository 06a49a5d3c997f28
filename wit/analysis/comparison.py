"""Every cell and seed side by side: before and after DPO. For ``wit compare``."""

from typing import Any

import pandas as pd
from pydantic import Field

from wit.analysis.grid import stage_scores
from wit.analysis.scores import STAGES, Result, Row, rows_of, select_benchmarks


class Measured(Result):
    """What was measured on one model, or why nothing was."""

    status: str
    error: str | None = None
    fingerprint: str | None = None
    score: float | None = None  # mean over the select benchmarks
    half_width: float | None = None  # of its interval, from the benchmarks' standard errors
    benchmarks: dict[str, float] = Field(default_factory=dict)
    diagnostics: dict[str, float] = Field(default_factory=dict)  # nll_<role>, preference_accuracy


class ComparedCell(Result):
    """One pair of weights with one seed."""

    cell: str
    weights: str
    prompt_weight: float | None
    response_weight: float | None
    seed: int | None
    models: dict[str, Measured]  # by stage: sft and dpo; or base alone


def compare(table: pd.DataFrame) -> list[ComparedCell]:
    """One entry per cell and seed, the base first; every cell of the table, measured or not.

    Args:
        table: Of one study, as ``wit.lineage.table`` gives it.
    """
    names = select_benchmarks(table)
    cells: dict[tuple[str, int], list[Row]] = {}
    for row in rows_of(table):
        cells.setdefault((row["weights"], row["seed"]), []).append(row)
    compared = []
    for (weights, seed), rows in cells.items():
        is_base = weights == "base"
        stages = [stage for stage in STAGES if any(row["stage"] == stage for row in rows)]
        compared.append(
            ComparedCell(
                cell="base" if is_base else f"{weights}-s{seed}",
                weights=weights,
                prompt_weight=None if is_base else rows[0]["prompt_weight"],
                response_weight=None if is_base else rows[0]["response_weight"],
                seed=None if is_base else seed,
                models={stage: _measured(rows, stage, names) for stage in stages},
            )
        )
    return sorted(compared, key=_base_first_then_by_weights)


def _base_first_then_by_weights(cell: ComparedCell) -> tuple[Any, ...]:
    weights = (-(cell.response_weight or 0), cell.prompt_weight or 0, cell.weights)
    return cell.weights != "base", *weights, cell.seed or 0


def _measured(cell_rows: list[Row], stage: str, names: tuple[str, ...]) -> Measured:
    found = stage_scores(pd.DataFrame(cell_rows), stage, names)
    cell = found.cells[0] if found.cells else None
    rows = [row for row in cell_rows if row["stage"] == stage]
    scored = [row for row in rows if isinstance(row["benchmark"], str)]
    return Measured(
        status=rows[0].get("status", "finished"),
        error=_text(rows[0], "error"),
        fingerprint=_text(rows[0], "fingerprint"),
        score=None if cell is None else cell.score,
        half_width=None if cell is None else cell.half_width,
        benchmarks={r["benchmark"]: r["score"] for r in scored if r["role"] != "diagnostic"},
        diagnostics={r["benchmark"]: r["score"] for r in scored if r["role"] == "diagnostic"},
    )


def _text(row: Row, column: str) -> str | None:
    value = row.get(column)
    return value if isinstance(value, str) else None
