"""Several ways of SFT: what each learns of the target, and what it keeps of what the base knew.

Learned is the mean over the select benchmarks, kept that over those of the role forgetting; the two
axes of "LoRA Learns Less and Forgets Less" (arXiv 2405.09673, figure 3), here before and after
alignment. Without a benchmark of that role, kept is how little more plain text costs than it cost
the base.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import pandas as pd

from wit.analysis.grid import ModelScore, stage_scores
from wit.analysis.intervals import half_width
from wit.analysis.scores import (
    INSTRUCTION_TUNING,
    Result,
    by_tuning,
    of_alignment,
    select_benchmarks,
    tunings_in,
)
from wit.analysis.selection import recommend
from wit.config import Study
from wit.score_names import TEXT_DRIFT
from wit.tuning_grid import curves_of

STAGES = ("sft", "dpo")


class Score(Result):
    """A mean over seeds."""

    value: float  # more is better
    half_width: float | None  # of its 95 % interval; None: there is one seed, and no item's error
    num_seeds: int


class Learning(Result):
    """What one way of SFT has come to, before or after alignment."""

    tuning: str
    curve: str  # of tunings that differ in epochs alone
    num_epochs: int | None  # None: nobody says
    stage: str  # sft or dpo
    learned: Score
    kept: Score | None  # None: it was not measured


class Difference(Result):
    """A curve beside the main one: the mean over epochs that both have, paired by seed.

    The intervals are t intervals over seeds, as of one of all comparisons with the main curve. All
    models answer the same items; how far others would tell otherwise is not in them.
    """

    curve: str
    stage: str
    epochs: tuple[int | None, ...]
    learned: Score
    kept: Score | None


class BestWeights(Result):
    """Which loss weights are best after one way of SFT, and alignment."""

    tuning: str
    weights: str
    objective: str
    score: Score
    within_noise: tuple[str, ...]  # other objectives that cannot be told from the best


class TuningComparison(Result):
    """All tunings of a study beside each other."""

    weights: str  # at which learning and forgetting are shown
    learned_is: str  # names of benchmarks
    kept_is: str  # empty: it was not measured
    base: Learning | None
    num_tunings: int
    points: tuple[Learning, ...]
    differences: tuple[Difference, ...]
    best_weights: tuple[BestWeights, ...]  # of a study with several pairs; of those measured


class _Measured(NamedTuple):
    """By tuning, stage and seed."""

    learned: Mapping[tuple[str, str, int], ModelScore]
    kept: Mapping[tuple[str, str, int], ModelScore]


def compare_tunings(table: pd.DataFrame, study: Study | None) -> TuningComparison | None:
    """What the way of SFT changes; None where there is no choice.

    Args:
        table: Of one study, as ``wit.lineage.table`` gives it, with its objectives.
        study: Says which tunings differ in epochs alone; None: each is taken for itself.
    """
    if len(tunings_in(table)) < 2:
        return None
    tables = {str(name): of_alignment(of_one) for name, of_one in by_tuning(table).items()}
    weights = _shown_weights(tables)
    first = next(iter(tables.values()))
    learned, kept = select_benchmarks(first), _kept_names(first)
    found = _Measured(
        *(
            {
                (name, stage, model.seed): model
                for name, of_one in tables.items()
                for stage in STAGES
                for model in _models(of_one, stage, names)
                if model.weights == weights
            }
            for names in (learned, kept)
        )
    )
    curves = _curves(list(tables), study)
    return TuningComparison(
        weights=weights,
        learned_is=", ".join(learned),
        kept_is=", ".join(kept),
        base=_base(first, learned, kept),
        num_tunings=len(tables),
        points=tuple(_points(found, curves, study)),
        differences=tuple(_differences(found, curves, study)),
        best_weights=tuple(_best_weights(tables)),
    )


def _shown_weights(tables: Mapping[str, pd.DataFrame]) -> str:
    """Instruction tuning where every tuning has it, else the first that all have."""
    known = [list(dict.fromkeys(t.loc[t["stage"] == "sft", "weights"])) for t in tables.values()]
    shared = [one for one in known[0] if all(one in others for others in known)] or known[0]
    return INSTRUCTION_TUNING if INSTRUCTION_TUNING in shared else next(iter(shared), "")


def _kept_names(table: pd.DataFrame) -> tuple[str, ...]:
    names = select_benchmarks(table, "forgetting")
    return names or ((TEXT_DRIFT,) if TEXT_DRIFT in set(table["benchmark"].dropna()) else ())


def _models(table: pd.DataFrame, stage: str, names: Sequence[str]) -> Iterable[ModelScore]:
    """With scores of which more is better."""
    found = stage_scores(table, stage, names)
    sign = -1 if found.is_less_better else 1
    return (m.model_copy(update={"score": sign * m.score}) for m in found.models)


def _base(table: pd.DataFrame, learned: Sequence[str], kept: Sequence[str]) -> Learning | None:
    scores = [[*_models(table, "base", names)] for names in (learned, kept)]
    if not scores[0]:
        return None
    # Plain text costs the base what it costs the base.
    drift = Score(value=0.0, half_width=None, num_seeds=1) if [*kept] == [TEXT_DRIFT] else None
    return Learning(
        tuning="base",
        curve="base",
        num_epochs=0,
        stage="base",
        learned=_score(scores[0], None),
        kept=_score(scores[1], None) if scores[1] else drift,
    )


def _curves(names: Sequence[str], study: Study | None) -> dict[str, list[str]]:
    if study is None or not {*names} <= {*study.tunings}:
        return {name: [name] for name in names}
    return curves_of({name: study.tunings[name] for name in names})


def _epochs(tuning: str, study: Study | None) -> int | None:
    known = {} if study is None else study.tunings
    return known[tuning].num_epochs if tuning in known else None


def _points(
    found: _Measured, curves: Mapping[str, Sequence[str]], study: Study | None
) -> Iterable[Learning]:
    for stage in STAGES:
        spreads = [_pooled(of, stage) for of in found]
        for curve, tunings in curves.items():
            for tuning in tunings:
                learned, kept = (_of(scores, tuning, stage) for scores in found)
                if learned:
                    yield Learning(
                        tuning=tuning,
                        curve=curve,
                        num_epochs=_epochs(tuning, study),
                        stage=stage,
                        learned=_score(list(learned.values()), spreads[0]),
                        kept=_score(list(kept.values()), spreads[1]) if kept else None,
                    )


def _of(
    scores: Mapping[tuple[str, str, int], ModelScore], tuning: str, stage: str
) -> dict[int, ModelScore]:
    return {s: model for (t, at, s), model in scores.items() if (t, at) == (tuning, stage)}


def _pooled(
    scores: Mapping[tuple[str, str, int], ModelScore], stage: str
) -> tuple[float, int] | None:
    """Standard deviation of the seeds of one tuning, from all of them, and its freedom."""
    by_tuning: dict[str, list[float]] = {}
    for (tuning, at, _), model in scores.items():
        if at == stage:
            by_tuning.setdefault(tuning, []).append(model.score)
    groups = [values for values in by_tuning.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    if not freedom:
        return None
    squares = math.fsum((len(values) - 1) * stdev(values) ** 2 for values in groups)
    return math.sqrt(squares / freedom), freedom


def _score(models: Sequence[ModelScore], spread: tuple[float, int] | None) -> Score:
    deviation, freedom = spread or (0.0, 0)
    stderrs = [model.stderr for model in models]
    items = None if any(map(math.isnan, stderrs)) else fmean(stderrs)
    seeds = deviation / math.sqrt(len(models)) or None
    value = fmean([model.score for model in models])
    width = half_width(seeds, items, freedom)
    return Score(value=value, half_width=width, num_seeds=len(models))


def _differences(
    found: _Measured, curves: Mapping[str, Sequence[str]], study: Study | None
) -> Iterable[Difference]:
    main, *others = curves
    of_main = {_epochs(tuning, study): tuning for tuning in curves[main]}
    for stage in STAGES:
        for curve in others:
            pairs = {
                epochs: (of_main[epochs], tuning)
                for tuning in curves[curve]
                if (epochs := _epochs(tuning, study)) in of_main
            }
            learned, kept = (_paired(of, stage, pairs.values(), len(others)) for of in found)
            if learned is not None:
                yield Difference(
                    curve=curve,
                    stage=stage,
                    epochs=tuple(pairs),
                    learned=learned,
                    kept=kept,
                )


def _shared_seeds(
    scores: Mapping[tuple[str, str, int], ModelScore],
    stage: str,
    pairs: Iterable[tuple[str, str]],
) -> list[int]:
    """Seeds of which every tuning has a score."""
    known = [{*_of(scores, tuning, stage)} for pair in pairs for tuning in pair]
    return sorted(set.intersection(*known)) if known else []


def _paired(
    scores: Mapping[tuple[str, str, int], ModelScore],
    stage: str,
    pairs: Iterable[tuple[str, str]],
    num_comparisons: int,
) -> Score | None:
    pairs = list(pairs)
    gains = [
        fmean([scores[b, stage, seed].score - scores[a, stage, seed].score for a, b in pairs])
        for seed in _shared_seeds(scores, stage, pairs)
    ]
    if not gains:
        return None
    # Where all seeds agree to the last digit, nothing is known of how they vary.
    stderr = (stdev(gains) / math.sqrt(len(gains)) or None) if len(gains) > 1 else None
    width = half_width(stderr, None, len(gains) - 1, num_comparisons)
    return Score(value=fmean(gains), half_width=width, num_seeds=len(gains))


def _best_weights(tables: Mapping[str, pd.DataFrame]) -> Iterable[BestWeights]:
    for name, table in tables.items():
        found = recommend(table)
        if found.num_rays > 1 and found.best is not None and found.ray is not None:
            best = found.best
            yield BestWeights(
                tuning=name,
                weights=best.weights,
                objective=found.ray.ray,
                score=Score(value=best.score, half_width=best.half_width, num_seeds=best.num_seeds),
                within_noise=found.within_noise,
            )
