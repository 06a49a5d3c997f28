"""The grid of loss weights before and after alignment, as numbers. Pure functions of a table.

* The score of a model is the mean over benchmarks; that of a cell the mean over seeds, less what
  the seeds it has do to all: see ``blocks``. A model that lacks one of the benchmarks would make
  another mean: it is left out and counted.
* A score keeps the sign of its benchmarks; ``StageScores.lead`` knows whether less is better. Of
  benchmarks that disagree on that, the mean counts those negative of which less is better.
* Its interval is the wider of that over runs and that over items: see ``intervals``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any

import pandas as pd

from wit.analysis.blocks import Blocks, Run, fit_blocks, spread_of_cells
from wit.analysis.intervals import (
    Basis,
    Replicates,
    Spread,
    half_width,
    item_stderr,
    of_difference,
)
from wit.analysis.scores import INSTRUCTION_TUNING, Result, Row, weights_label
from wit.analysis.stage_rows import StageRows, stage_rows


class Point(Result):
    """A pair of weights, and what it is the objective of."""

    weights: str
    ray: str  # cells of one ray are one objective
    prompt_weight: float | None  # None: the base
    response_weight: float | None

    @property
    def is_on_grid(self) -> bool:
        """Whether the two weights alone say which cell it is: no role has a weight of its own."""
        if self.prompt_weight is None or self.response_weight is None:
            return False
        return self.weights == weights_label(self.prompt_weight, self.response_weight)


class ModelScore(Point):
    """Score of one model."""

    seed: int
    values: dict[str, float]  # by benchmark
    score: float  # their mean
    stderr: float  # of that mean, from the benchmarks' items; NaN: not known


class CellScore(Point):
    """Score of one pair of weights, over its seeds."""

    score: float
    values: dict[str, float]  # means over seeds, by benchmark
    seed_stderr: float | None  # of the score, from how runs differ; None: none do
    item_stderr: float | None  # of the score, from the benchmarks' items; None: not known
    half_width: float | None  # of its interval
    num_seeds: int
    replicate_of: str | None = None  # weights of the same objective; these were not trained


class StageScores(Result):
    """Scores of all cells of one stage, on the same benchmarks."""

    stage: str
    benchmarks: tuple[str, ...]
    lower_is_better: tuple[str, ...]  # of the benchmarks
    models: tuple[ModelScore, ...]
    cells: tuple[CellScore, ...]
    basis: Basis
    replicates: Replicates  # whose spread the intervals over runs rest on
    degrees_of_freedom: int | None  # of the pooled spread; None: noise is unknown
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
        return self.by_weights.get(weights)

    @cached_property
    def by_weights(self) -> dict[str, CellScore]:
        """Its cells by their weights."""
        return {cell.weights: cell for cell in self.cells}

    def with_cells(self, cells: Iterable[CellScore]) -> "StageScores":
        """The stage with other cells; a copy of the model would remember the old ones."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_construct(None, **fields | {"cells": tuple(cells)})

    def lead(self, one: CellScore, other: CellScore) -> float:
        """How much better ``one`` is."""
        better, worse = (other, one) if self.is_less_better else (one, other)
        return better.score - worse.score

    @property
    def best(self) -> CellScore | None:
        """The best score; of equal ones the smaller prompt weight, the larger response weight."""
        sign = -1 if self.is_less_better else 1
        trained = (cell for cell in self.cells if cell.replicate_of is None)
        ordered = sorted(trained, key=lambda c: (c.prompt_weight or 0, -(c.response_weight or 0)))
        return max(ordered, key=lambda cell: sign * cell.score, default=None)

    def shared_with(self, other: "StageScores") -> "StageScores":
        """Only the cells that ``other`` has too."""
        return self.with_cells(cell for cell in self.cells if other.cell(cell.weights) is not None)


class Grid(Result):
    """A study before and after alignment, by its select benchmarks."""

    base: CellScore | None
    sft: StageScores
    dpo: StageScores


class Gain(Result):
    """How much better a score is than another."""

    absolute: float
    percent: float | None  # None where the other is not positive


def stage_scores(
    table: pd.DataFrame, stage: str, benchmarks: Sequence[str] | None = None
) -> StageScores:
    """Scores of all cells of a stage.

    Args:
        table: Of one study.
        stage: base, sft or dpo.
        benchmarks: Averaged over; unset: those that select.
    """
    return scores_among(stage_rows(table, stage), benchmarks)


def scores_among(rows: StageRows, benchmarks: Sequence[str] | None = None) -> StageScores:
    """As ``stage_scores``, of rows that were read already."""
    names = rows.select if benchmarks is None else tuple(benchmarks)
    lower = rows.lower_is_better & set(names)
    negative = lower if len(lower) < len(names) else frozenset()
    scored = [_model_score(of_model, names, negative) for of_model in rows.models.values()]
    found = [model for model in scored if model is not None]
    by_weights: dict[str, list[ModelScore]] = {}
    for model in found:
        by_weights.setdefault(model.weights, []).append(model)
    blocks, spread = _noise(found)
    by_benchmark = {name: fit_blocks(runs_of(found, name)) for name in names if blocks.num_effects}
    cells = [_cell_score(of, spread, blocks, by_benchmark) for of in by_weights.values()]
    return StageScores(
        stage=rows.stage,
        benchmarks=names,
        lower_is_better=tuple(sorted(lower)),
        models=tuple(found),
        cells=tuple(in_order(cells)),
        basis=_basis(cells, spread),
        replicates="seeds" if len(blocks.seeds) > 1 else "rays",
        degrees_of_freedom=spread.freedom or None,
        num_excluded=len(rows.models) - len(found),
    )


def in_order(cells: Sequence[CellScore]) -> list[CellScore]:
    """As a map is read: the largest response weight first, then the smallest prompt weight."""
    return sorted(cells, key=lambda c: (-(c.response_weight or 0), c.prompt_weight or 0, c.weights))


def runs_of(models: Sequence[ModelScore], benchmark: str | None = None) -> list[Run]:
    """What was run, with the score, or that on one benchmark."""
    return [
        Run(m.ray, m.weights, m.seed, m.score if benchmark is None else m.values[benchmark])
        for m in models
    ]


def _noise(models: Sequence[ModelScore]) -> tuple[Blocks, Spread]:
    """How runs of one cell differ by noise, or of one objective if no cell was run twice."""
    runs = runs_of(models)
    blocks = fit_blocks(runs)
    within = spread_of_cells(runs, blocks)
    return blocks, within if within.freedom else blocks.noise


def _model_score(
    rows: Mapping[str, Row], names: Sequence[str], negative: frozenset[str]
) -> ModelScore | None:
    """Mean over ``names`` of one model; None unless all of them are there and finite."""
    chosen = {name: row for name, row in rows.items() if name in names}
    values = {name: row["score"] for name, row in chosen.items()}
    if not names or len(chosen) < len(names) or not all(map(math.isfinite, values.values())):
        return None
    total = math.fsum(-value if name in negative else value for name, value in values.items())
    # Benchmarks err apart from each other, so their variances add up.
    stderrs = [
        item_stderr(row["score"], row["stderr"], row["num_items"]) for row in chosen.values()
    ]
    first = next(iter(rows.values()))
    return ModelScore(
        weights=str(first["weights"]),
        ray=str(first["ray"]),
        prompt_weight=_or_none(first["prompt_weight"]),
        response_weight=_or_none(first["response_weight"]),
        seed=first["seed"],
        values=values,
        score=total / len(names),
        stderr=math.hypot(*stderrs) / len(names),
    )


def _cell_score(
    models: list[ModelScore], spread: Spread, blocks: Blocks, by_benchmark: Mapping[str, Blocks]
) -> CellScore:
    """Means over seeds; a seed that the cell lacks is allowed for by what it does to others."""
    first, seeds = models[0], [model.seed for model in models]
    seed_stderr = spread.deviation * blocks.stderr(seeds) or None
    item_stderr = _or_none(fmean([model.stderr for model in models]))  # the same items for all
    shifts = dict.fromkeys(first.values, 0.0)
    shifts |= {name: found.shift(seeds) for name, found in by_benchmark.items()}
    return CellScore(
        weights=first.weights,
        ray=first.ray,
        prompt_weight=first.prompt_weight,
        response_weight=first.response_weight,
        score=fmean([model.score for model in models]) - blocks.shift(seeds),
        values={n: fmean([m.values[n] for m in models]) - shift for n, shift in shifts.items()},
        seed_stderr=seed_stderr,
        item_stderr=item_stderr,
        half_width=half_width(seed_stderr, item_stderr, spread.freedom),
        num_seeds=len(models),
    )


def _basis(cells: list[CellScore], spread: Spread) -> Basis:
    if cells and all(cell.item_stderr is not None for cell in cells):
        return "both" if spread.freedom else "items"
    return "seeds" if spread.deviation else "none"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def summarise(table: pd.DataFrame) -> Grid:
    """The study of ``table`` before and after alignment, by its select benchmarks."""
    base, sft, dpo = (stage_scores(table, stage) for stage in ("base", "sft", "dpo"))
    return Grid(base=base.cells[0] if base.cells else None, sft=sft, dpo=dpo)


def reference_cell(stage: StageScores) -> CellScore | None:
    """Instruction tuning: the cell (0, 1), or without it the largest weight on responses alone."""
    usual = [cell for cell in stage.cells if cell.is_on_grid and cell.prompt_weight == 0]
    largest = max(usual, key=lambda cell: cell.response_weight or 0, default=None)
    return stage.cell(INSTRUCTION_TUNING) or largest


def gain_of(stage: StageScores, cell: CellScore, over: CellScore) -> Gain:
    """How much better ``cell`` is; in percent of a positive score."""
    absolute = stage.lead(cell, over)
    percent = 100 * absolute / over.score if over.score > 0 else math.inf
    return Gain(absolute=absolute, percent=percent if math.isfinite(percent) else None)


def difference_half_width(
    stage: StageScores, one: CellScore, other: CellScore, num_comparisons: int = 1
) -> float | None:
    """Half-width of the interval of the difference of two cells of ``stage``.

    Like that of a cell, the wider of two. The cells answer the same items; as how far their errors
    go together is not known, they are taken to be apart, which is the wider guess.
    """
    seeds = of_difference(one.seed_stderr, other.seed_stderr)
    if seeds is not None and stage.replicates == "seeds":
        of_both = [[m.seed for m in stage.models if m.weights == c.weights] for c in (one, other)]
        seeds *= fit_blocks(runs_of(stage.models)).apart(*of_both)
    items = of_difference(one.item_stderr, other.item_stderr)
    return half_width(seeds, items, stage.degrees_of_freedom or 0, num_comparisons)
