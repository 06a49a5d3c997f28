"""Which models alignment made clearly worse than the SFT models that it started from.

Two signs, either of which is enough:

* The score, the mean over the select benchmarks, fell by more than ``MIN_DROP`` of what it was.
* Responses that are empty became more common by more than ``MIN_RISE``; those to benchmarks of
  forgetting, which go on with plain text, are left out. That more of them reach the limit of tokens
  is no sign: alignment makes responses longer, and longer ones can be better.

Each only where the 95 % interval of the difference leaves 0 out, for all differences of the study
together, whatever the way of SFT and the alignment (Bonferroni; scores and shares have half of the
error each): of many models that did not change, some look worse. The intervals are those of items
or prompts. Both models have the same ones, and mostly fail on the same; a table does not say how
far, so the intervals are those of different ones, which are wider: a small collapse on few items is
not seen. Scores without standard errors say nothing.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from wit.analysis.digits import number
from wit.analysis.grid import ModelScore, StageScores, stage_scores
from wit.analysis.intervals import half_width, item_stderr, of_difference
from wit.analysis.score_labels import signal_name
from wit.analysis.scores import (
    Result,
    Row,
    alignments_in,
    by_tuning,
    of_alignment,
    rows_of,
    select_benchmarks,
)
from wit.config import cell_name
from wit.score_names import EMPTY_RESPONSES, SAMPLED_EMPTY

MIN_DROP = 0.1  # of the SFT model's score
MIN_RISE = 0.2  # of all responses
SHARES = (SAMPLED_EMPTY, EMPTY_RESPONSES)


class Collapse(Result):
    """A model that is clearly worse than its SFT parent, and why that is said."""

    weights: str
    seed: int
    tuning: str | None  # None: the study names none
    alignment: str | None  # None: the main one
    reasons: tuple[str, ...]  # such as "score fell from 0.52 to 0.21 (...)"

    @property
    def cell(self) -> str:
        """As cells are called, with the alignment if it is another than the main one."""
        cell = cell_name(f"{self.weights}-s{self.seed}", self.tuning)
        return cell if self.alignment is None else f"{cell} {self.alignment}"


class _Change(NamedTuple):
    """One figure of one cell before and after alignment."""

    weights: str
    seed: int
    name: str  # of the figure
    before: float
    after: float
    stderr: float | None  # of the difference; None: not known
    worse: float  # by how much it became that; below 0: better
    least: float  # from which on that counts


def collapses(table: pd.DataFrame) -> list[Collapse]:
    """Models that collapsed, those of the main tuning and of its main alignment first.

    Args:
        table: Of one study, with all of its tunings and alignments, as ``wit.lineage.table`` gives
            it.
    """
    tables = {
        (tuning, alignment): of_alignment(of_one, alignment)
        for tuning, of_one in by_tuning(table).items()
        for alignment in (None, *alignments_in(of_one)[1:])
    }
    by_kind = (
        [(made_by, change) for made_by, of_one in tables.items() for change in changes(of_one)]
        for changes in (_of_scores, _of_shares)
    )
    kinds = [found for found in by_kind if found]
    reasons: dict[tuple[tuple[str | None, str | None], str, int], list[str]] = {}
    for kind in kinds:
        for made_by, change in kind:
            width = half_width(None, change.stderr, 0, len(kind) * len(kinds))
            if width is not None and change.worse > max(change.least, width):
                reason = _reason(change, width)
                reasons.setdefault((made_by, change.weights, change.seed), []).append(reason)
    return [
        Collapse(
            weights=weights,
            seed=seed,
            tuning=tuning,
            alignment=alignment,
            reasons=tuple(of_model),
        )
        for tuning, alignment in tables
        for (its, weights, seed), of_model in reasons.items()
        if its == (tuning, alignment)
    ]


def collapse_sentence(found: list[Collapse]) -> str:
    """What a reader should know of all of them; empty where there is none."""
    if not found:
        return ""
    one = f"{found[0].cell}: {'; '.join(found[0].reasons)}"
    if len(found) == 1:
        return f"Alignment made one model clearly worse than its SFT parent, {one}."
    others = ", ".join(one.cell for one in found[1:])
    return (
        f"Alignment made {len(found)} models clearly worse than their SFT parents: {one}. "
        f"So too {others}."
    )


def _of_scores(table: pd.DataFrame) -> Iterator[_Change]:
    sft, dpo = stage_scores(table, "sft"), stage_scores(table, "dpo")
    before = {(model.weights, model.seed): model for model in sft.models}
    sign = -1 if dpo.is_less_better else 1
    for model in dpo.models:
        start = before.get((model.weights, model.seed))
        if start is not None:
            yield _Change(
                *(model.weights, model.seed, _measure(dpo), start.score, model.score),
                stderr=of_difference(_stderr(start), _stderr(model)),
                worse=sign * (start.score - model.score),
                least=MIN_DROP * abs(start.score),
            )


def _of_shares(table: pd.DataFrame) -> Iterator[_Change]:
    """Of every set of responses: drawn ones, those that are shown, and answers to benchmarks."""
    rows = rows_of(table.loc[_are_shares(table)])
    before = {_key(row): row for row in rows if row["stage"] == "sft"}
    for row in rows:
        start = before.get(_key(row)) if row["stage"] == "dpo" else None
        if start is not None and math.isfinite(row["score"]) and math.isfinite(start["score"]):
            stderrs = (
                _or_none(item_stderr(of["score"], of["stderr"], of["num_items"]))
                for of in (start, row)
            )
            yield _Change(
                *(row["weights"], row["seed"], signal_name(row["benchmark"])),
                *(start["score"], row["score"]),
                stderr=of_difference(*stderrs),
                worse=row["score"] - start["score"],
                least=MIN_RISE,
            )


def _are_shares(table: pd.DataFrame) -> pd.Series:
    """Which rows are of a share of responses that are empty."""
    names = table["benchmark"].where(table["benchmark"].notna(), "").astype(str)
    of = names.str.rpartition("/")
    # Who learned to answer and to stop says less after plain text: that is forgetting.
    is_forgetting = of[0].isin(select_benchmarks(table, "forgetting"))
    # A benchmark of that name would be a score.
    is_score = names.isin(select_benchmarks(table))
    return of[2].isin(SHARES) & ~is_score & ~is_forgetting


def _key(row: Row) -> tuple[str, int, str]:
    return row["weights"], row["seed"], row["benchmark"]


def _measure(stage: StageScores) -> str:
    return stage.measure if len(stage.benchmarks) == 1 else "score"


def _stderr(model: ModelScore) -> float | None:
    return _or_none(model.stderr)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _reason(change: _Change, width: float) -> str:
    difference = change.after - change.before
    ends = (number(difference - width, is_signed=True), number(difference + width, is_signed=True))
    verb = "fell" if difference < 0 else "rose"
    return (
        f"{change.name} {verb} from {number(change.before)} to {number(change.after)} "
        f"(95 % interval of the difference {ends[0]} to {ends[1]})"
    )
