"""Every cell and seed side by side: before and after DPO. For ``wit compare``."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from pydantic import Field

from wit.analysis.collapse import collapses
from wit.analysis.grid import ModelScore, stage_scores
from wit.analysis.intervals import half_width, item_stderr
from wit.analysis.replicates import pair_of, replicates_in
from wit.analysis.scores import (
    STAGES,
    Result,
    Row,
    alignment_columns,
    alignments_in,
    by_angle,
    by_tuning,
    of_alignment,
    rows_of,
)
from wit.config import cell_name

# Why a model collapsed, by tuning, alignment (None: the main one), weights and seed.
Reasons = dict[tuple[str | None, str | None, str, int], tuple[str, ...]]


class Measured(Result):
    """What was measured on one model, or why nothing was."""

    status: str
    error: str | None = None
    alignment: str | None = None  # what the study calls it; None: it is not aligned
    objective: str | None = None  # of alignment
    beta: float | None = None
    fingerprint: str | None = None
    score: float | None = None  # mean over the select benchmarks
    half_width: float | None = None  # of its interval, from the benchmarks' standard errors
    benchmarks: dict[str, float] = Field(default_factory=dict)
    failed: tuple[str, ...] = ()  # what could not be measured, and why
    collapse: tuple[str, ...] = ()  # why it is clearly worse than the SFT model it began as
    diagnostics: dict[str, float] = Field(default_factory=dict)  # nll_<role>, preference_accuracy
    # Of the 95 % interval of each of these, from its items alone. None: it has none, for the score
    # has no closed form of an error, rests on one item, or is no share and the same for all items.
    half_widths: dict[str, float | None] = Field(default_factory=dict)


class ComparedCell(Result):
    """One pair of weights with one seed."""

    cell: str
    weights: str
    prompt_weight: float | None
    response_weight: float | None
    seed: int | None
    tuning: str | None  # what the study calls its way of SFT; None: it names none
    models: dict[str, Measured]  # by stage: sft and dpo, the main alignment; or base alone
    other_alignments: dict[str, Measured] = Field(default_factory=dict)  # by name
    replicate_of: str | None = None  # cell of the same objective; this one was not trained


def compare(table: pd.DataFrame) -> list[ComparedCell]:
    """One entry per cell and seed, the base first; every cell of the table, measured or not.

    Of several tunings those of the main one come first.

    A cell that was not trained has the models of that whose replicate it is, and follows it.

    Args:
        table: Of one study, as ``wit.lineage.table`` gives it.
    """
    collapsed = collapses(table)
    reasons: Reasons = {(c.tuning, c.alignment, c.weights, c.seed): c.reasons for c in collapsed}
    found: list[ComparedCell] = []
    for tuning, of_one in by_tuning(table).items():
        cells = _compared(of_one, tuning, reasons)
        found += [cell for cell in cells if not found or cell.weights != "base"]
    return found


def _compared(table: pd.DataFrame, tuning: str | None, reasons: Reasons) -> list[ComparedCell]:
    cells = _measured_models(table, (tuning, None), reasons)
    others = alignments_in(table)[1:]
    beside = {name: _measured_models(table, (tuning, name), reasons) for name in others}
    compared = []
    for (weights, seed), (row, models) in cells.items():
        is_base = weights == "base"
        of_cell = {name: found[weights, seed][1] for name, found in beside.items()}
        compared.append(
            ComparedCell(
                cell="base" if is_base else cell_name(f"{weights}-s{seed}", tuning),
                weights=weights,
                prompt_weight=None if is_base else row["prompt_weight"],
                response_weight=None if is_base else row["response_weight"],
                seed=None if is_base else seed,
                tuning=None if is_base else tuning,
                models=models,
                other_alignments={n: of["dpo"] for n, of in of_cell.items() if "dpo" in of},
            )
        )
    compared.sort(key=_base_first_then_by_angle)
    return list(_with_replicates(compared, replicates_in(table)))


def _with_replicates(
    cells: Iterable[ComparedCell], replicates: Mapping[str, str]
) -> Iterable[ComparedCell]:
    others: dict[str, list[str]] = {}
    for other, first in replicates.items():
        others.setdefault(first, []).append(other)
    for cell in cells:
        yield cell
        for weights in others.get(cell.weights, []):
            prompt, response = pair_of(weights)
            values = {"weights": weights, "prompt_weight": prompt, "response_weight": response}
            name = cell_name(f"{weights}-s{cell.seed}", cell.tuning)
            yield cell.model_copy(update=values | {"cell": name, "replicate_of": cell.cell})


def _measured_models(
    whole: pd.DataFrame, made_by: tuple[str | None, str | None], reasons: Reasons
) -> dict[tuple[str, int], tuple[Row, dict[str, Measured]]]:
    """By weights and seed: a row of the cell, and its models by stage; of one alignment.

    Args:
        whole: Of one tuning.
        made_by: Its name and that of the alignment, as ``reasons`` have them.
        reasons: Of every collapse.
    """
    table = of_alignment(whole, made_by[1])
    scores = {
        (stage, model.weights, model.seed): model
        for stage in STAGES
        for model in stage_scores(table, stage).models
    }
    cells: dict[tuple[str, int], dict[str, list[Row]]] = {}
    for row in rows_of(table):
        stages = cells.setdefault((row["weights"], row["seed"]), {})
        stages.setdefault(row["stage"], []).append(row)

    def measured(cell: tuple[str, int], stage: str) -> Measured:
        collapse = reasons.get((*made_by, *cell), ()) if stage == "dpo" else ()
        return _measured(cells[cell][stage], scores.get((stage, *cell)), collapse)

    return {
        cell: (
            next(iter(stages.values()))[0],
            {stage: measured(cell, stage) for stage in STAGES if stage in stages},
        )
        for cell, stages in cells.items()
    }


def _base_first_then_by_angle(cell: ComparedCell) -> tuple[Any, ...]:
    return by_angle(cell.prompt_weight, cell.response_weight, cell.weights), cell.seed or 0


def _measured(rows: list[Row], found: ModelScore | None, collapse: tuple[str, ...]) -> Measured:
    scored = [row for row in rows if isinstance(row["benchmark"], str)]
    stderr = None if found is None or math.isnan(found.stderr) else found.stderr
    errors = [_text(r, "error") for r in rows if not isinstance(r["benchmark"], str)]
    return Measured(
        failed=tuple(filter(None, errors)) if scored else (),
        collapse=collapse,
        status=rows[0].get("status", "finished"),
        error=_text(rows[0], "error"),
        **alignment_columns(rows[0]),
        fingerprint=_text(rows[0], "fingerprint"),
        score=None if found is None else found.score,
        half_width=half_width(None, stderr, 0),
        benchmarks={r["benchmark"]: r["score"] for r in scored if r["role"] != "diagnostic"},
        diagnostics={r["benchmark"]: r["score"] for r in scored if r["role"] == "diagnostic"},
        half_widths={row["benchmark"]: _half_width(row) for row in scored},
    )


def _half_width(row: Row) -> float | None:
    stderr = item_stderr(row["score"], row["stderr"], row["num_items"])
    return None if math.isnan(stderr) else half_width(None, stderr, 0)


def _text(row: Row, column: str) -> str | None:
    value = row.get(column)
    return value if isinstance(value, str) else None
