"""Which benchmark drives a gain: the mean with each of them left out."""

import statistics

import pandas as pd

from wit.analysis.grid import Gain, StageScores, gain_of, reference_cell, scores_among
from wit.analysis.scores import Result, select_benchmarks
from wit.analysis.stage_rows import StageRows, stage_rows


class Part(Result):
    """One of the benchmarks that a score is the mean of, and the best cell by all of them."""

    benchmark: str
    alone: Gain | None  # of that cell over instruction tuning, on this benchmark
    without: Gain | None  # of that cell, on the mean of the others
    best_without: str | None  # weights of the cell that the others choose
    chosen_without: Gain | None  # of that one, on the mean of the others


class Parts(Result):
    """What a mean score is made of."""

    stage: str
    best: str | None  # weights of the best cell by the score
    together: Gain | None  # its gain on the mean of the parts
    parts: tuple[Part, ...]
    ratio: float | None  # of the file's average to the mean of its parts; None: no average


def parts_of(table: pd.DataFrame, stage: str) -> Parts | None:
    """The parts of a stage's score; None where it is one benchmark without parts.

    With an ``average`` its parts are the benchmarks of the role ``part``; else those that select.
    """
    rows = stage_rows(table, stage)
    score = scores_among(rows)
    names = select_benchmarks(table, "part") or score.benchmarks
    mean = scores_among(rows, names)
    best = score.best
    if len(names) < 2 or best is None or not mean.cells:
        return None
    return Parts(
        stage=stage,
        best=best.weights,
        together=_gain(mean, best.weights),
        parts=tuple(_part(rows, name, names, best.weights) for name in names),
        ratio=None if score.benchmarks == tuple(names) else _ratio(score, mean),
    )


def _part(rows: StageRows, name: str, names: tuple[str, ...], best: str) -> Part:
    alone = scores_among(rows, [name])
    others = scores_among(rows, [other for other in names if other != name])
    return Part(
        benchmark=name,
        alone=_gain(alone, best),
        without=_gain(others, best),
        best_without=None if others.best is None else others.best.weights,
        chosen_without=None if others.best is None else _gain(others, others.best.weights),
    )


def _gain(stage: StageScores, weights: str) -> Gain | None:
    cell, usual = stage.cell(weights), reference_cell(stage)
    return None if cell is None or usual is None else gain_of(stage, cell, usual)


def _ratio(score: StageScores, mean: StageScores) -> float | None:
    """Median over cells: an average that is no mean shows here."""
    ratios = [
        cell.score / other.score
        for cell in score.cells
        if (other := mean.cell(cell.weights)) and other.score
    ]
    return statistics.median(ratios) if ratios else None
