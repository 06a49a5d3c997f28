"""The report's section on several ways of SFT: what each learns, and what it forgets."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import pandas as pd

from wit.analysis.chart_learning import learning_chart
from wit.analysis.charts import Figure
from wit.analysis.digits import decimals_of, plus_minus
from wit.analysis.report_tables import NONE, Numbers
from wit.analysis.score_labels import signal_name
from wit.analysis.tunings import (
    STAGES,
    Difference,
    Learning,
    Score,
    TuningComparison,
    compare_tunings,
)
from wit.analysis.wording import seeds_in_words
from wit.config import Study


class TuningsSection(NamedTuple):
    """What the report says of several tunings."""

    sentences: list[str]
    weights: str  # at which learning and forgetting are shown
    learned_is: str
    kept_is: str  # empty: it was not measured
    numbers: Numbers  # of every tuning
    best_weights: Numbers  # no rows where there is one pair of weights
    maps: dict[str, str]  # what stands above a figure, by its name
    figures: dict[str, Figure]


def tunings_section(table: pd.DataFrame, study: Study | None) -> TuningsSection | None:
    """The section; None for a study of one way of SFT.

    Args:
        table: Of one study, as ``wit.lineage.table`` gives it, with its objectives.
        study: Says which tunings differ in epochs alone.
    """
    found = compare_tunings(table, study)
    if found is None:
        return None
    charts = {stage: learning_chart(found, stage) for stage in STAGES}
    shown = {stage: chart for stage, chart in charts.items() if chart is not None}
    return TuningsSection(
        sentences=sentences_of(found),
        weights=found.weights,
        learned_is=found.learned_is,
        kept_is=", ".join(map(signal_name, filter(None, found.kept_is.split(", ")))),
        numbers=_numbers(found),
        best_weights=_best_weights(found),
        maps={f"learning-{stage}": f"After {stage.upper()}" for stage in shown},
        figures={f"learning-{stage}": chart for stage, chart in shown.items()},
    )


def sentences_of(found: TuningComparison) -> list[str]:
    """How each curve fares beside the main one, and whether the best weights are the same."""
    main = found.points[0].curve if found.points else ""
    said = [_difference(one, main, found) for one in found.differences]
    if len(found.best_weights) > 1:
        said.append(f"The best weights after DPO {_same_or_not(found)}.")
    return said


def _same_or_not(found: TuningComparison) -> str:
    """The best weights of each; where they differ, an objective that none is known to beat."""
    best, num = found.best_weights, found.num_tunings
    every = f"{len(best)} of {num} ways" if len(best) < num else "every way"
    if len({one.weights for one in best}) == 1:
        return f"are the same after {every} of SFT: {best[0].weights}"
    each = ", ".join(f"{one.weights} ({one.tuning})" for one in best)
    near = [(one.objective, *one.within_noise) for one in best]
    shared = [name for name in chain(*near) if all(name in others for others in near)]
    if not shared:
        return f"differ: {each}"
    told = f"{shared[0]} is the best, or cannot be told from it, after {every} of SFT"
    return f"differ within the noise: {each}; {told}"


def _difference(one: Difference, main: str, found: TuningComparison) -> str:
    decimals = decimals_of([p.learned.value for p in found.points])
    parts = [_more_or_less("learned", one.learned, decimals)]
    if one.kept is not None:
        parts.append(_more_or_less("kept", one.kept, decimals))
    epochs = [str(epochs) for epochs in one.epochs if epochs is not None]
    over = f", mean over {_listed(epochs)} epochs" if len(epochs) > 1 else ""
    seeds = seeds_in_words(one.learned.num_seeds, one.kept and one.kept.num_seeds)
    return (
        f"After {one.stage.upper()}, beside {main}, {one.curve} {' and '.join(parts)} "
        f"({seeds}{over})."
    )


def _more_or_less(what: str, score: Score, decimals: int) -> str:
    if not score.value:
        return f"{what} as much"
    word = "more" if score.value > 0 else "less"
    said = f"{what} {plus_minus(abs(score.value), score.half_width, decimals)} {word}"
    if score.half_width is None:
        return f"{said} (the noise is not known)"
    return said if abs(score.value) > score.half_width else f"{said} (within the noise)"


def _numbers(found: TuningComparison) -> Numbers:
    points = {(point.tuning, point.stage): point for point in found.points}
    tunings = list(dict.fromkeys(point.tuning for point in found.points))
    rows = [
        _row(tuning, [points.get((tuning, stage)) for stage in STAGES], found) for tuning in tunings
    ]
    if found.base is not None:
        rows.insert(0, _row("base", [found.base, None], found))
    columns = [f"{what}, {stage.upper()}" for stage in STAGES for what in ("learned", "kept")]
    return Numbers(("tuning", "epochs", "seeds", *columns), rows)


def _row(name: str, points: Sequence[Learning | None], found: TuningComparison) -> tuple[str, ...]:
    learned = decimals_of(point.learned.value for point in found.points)
    kept = decimals_of(point.kept.value for point in found.points if point.kept)
    first = next(point for point in points if point is not None)
    values: list[str] = []
    for point in points:
        values.append(_shown(point and point.learned, learned))
        values.append(_shown(point and point.kept, kept))
    is_base = first.stage == "base"
    epochs = "" if first.num_epochs is None or is_base else str(first.num_epochs)
    return name, epochs, "" if is_base else _num_seeds(points), *values


def _num_seeds(points: Sequence[Learning | None]) -> str:
    """How many seeds its scores are means of; of some a benchmark may have failed."""
    scores = [score for point in points if point for score in (point.learned, point.kept)]
    counts = {score.num_seeds for score in scores if score}
    least, most = min(counts), max(counts)
    return str(most) if least == most else f"{least} to {most}"


def _best_weights(found: TuningComparison) -> Numbers:
    decimals = decimals_of(one.score.value for one in found.best_weights)
    rows = [
        (
            one.tuning,
            one.weights,
            _shown(one.score, decimals),
            ", ".join(one.within_noise) or NONE,
        )
        for one in found.best_weights
    ]
    columns = ("tuning", "best weights after DPO", "their score", "within the noise of them")
    return Numbers(columns, rows)


def _shown(score: Score | None, decimals: int) -> str:
    return NONE if score is None else plus_minus(score.value, score.half_width, decimals)


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
