"""The grid of loss weights before and after alignment, as numbers. Pure functions of a table.

* The table is tidy, one row per model and benchmark, as ``wit.lineage.table`` gives it. Of its
  columns only ``stage, prompt_weight, response_weight, benchmark, score`` are needed.
* The score of a cell is the mean over benchmarks of one seed, then the mean over its seeds. A
  seed that lacks one of the benchmarks would make another mean: it is left out and counted.
* A score keeps the sign of its benchmarks; ``StageScores.lead`` knows whether less is better. Of
  benchmarks that disagree on that, the mean counts those negative of which less is better.
* Its interval is the wider of that over seeds and that over items: see ``intervals``.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy import stats

from wit.analysis.intervals import Basis, Spread, half_width, of_difference, pooled_spread

Row = dict[str, Any]  # of the table, by column
INSTRUCTION_TUNING = "p0-r1"  # the usual loss, on responses only
MIN_FOR_RANKS = 3  # cells; two points always agree or disagree fully


class Result(BaseModel):
    """Immutable."""

    model_config = ConfigDict(frozen=True)


class CellScore(Result):
    """Score of one pair of weights, over its seeds."""

    weights: str
    prompt_weight: float | None  # None: the base
    response_weight: float | None
    score: float
    values: dict[str, float]  # means over seeds, by benchmark
    seed_stderr: float | None  # of the score, from how seeds differ; None: none do
    item_stderr: float | None  # of the score, from the benchmarks' items; None: not known
    half_width: float | None  # of its interval
    num_seeds: int

    @property
    def is_on_grid(self) -> bool:
        """Whether the two weights alone say which cell it is: no role has a weight of its own."""
        if self.prompt_weight is None or self.response_weight is None:
            return False
        return self.weights == weights_label(self.prompt_weight, self.response_weight)


class StageScores(Result):
    """Scores of all cells of one stage, on the same benchmarks."""

    stage: str
    benchmarks: tuple[str, ...]
    lower_is_better: tuple[str, ...]  # of the benchmarks
    cells: tuple[CellScore, ...]
    basis: Basis
    degrees_of_freedom: int | None  # of the pooled spread; None: one seed
    num_excluded: int  # pairs of weights and seed without a complete, finite score

    @property
    def is_mixed(self) -> bool:
        """Whether less is better on some benchmarks and more on others."""
        return 0 < len(self.lower_is_better) < len(self.benchmarks)

    @property
    def is_less_better(self) -> bool:
        """Whether the lower score is the better one."""
        return bool(self.lower_is_better) and not self.is_mixed

    @property
    def measure(self) -> str:
        """What the scores are means of."""
        negative = self.lower_is_better if self.is_mixed else ()
        names = ", ".join("minus " * (name in negative) + name for name in self.benchmarks)
        return f"mean of {names}" if len(self.benchmarks) > 1 else names

    def cell(self, weights: str) -> CellScore | None:
        """The cell of these weights."""
        return next((cell for cell in self.cells if cell.weights == weights), None)

    def lead(self, one: CellScore, other: CellScore) -> float:
        """How much better ``one`` is."""
        better, worse = (other, one) if self.is_less_better else (one, other)
        return better.score - worse.score

    @property
    def best(self) -> CellScore | None:
        """The best score; of equal ones, that of the smaller prompt weight."""
        sign = -1 if self.is_less_better else 1
        ordered = sorted(self.cells, key=lambda c: (c.prompt_weight or 0, c.response_weight or 0))
        return max(ordered, key=lambda cell: sign * cell.score, default=None)

    def shared_with(self, other: "StageScores") -> "StageScores":
        """Only the cells that ``other`` has too."""
        cells = tuple(cell for cell in self.cells if other.cell(cell.weights) is not None)
        return self.model_copy(update={"cells": cells})


class Grid(Result):
    """A study before and after alignment, by its select benchmarks."""

    base: CellScore | None
    sft: StageScores
    dpo: StageScores
    regret: float | None  # how much better the best DPO score is than DPO from the best SFT cell
    spearman: float | None  # rank correlation of SFT and DPO scores over cells
    num_in_both: int  # cells with both scores

    @property
    def same_best(self) -> bool | None:
        """Whether one cell is best before and after; None where a stage has no scores."""
        if self.sft.best is None or self.dpo.best is None:
            return None
        return self.sft.best.weights == self.dpo.best.weights


class Gain(Result):
    """How far a score lies above another."""

    absolute: float
    percent: float | None  # None where the other is not positive


def weights_label(prompt: float, response: float) -> str:
    """Name of a pair of weights, such as ``p0.2-r1``."""
    return f"p{prompt:g}-r{response:g}"


def rows_of(table: pd.DataFrame) -> list[Row]:
    """The table's rows, with every column that the analysis reads; what is unknown is plain."""
    rows: list[Row] = table.to_dict("records")
    defaults = {"seed": 0, "role": "select", "stderr": math.nan, "higher_is_better": True}
    for row in rows:
        for column, value in defaults.items():
            row.setdefault(column, value)
        row["stderr"] = math.nan if pd.isna(row["stderr"]) else row["stderr"]
        row["seed"] = 0 if pd.isna(row["seed"]) else int(row["seed"])  # the base has none
        is_base = pd.isna(row["prompt_weight"]) or pd.isna(row["response_weight"])
        if "weights" not in row:
            weights = (row["prompt_weight"], row["response_weight"])
            row["weights"] = "base" if is_base else weights_label(*weights)
    return rows


def select_benchmarks(table: pd.DataFrame, role: str = "select") -> tuple[str, ...]:
    """Benchmarks of that role, by name."""
    names = {row["benchmark"] for row in rows_of(table) if row["role"] == role}
    return tuple(sorted(name for name in names if isinstance(name, str)))


def stage_scores(
    table: pd.DataFrame, stage: str, benchmarks: Sequence[str] | None = None
) -> StageScores:
    """Scores of all cells of a stage.

    Args:
        table: Of one study.
        stage: base, sft or dpo.
        benchmarks: Averaged over; unset: those that select.
    """
    names = select_benchmarks(table) if benchmarks is None else tuple(benchmarks)
    models: dict[tuple[str, int], list[Row]] = {}
    lower: set[str] = set()
    for row in rows_of(table):
        if row["stage"] == stage:
            models.setdefault((row["weights"], row["seed"]), []).append(row)
        if not row["higher_is_better"]:
            lower.add(row["benchmark"])
    lower &= set(names)
    negative = lower if len(lower) < len(names) else set()
    by_weights: dict[str, list[_SeedScore]] = {}
    for (weights, _), rows in models.items():
        score = _seed_score(rows, names, negative)
        if score is not None:
            by_weights.setdefault(weights, []).append(score)
    spread = pooled_spread([[seed.score for seed in seeds] for seeds in by_weights.values()])
    cells = [_cell_score(seeds, spread) for seeds in by_weights.values()]
    cells.sort(key=lambda c: (-(c.response_weight or 0), c.prompt_weight or 0, c.weights))
    return StageScores(
        stage=stage,
        benchmarks=names,
        lower_is_better=tuple(sorted(lower)),
        cells=tuple(cells),
        basis=_basis(cells, spread),
        degrees_of_freedom=spread.freedom or None,
        num_excluded=len(models) - sum(cell.num_seeds for cell in cells),
    )


class _SeedScore(NamedTuple):
    row: Row  # any of the model's
    values: dict[str, float]  # by benchmark
    score: float  # their mean
    stderr: float  # of that mean; NaN where a benchmark has none


def _seed_score(rows: list[Row], names: Sequence[str], negative: set[str]) -> _SeedScore | None:
    """Mean over ``names`` of one model; None unless all of them are there and finite."""
    chosen = {row["benchmark"]: row for row in rows if row["benchmark"] in names}
    values = {name: row["score"] for name, row in chosen.items()}
    if not names or len(chosen) < len(names) or not all(map(math.isfinite, values.values())):
        return None
    total = math.fsum(-value if name in negative else value for name, value in values.items())
    # Benchmarks err apart from each other, so their variances add up.
    stderr = math.hypot(*(row["stderr"] for row in chosen.values())) / len(names)
    return _SeedScore(rows[0], values, total / len(names), stderr)


def _cell_score(seeds: list[_SeedScore], spread: Spread) -> CellScore:
    row = seeds[0].row
    seed_stderr = spread.deviation / math.sqrt(len(seeds)) if spread.deviation else None
    item_stderr = _or_none(_mean([seed.stderr for seed in seeds]))  # the same items for all
    return CellScore(
        weights=str(row["weights"]),
        prompt_weight=_or_none(row["prompt_weight"]),
        response_weight=_or_none(row["response_weight"]),
        score=_mean([seed.score for seed in seeds]),
        values={name: _mean([seed.values[name] for seed in seeds]) for name in seeds[0].values},
        seed_stderr=seed_stderr,
        item_stderr=item_stderr,
        half_width=half_width(seed_stderr, item_stderr, spread.freedom),
        num_seeds=len(seeds),
    )


def _basis(cells: list[CellScore], spread: Spread) -> Basis:
    if cells and all(cell.item_stderr is not None for cell in cells):
        return "both" if spread.freedom else "items"
    return "seeds" if spread.deviation else "none"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def summarise(table: pd.DataFrame) -> Grid:
    """The study of ``table`` before and after alignment, by its select benchmarks."""
    base, sft, dpo = (stage_scores(table, stage) for stage in ("base", "sft", "dpo"))
    pairs = [(c.score, after.score) for c in sft.cells if (after := dpo.cell(c.weights))]
    return Grid(
        base=base.cells[0] if base.cells else None,
        sft=sft,
        dpo=dpo,
        regret=selection_regret(sft, dpo),
        spearman=spearman(pairs),
        num_in_both=len(pairs),
    )


def selection_regret(sft: StageScores, dpo: StageScores) -> float | None:
    """What is lost after DPO by choosing the cell by SFT scores, among cells that have both."""
    chosen, best = sft.shared_with(dpo).best, dpo.shared_with(sft).best
    after = None if chosen is None else dpo.cell(chosen.weights)
    return None if best is None or after is None else dpo.lead(best, after)


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Rank correlation; None for fewer than three pairs, or where all values of a side agree."""
    if len(pairs) < MIN_FOR_RANKS or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return None
    ranks = [stats.rankdata(side) for side in zip(*pairs, strict=True)]
    return float(np.corrcoef(*ranks)[0, 1])


def gain(cell: CellScore, over: CellScore) -> Gain:
    """How far ``cell`` lies above ``over``."""
    absolute = cell.score - over.score
    return Gain(absolute=absolute, percent=100 * absolute / over.score if over.score > 0 else None)


def difference_half_width(
    stage: StageScores, one: CellScore, other: CellScore, num_comparisons: int = 1
) -> float | None:
    """Half-width of the interval of the difference of two cells of ``stage``.

    Like that of a cell, the wider of two. The cells answer the same items; as how far their errors
    go together is not known, they are taken to be apart, which is the wider guess.
    """
    seeds = of_difference(one.seed_stderr, other.seed_stderr)
    items = of_difference(one.item_stderr, other.item_stderr)
    return half_width(seeds, items, stage.degrees_of_freedom or 0, num_comparisons)
