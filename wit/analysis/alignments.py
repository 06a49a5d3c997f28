"""Several alignments of the same SFT models: is the best of one also the best of another?

Every alignment is analysed for itself, as a study with that alone would be. What it gains over SFT
is paired: each aligned model is compared with the SFT model that it began as.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Literal

import pandas as pd

from wit.analysis.digits import number
from wit.analysis.grid import CellScore, StageScores, stage_scores
from wit.analysis.intervals import half_width
from wit.analysis.rays import Rays, rays_of
from wit.analysis.scores import Result, alignment_columns, alignments_in, of_alignment
from wit.analysis.selection import best_cell_of, within_noise

# How the objective that is best before alignment fares after it.
Standing = Literal["best", "within noise", "worse", "worse, noise unknown", "unknown"]
ROUNDING = 1e-9  # of scores: how far gains may differ that are alike


class PairedGain(Result):
    """How much better models are than the SFT models that they began as."""

    mean: float  # over cells and seeds; positive: better
    # Of its 95 % interval: the wider of that over cells and seeds, which is unknown for one pair or
    # where all are alike, and that over items; None: neither is known.
    half_width: float | None
    share: float  # of the models, that are better
    num_models: int


class AlignmentResult(Result):
    """What came of one alignment."""

    name: str
    objective: str | None
    beta: float | None
    best: CellScore | None  # None: nothing was measured
    within_noise: tuple[str, ...]  # objectives of SFT that cannot be told from the best
    gain: PairedGain | None  # over SFT; None: there is no pair
    sft_best: Standing
    num_excluded: int  # models without a complete score


class AlignmentComparison(Result):
    """All alignments of a study beside each other."""

    sentence: str
    sft_best: CellScore | None
    results: tuple[AlignmentResult, ...]  # the main one first


def compare_alignments(table: pd.DataFrame) -> AlignmentComparison | None:
    """What the choice of alignment changes; None where there is no choice.

    Args:
        table: Of one study, as ``wit.lineage.table`` gives it.
    """
    names = alignments_in(table)
    if len(names) < 2:
        return None
    sft = stage_scores(of_alignment(table), "sft")
    before = rays_of(sft)
    results = tuple(_result(of_alignment(table, name), name, sft, before) for name in names)
    best = None if before.best is None else best_cell_of(sft, before.best)
    sentences = (_sentence(best, results), _most(table, results))
    said = " ".join(filter(None, sentences))
    return AlignmentComparison(sentence=said, sft_best=best, results=results)


def _result(table: pd.DataFrame, name: str, sft: StageScores, before: Rays) -> AlignmentResult:
    after = stage_scores(table, "dpo")
    rays = rays_of(after)
    [first, *_] = table.loc[table["alignment"] == name].to_dict("records")
    how = alignment_columns(first)
    near = tuple(ray.ray for ray in within_noise(rays))
    return AlignmentResult(
        name=name,
        objective=how["objective"],
        beta=how["beta"],
        best=None if rays.best is None else best_cell_of(after, rays.best),
        within_noise=near,
        gain=paired_gain(sft, after),
        sft_best=_standing(before, rays, near),
        num_excluded=after.num_excluded,
    )


def _standing(before: Rays, after: Rays, near: Sequence[str]) -> Standing:
    best = after.best
    fared = None if before.best is None else after.ray(before.best.ray)
    if best is None or fared is None:
        return "unknown"
    if fared == best:
        return "best"
    if fared.ray in near:
        return "within noise"
    return "worse, noise unknown" if after.noise_of(fared, [best]) is None else "worse"


def paired_gain(sft: StageScores, after: StageScores) -> PairedGain | None:
    """The gain of aligned models over their own SFT models, by weights and seed."""
    begun = {(model.weights, model.seed): model for model in sft.models}
    pairs = [
        (begun[model.weights, model.seed], model)
        for model in after.models
        if (model.weights, model.seed) in begun
    ]
    if not pairs:
        return None
    sign = -1 if after.is_less_better else 1
    gains = [sign * (model.score - start.score) for start, model in pairs]
    # All answer the same items, so more pairs do not lessen that part.
    items = fmean(math.hypot(start.stderr, model.stderr) for start, model in pairs)
    return PairedGain(
        mean=fmean(gains),
        half_width=half_width(
            _stderr_over(gains, max(abs(model.score) for pair in pairs for model in pair)),
            None if math.isnan(items) else items,
            len(gains) - 1,
        ),
        share=sum(gain > 0 for gain in gains) / len(gains),
        num_models=len(gains),
    )


def _stderr_over(gains: Sequence[float], largest_score: float) -> float | None:
    """Of their mean, from how they differ; None: they do not, but for rounding."""
    if len(gains) < 2 or max(gains) - min(gains) <= ROUNDING * largest_score:
        return None
    return stdev(gains) / math.sqrt(len(gains))


def _sentence(sft_best: CellScore | None, results: Sequence[AlignmentResult]) -> str:
    """Whether the best SFT weights are best after each alignment."""
    if sft_best is None:
        return "Nothing was measured before alignment yet."
    by_standing: dict[Standing, list[str]] = {}
    for result in results:
        by_standing.setdefault(result.sft_best, []).append(result.name)
    if len(by_standing.get("best", [])) == len(results):
        return (
            f"The best SFT weights, {sft_best.weights}, are the best after every one of the "
            f"{len(results)} alignments."
        )
    said = {
        "best": "the best after {}",
        "within noise": "within the noise of the best after {}",
        "worse": "worse than the best, beyond the noise, after {}",
        "worse, noise unknown": "worse than the best, with nothing known of the noise, after {}",
        "unknown": "not measured after {}",
    }
    parts = [
        words.format(_listed(by_standing[standing]))
        for standing, words in said.items()
        if standing in by_standing
    ]
    return f"The best SFT weights, {sft_best.weights}, are {'; '.join(parts)}."


def _most(table: pd.DataFrame, results: Sequence[AlignmentResult]) -> str:
    """After which alignment models are best, and by how much, on the same SFT models.

    The interval is that of the two: who looks for the best of many finds some by luck.
    """
    gains = {result.name: result.gain for result in results if result.gain is not None}
    if len(gains) < 2:
        return ""
    first, *others = sorted(gains, key=lambda name: -gains[name].mean)
    second = others[0]
    beside = paired_gain(*(stage_scores(of_alignment(table, n), "dpo") for n in (second, first)))
    if beside is None:
        return ""
    by = number(beside.mean, 3, is_signed=True)
    if beside.half_width is None:
        return f"Most is gained after {first}, {by} beside {second}; the noise is not known."
    by += f" ± {number(beside.half_width, 3)}"
    if beside.mean > beside.half_width:
        return f"Most is gained after {first}, {by} beside {second}."
    near = f"that is within the noise of {second} ({by})"
    return f"Most is gained after {first}, but {near}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
