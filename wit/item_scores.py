"""How a model scored on single items, from every evaluation of it that is kept.

An item of a judged set is a question: in both orders it counts as the win rate counts it, and all
its turns are one rating. One that lacks a verdict, in an order or on a turn, is unknown: what is
left of it is not like the whole of another model's.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from wit.analysis.paired import ItemScores
from wit.artifacts import verify
from wit.errors import ArtifactError
from wit.evaluation.judged import JUDGEMENTS_FILE
from wit.evaluation.results import EvaluationResult, Score
from wit.evaluation.samples import read_samples
from wit.evaluation_recipes import JudgeEvaluation
from wit.judging.judgements import Judgement, Order
from wit.judging.pairwise import SCORES
from wit.judging.verdicts import Verdict, agreed
from wit.records import Kept, evaluations_by_model


class Said(NamedTuple):
    """What a judge said once of a question, as a ``Judgement`` has it."""

    id: str
    order: Order | None
    verdict: Verdict | None
    rating: float | None


def item_scores(
    model: Kept, benchmarks: Sequence[str]
) -> dict[str, list[tuple[float, ItemScores]]]:
    """By benchmark or judged set, the newest last: the main score, and that of each item.

    Raises:
        ArtifactError: An evaluation is damaged.
    """
    found: dict[str, list[tuple[float, ItemScores]]] = {name: [] for name in benchmarks}
    for evaluation in evaluations_by_model(model.root).get(model.fingerprint, []):
        verify(evaluation.path)
        result = EvaluationResult.load(evaluation.path)
        for main in result.scores:
            if not main.is_main or main.benchmark not in found:
                continue
            if main.benchmark in result.runs:
                items_hash = result.runs[main.benchmark].items_hash
                scores = _of_benchmark(evaluation, main, items_hash)
            elif evaluation.record["stage"] == JudgeEvaluation.stage:
                scores = _of_judged(evaluation, main)
            else:  # older ones say other things
                continue
            found[main.benchmark].append((main.value, scores))
    return found


def judged_by(recipe: dict[str, Any], metric: str) -> str:
    """A judge's metric, with its name: another judge has another scale."""
    return f"{metric} by {recipe['judge']['model']}"


def hash_of_questions(evaluation: Kept) -> str:
    """Twelve hex digits over what was asked and compared with, and how the judge was asked.

    The judge's name is left out: it is part of the metric.
    """
    responses = evaluation.parent("responses")
    parts = [evaluation.recipe | {"judge": {**evaluation.recipe["judge"], "model": None}}]
    if responses is not None:
        parts += [responses.recipe, {"prompts": responses.parents["prompts"]["fingerprint"]}]
    references = evaluation.parents.get("references", {})
    parts.append({"references": references.get("fingerprint")})
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _of_benchmark(evaluation: Kept, main: Score, items_hash: str) -> ItemScores:
    samples = read_samples(evaluation.path)
    return ItemScores(
        f"{main.metric}, {main.filter}",
        items_hash,
        tuple(sample.score for sample in samples),
        main.higher_is_better,
    )


def _of_judged(evaluation: Kept, main: Score) -> ItemScores:
    file = evaluation.path / JUDGEMENTS_FILE
    try:
        rows = [Said(**row) for row in pq.read_table(file, columns=[*Said._fields]).to_pylist()]
    except (OSError, pa.ArrowException, TypeError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from None
    return ItemScores(
        judged_by(evaluation.recipe, main.metric),
        hash_of_questions(evaluation),
        tuple(question_scores(rows)),
        main.higher_is_better,
        may_lack=True,
    )


def question_scores(rows: Iterable[Said | Judgement]) -> list[float | None]:
    """One for each question, in the order of the rows; None where something is missing."""
    by_question: dict[str, list[Said | Judgement]] = {}
    for row in rows:
        by_question.setdefault(row.id, []).append(row)
    return [_score(of_question) for of_question in by_question.values()]


def _score(rows: Sequence[Said | Judgement]) -> float | None:
    if rows[0].order is None:
        ratings = [row.rating for row in rows if row.rating is not None]
        return fmean(ratings) if len(ratings) == len(rows) else None
    first, second = rows
    verdict = agreed(first.verdict, second.verdict)
    return None if verdict is None else SCORES[verdict]
