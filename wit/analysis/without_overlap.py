"""Scores of a benchmark over all its items, and over those that no training row holds.

* Both are means over the same answers, so they differ by the flagged items alone.
* Of several seeds each item counts by its mean over them: seeds do not make items more.
* Not in MLflow: an evaluation knows nothing of training rows, and models of other studies, with
  other rows, share it. What is left of its score belongs to the study, as does the overlap.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wit.analysis.intervals import half_width, item_stderr
from wit.analysis.scores import by_angle
from wit.artifacts import Artifact
from wit.data.overlap import BenchmarkOverlap, Overlap
from wit.errors import ArtifactError
from wit.evaluation.results import EvaluationResult, Score
from wit.evaluation.samples import SAMPLES_FILE
from wit.evaluation_recipes import BenchmarkEvaluation
from wit.plan import Plan
from wit.settings import Settings

BASE = "base"
TIE = 1e-9  # means that differ by less, of themselves or at all, do so by rounding
Values = np.ndarray  # of one benchmark's items, in their order
ByStage = dict[str, dict[str, list[Values]]]  # then by weights: one for each seed


class ItemMean(Settings):
    """A mean over items, or a difference of such means."""

    value: float
    stderr: float | None  # of other items of the same kind; None: too few to tell

    @property
    def half_width(self) -> float | None:
        """Of the 95 % interval."""
        return half_width(None, self.stderr, 0)


class ModelWithout(Settings):
    """The models of one pair of weights at one stage, or the base."""

    stage: str  # base, sft or dpo
    weights: str
    num_seeds: int
    whole: ItemMean  # over all items
    rest: ItemMean  # over those that are not flagged
    change: ItemMean  # rest minus whole

    @classmethod
    def of_items(cls, stage: str, weights: str, seeds: Sequence[Values], flagged: Values) -> Self:
        """From the items' scores.

        ``rest - whole`` is the share of flagged items times how much less they score than the
        rest, which are two sets of items that err apart from each other.

        Args:
            stage: Of the models.
            weights: Of the models.
            seeds: Scores of the items, for each seed.
            flagged: Whether an item is, in the same order; not all of them.
        """
        values = np.mean(seeds, axis=0)
        whole, rest, hit = (_mean(values[part]) for part in (slice(None), ~flagged, flagged))
        known = hit.stderr is not None and rest.stderr is not None
        apart = math.hypot(hit.stderr or 0, rest.stderr or 0)
        share = float(flagged.mean())
        return cls(
            stage=stage,
            weights=weights,
            num_seeds=len(seeds),
            whole=whole,
            rest=rest,
            change=ItemMean(
                value=rest.value - whole.value, stderr=share * apart if known else None
            ),
        )


class Order(Settings):
    """What becomes of the order of cells at one stage without the flagged items."""

    stage: str
    num_pairs: int  # of pairs of weights
    num_changed: int  # of those: which of the two is better, or that neither is, is otherwise then
    best: tuple[str, ...]  # weights that are best on all items; several: they tie
    best_rest: tuple[str, ...]  # on the rest
    # Of those over the next of these that are best no more, on the same items of the rest.
    lead: ItemMean | None


class WithoutOverlap(Settings):
    """One benchmark of which items are flagged."""

    num_items: int
    num_rest: int  # that are not flagged
    higher_is_better: bool = True
    obstacle: str = ""  # why there is no score over the rest, as the end of a sentence
    models: tuple[ModelWithout, ...] = ()  # the base first, then by stage and by angle
    orders: tuple[Order, ...] = ()  # of stages with several cells

    def model(self, stage: str, weights: str) -> ModelWithout | None:
        """That of a stage and of weights."""
        of = (m for m in self.models if (m.stage, m.weights) == (stage, weights))
        return next(of, None)


class _NoItemsError(Exception):
    """The scores of single items do not make the benchmark's."""


def without_overlap(plan: Plan, overlap: Overlap) -> dict[str, WithoutOverlap]:
    """By benchmark, for those of which any item is flagged and that any model was measured on.

    What cannot be read is left out: its own stage says so.
    """
    found = {}
    for name, of_benchmark in overlap.benchmarks.items():
        evaluations = list(_evaluations(plan, name))
        if of_benchmark.num_overlapping and evaluations:
            found[name] = _of_benchmark(name, evaluations, of_benchmark)
    return found


def _of_benchmark(
    name: str, evaluations: Iterable[tuple[str, str, Artifact]], overlap: BenchmarkOverlap
) -> WithoutOverlap:
    num_rest = overlap.num_items - overlap.num_overlapping
    counts: dict[str, Any] = {"num_items": overlap.num_items, "num_rest": num_rest}
    if not num_rest:
        return WithoutOverlap(**counts, obstacle="no other item is left")
    flagged = np.zeros(overlap.num_items, dtype=bool)
    flagged[list(overlap.overlapping)] = True
    scores: ByStage = {}
    is_more_better = True
    for stage, weights, artifact in evaluations:
        try:
            main = EvaluationResult.load(artifact.path).main_score(name)
            is_more_better = main.higher_is_better
            values = _item_values(artifact, main, overlap.num_items)
        except ArtifactError:
            continue
        except _NoItemsError as obstacle:
            return WithoutOverlap(**counts, higher_is_better=is_more_better, obstacle=str(obstacle))
        scores.setdefault(stage, {}).setdefault(weights, []).append(values)
    if not scores:
        return WithoutOverlap(**counts, obstacle="no scores of single items can be read")
    sign = 1 if is_more_better else -1
    return WithoutOverlap(
        **counts,
        higher_is_better=is_more_better,
        models=tuple(
            ModelWithout.of_items(stage, weights, seeds, flagged)
            for stage, by_weights in scores.items()
            for weights, seeds in by_weights.items()
        ),
        orders=tuple(
            order_of(stage, {w: np.mean(seeds, axis=0) for w, seeds in of.items()}, flagged, sign)
            for stage, of in scores.items()
            if len(of) > 1
        ),
    )


def order_of(stage: str, cells: Mapping[str, Values], flagged: Values, sign: int) -> Order:
    """Compares the order of cells by all items with that by the rest.

    Args:
        stage: Of all of them.
        cells: Scores of the items, by weights.
        flagged: Whether an item is.
        sign: -1 where less is better.
    """
    whole = {weights: sign * _mean(values).value for weights, values in cells.items()}
    rest = {weights: sign * _mean(values[~flagged]).value for weights, values in cells.items()}
    pairs = list(combinations(cells, 2))
    best, best_rest = _best(whole), _best(rest)
    gone = [weights for weights in best if weights not in best_rest]
    lead = None
    if gone:
        second = max(gone, key=lambda weights: rest[weights])
        lead = _mean(sign * (cells[best_rest[0]] - cells[second])[~flagged])
    return Order(
        stage=stage,
        num_pairs=len(pairs),
        num_changed=sum(
            _sign(whole[one], whole[other]) != _sign(rest[one], rest[other]) for one, other in pairs
        ),
        best=best,
        best_rest=best_rest,
        lead=lead,
    )


def _sign(one: float, other: float) -> int:
    """1 where one is more, -1 where it is less; 0: a tie, which sums over seeds hit but nearly."""
    return 0 if math.isclose(one, other, rel_tol=TIE, abs_tol=TIE) else 1 if one > other else -1


def _best(means: Mapping[str, float]) -> tuple[str, ...]:
    most = max(means.values())
    return tuple(weights for weights, mean in means.items() if _sign(mean, most) == 0)


def _evaluations(plan: Plan, name: str) -> Iterator[tuple[str, str, Artifact]]:
    """Stage, weights and evaluation on a benchmark of every model that was measured on it."""
    models = [(BASE, BASE, plan.base_evaluations)]
    cells = [(cell.cell.weights, cell) for cell in plan.cells]
    cells.sort(key=lambda pair: by_angle(pair[0].prompt, pair[0].response, str(pair[0])))
    models += [("sft", str(weights), cell.sft_evaluations) for weights, cell in cells]
    models += [("dpo", str(weights), cell.dpo_evaluations) for weights, cell in cells]
    for stage, weights, evaluations in models:
        for artifact in evaluations:
            recipe = artifact.recipe
            is_wanted = isinstance(recipe, BenchmarkEvaluation) and recipe.measures == name
            if is_wanted and artifact.exists():
                yield stage, weights, artifact


def _item_values(artifact: Artifact, main: Score, num_items: int) -> Values:
    """The main metric of every item.

    Raises:
        ArtifactError: The file cannot be read.
        _NoItemsError: Their mean is not the score; says why.
    """
    file = artifact.path / SAMPLES_FILE
    try:
        # One column: prompts and responses of all models would fill the memory.
        scores = pq.read_table(file, columns=["score"])["score"].to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from None
    if len(scores) != num_items:
        raise _NoItemsError(f"{len(scores)} items were asked, not the {num_items} looked for")
    if None in scores:
        raise _NoItemsError(f"{main.metric} exists only for all items together")
    values = np.array(scores, dtype=float)
    if not math.isclose(float(values.mean()), main.value, rel_tol=1e-6, abs_tol=1e-9):
        raise _NoItemsError(f"{main.metric} is not the mean of what single items score")
    return values


def _mean(values: Values) -> ItemMean:
    """With the standard error that scores have elsewhere, which a share of 0 or 1 has too."""
    value = math.fsum(values) / len(values)
    spread = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    if float(np.ptp(values)) == 0:
        spread = 0.0
    stderr = item_stderr(value, spread, len(values))
    return ItemMean(value=value, stderr=None if math.isnan(stderr) else stderr)
