"""The grid of loss weights before and after alignment, as numbers. Pure functions of a table.

* The table is tidy, one row per model and benchmark, as ``wit.lineage.table`` gives it. Of its
  columns only ``stage, prompt_weight, response_weight, benchmark, score`` are needed.
* The score of a cell is the mean over benchmarks of one seed, then the mean over its seeds. A
  seed that lacks one of the benchmarks would make another mean: it is left out and counted.
* Two or more seeds: a t interval, with one standard deviation for all cells of the stage (pooled
  within cells), because two seeds alone say next to nothing about their own spread. One seed:
  the benchmarks' standard errors, which know of items but not of training.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy import stats

Row = dict[str, Any]  # of the table, by column
Basis = Literal["seeds", "items", "none"]
BASIS_IN_WORDS: dict[Basis, str] = {
    "seeds": "95 % t intervals over seeds, their spread pooled over cells",
    "items": "95 % intervals from the benchmarks' standard errors, as there is one seed only: "
    "how much training varies is not in them",
    "none": "no intervals: one seed only, and no standard errors",
}
LEVEL = 0.95  # of every interval
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
    stderr: float | None  # of the score; None: nothing is known of it
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
    cells: tuple[CellScore, ...]
    basis: Basis
    degrees_of_freedom: int | None  # of the pooled spread; None: a normal interval
    num_excluded: int  # pairs of weights and seed without a complete, finite score

    def cell(self, weights: str) -> CellScore | None:
        """The cell of these weights."""
        return next((cell for cell in self.cells if cell.weights == weights), None)

    @property
    def best(self) -> CellScore | None:
        """The highest score; of equal ones, that of the smaller prompt weight."""
        ordered = sorted(self.cells, key=lambda c: (c.prompt_weight or 0, c.response_weight or 0))
        return max(ordered, key=lambda cell: cell.score, default=None)

    def quantile(self, num_comparisons: int = 1) -> float:
        """Half-width of an interval in standard errors; wider where the best of several is asked.

        Several comparisons share the error (Bonferroni): the best of many cells looks better
        than it is.
        """
        return float(_t(1 - (1 - LEVEL) / 2 / max(1, num_comparisons), self.degrees_of_freedom))


class Grid(Result):
    """A study before and after alignment, by its select benchmarks."""

    base: CellScore | None
    sft: StageScores
    dpo: StageScores
    regret: float | None  # best DPO score minus that of DPO from the best SFT cell
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
    table: pd.DataFrame,
    stage: str,
    benchmarks: Sequence[str] | None = None,
    *,
    is_oriented: bool = False,
) -> StageScores:
    """Scores of all cells of a stage.

    Args:
        table: Of one study.
        stage: base, sft or dpo.
        benchmarks: Averaged over; unset: those that select.
        is_oriented: Turn the sign of benchmarks of which less is better, so that more is better.
    """
    names = select_benchmarks(table) if benchmarks is None else tuple(benchmarks)
    models: dict[tuple[str, int], list[Row]] = {}
    for row in rows_of(table):
        if row["stage"] == stage:
            models.setdefault((row["weights"], row["seed"]), []).append(row)
    by_weights: dict[str, list[_SeedScore]] = {}
    for (weights, _), rows in models.items():
        score = _seed_score(rows, names, is_oriented)
        if score is not None:
            by_weights.setdefault(weights, []).append(score)
    spread = _pooled_spread(list(by_weights.values()))
    cells = [_cell_score(seeds, spread) for seeds in by_weights.values()]
    cells.sort(key=lambda c: (-(c.response_weight or 0), c.prompt_weight or 0, c.weights))
    return StageScores(
        stage=stage,
        benchmarks=names,
        cells=tuple(cells),
        basis=_basis(cells, spread),
        degrees_of_freedom=spread.freedom or None,
        num_excluded=len(models) - sum(cell.num_seeds for cell in cells),
    )


class _SeedScore(NamedTuple):
    row: Row  # any of the model's
    score: float  # mean over the benchmarks
    stderr: float  # of that mean; NaN where a benchmark has none


class _Spread(NamedTuple):
    deviation: float  # standard deviation of seeds within cells
    freedom: int  # its degrees of freedom; 0: one seed


def _seed_score(rows: list[Row], names: Sequence[str], is_oriented: bool) -> _SeedScore | None:
    """Mean over ``names`` of one model; None unless all of them are there and finite."""
    chosen = {row["benchmark"]: row for row in rows if row["benchmark"] in names}
    signs = [1 if row["higher_is_better"] or not is_oriented else -1 for row in chosen.values()]
    values = [sign * row["score"] for sign, row in zip(signs, chosen.values(), strict=True)]
    if not names or len(chosen) < len(names) or not all(map(math.isfinite, values)):
        return None
    # Benchmarks err apart from each other, so their variances add up.
    stderr = math.hypot(*(row["stderr"] for row in chosen.values())) / len(names)
    return _SeedScore(rows[0], math.fsum(values) / len(names), stderr)


def _pooled_spread(cells: list[list[_SeedScore]]) -> _Spread:
    squares, freedom = 0.0, 0
    for seeds in cells:
        mean = math.fsum(seed.score for seed in seeds) / len(seeds)
        squares += math.fsum((seed.score - mean) ** 2 for seed in seeds)
        freedom += len(seeds) - 1
    return _Spread(math.sqrt(squares / freedom) if freedom else 0.0, freedom)


def _cell_score(seeds: list[_SeedScore], spread: _Spread) -> CellScore:
    row, stderr = seeds[0].row, seeds[0].stderr
    if spread.freedom:
        stderr = spread.deviation / math.sqrt(len(seeds))
    half_width = _t(1 - (1 - LEVEL) / 2, spread.freedom or None) * stderr
    return CellScore(
        weights=str(row["weights"]),
        prompt_weight=_or_none(row["prompt_weight"]),
        response_weight=_or_none(row["response_weight"]),
        score=math.fsum(seed.score for seed in seeds) / len(seeds),
        stderr=_or_none(stderr),
        half_width=_or_none(half_width),
        num_seeds=len(seeds),
    )


def _basis(cells: list[CellScore], spread: _Spread) -> Basis:
    if spread.freedom:
        return "seeds"
    return "items" if cells and all(cell.stderr is not None for cell in cells) else "none"


def _t(probability: float, degrees_of_freedom: int | None) -> float:
    if degrees_of_freedom is None:
        return float(stats.norm.ppf(probability))
    return float(stats.t.ppf(probability, degrees_of_freedom))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def summarise(table: pd.DataFrame) -> Grid:
    """The study of ``table`` before and after alignment, by its select benchmarks."""
    base = stage_scores(table, "base", is_oriented=True)
    sft = stage_scores(table, "sft", is_oriented=True)
    dpo = stage_scores(table, "dpo", is_oriented=True)
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
    both = [(cell, after) for cell in sft.cells if (after := dpo.cell(cell.weights))]
    if not both:
        return None
    _, chosen = max(both, key=lambda pair: pair[0].score)
    return max(after.score for _, after in both) - chosen.score


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
    """Half-width of the interval of the difference of two cells of ``stage``."""
    if one.stderr is None or other.stderr is None:
        return None
    return stage.quantile(num_comparisons) * math.hypot(one.stderr, other.stderr)
