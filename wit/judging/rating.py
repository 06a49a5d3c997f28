"""Ratings of single responses from 1 to 10, turn by turn, as MT-Bench.

Source: arXiv 2306.05685; lm-sys/FastChat fastchat/llm_judge. Differs: a rating that cannot be read
is left out and counted, and too many of them are no score; every mean has a standard error.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from wit.errors import DataError
from wit.judging.client import Judge, ask_all
from wit.judging.judgements import (
    Judged,
    Judgement,
    make_judgement,
    references_of,
    refuse_unparsable,
)
from wit.judging.prompts import JudgeRequest, make_request
from wit.judging.questions import MAX_TURNS, Answer, Reference
from wit.judging.verdicts import read_rating
from wit.settings import Settings

# FastChat's NEED_REF_CATS: what a judge gets wrong without a reference answer beside it.
WITH_REFERENCE = frozenset({"math", "reasoning", "coding"})
MAX_UNPARSABLE_SHARE = 0.1
K = TypeVar("K")


class MeanRating(Settings):
    """A mean of ratings from 1 to 10."""

    value: float
    stderr: NonNegativeFloat | None  # questions err apart, turns of one do not; None: one question
    num_ratings: PositiveInt
    num_questions: PositiveInt


class Ratings(Settings):
    """What a judge thinks of one model's responses."""

    mean: MeanRating
    by_category: dict[str, MeanRating | None]  # None: none of its ratings can be read
    by_turn: dict[int, MeanRating | None]
    num_unparsable: NonNegativeInt  # responses; they are in no mean
    num_empty_responses: NonNegativeInt  # they are judged as they are


def rating_requests(
    answers: Sequence[Answer], references: Mapping[str, Reference]
) -> list[JudgeRequest]:
    """What is asked, for every turn of every answer, in that order.

    Args:
        answers: Of one or two turns.
        references: By question; wanted for the categories of ``WITH_REFERENCE`` only.

    Raises:
        DataError: A reference is missing, or an answer has more turns than there are prompts for.
    """
    needed = [answer for answer in answers if answer.category in WITH_REFERENCE]
    known = references_of(needed, references)
    requests = []
    for answer in answers:
        if len(answer.prompts) > MAX_TURNS:
            raise DataError(
                f"question {answer.id}: has {len(answer.prompts)} turns; there are judge prompts "
                f"for {MAX_TURNS}"
            )
        reference = known.get(answer.id)
        name = "single-v1" if reference is None else "single-math-v1"
        texts = _texts(answer, reference)
        for turn in range(1, len(answer.prompts) + 1):
            label = f"question {answer.id}, turn {turn}"
            requests.append(make_request(name + "-multi-turn" * (turn == 2), label, texts))
    return requests


def rate(answers: Sequence[Answer], references: Mapping[str, Reference], judge: Judge) -> Judged:
    """Has every response rated.

    Args:
        answers: See ``rating_requests``.
        references: See there.
        judge: Who rates.

    Raises:
        DataError: As ``rating_requests``.
        InputError: The key is not there.
        JudgeError: As ``wit.judging.client.ask_all``.
        OSError: The cache cannot be read or written.
    """
    requests = rating_requests(answers, references)
    replies, usage = ask_all(requests, judge)
    turns = [(answer, turn) for answer in answers for turn in range(1, len(answer.prompts) + 1)]
    rows = [
        make_judgement(
            answer,
            turn,
            request.prompt_version,
            answered,
            rating=read_rating(answered.reply.text),
        )
        for (answer, turn), request, answered in zip(turns, requests, replies, strict=True)
    ]
    return Judged(tuple(rows), usage)


def mean_rating(
    rows: Sequence[Judgement], *, max_unparsable_share: float = MAX_UNPARSABLE_SHARE
) -> Ratings:
    """The mean over all responses, over each category and over each turn.

    Args:
        rows: Of ``rate``.
        max_unparsable_share: Of the responses.

    Raises:
        UnparsableError: More of them have no rating that can be read, or all.
    """
    num_without = sum(row.rating is None for row in rows)
    refuse_unparsable(rows, num_without, len(rows), max_unparsable_share, "responses")
    mean = _mean(rows)
    assert mean is not None, "refused above"
    return Ratings(
        mean=mean,
        by_category=_mean_by(rows, lambda row: row.category),
        by_turn=_mean_by(rows, lambda row: row.turn),
        num_unparsable=num_without,
        num_empty_responses=sum(row.is_response_empty for row in rows),
    )


def _mean_by(
    rows: Sequence[Judgement], part_of: Callable[[Judgement], K | None]
) -> dict[K, MeanRating | None]:
    parts: dict[K, list[Judgement]] = defaultdict(list)
    for row in rows:
        if (part := part_of(row)) is not None:
            parts[part].append(row)
    return {part: _mean(of_part) for part, of_part in parts.items()}


def _mean(rows: Sequence[Judgement]) -> MeanRating | None:
    """The mean of all ratings, with the standard error of a mean of clusters.

    For questions of two turns each it is that of a mean of the questions' means.
    """
    by_question: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.rating is not None:
            by_question[row.id].append(row.rating)
    if not by_question:
        return None
    num_ratings, num_questions = sum(map(len, by_question.values())), len(by_question)
    value = (
        math.fsum(rating for ratings in by_question.values() for rating in ratings) / num_ratings
    )
    stderr = None
    if num_questions > 1:
        residuals = np.array(
            [sum(ratings) - value * len(ratings) for ratings in by_question.values()]
        )
        variance = num_questions / (num_questions - 1) * float(residuals @ residuals)
        stderr = math.sqrt(variance) / num_ratings
    return MeanRating(
        value=value, stderr=stderr, num_ratings=num_ratings, num_questions=num_questions
    )


def _texts(answer: Answer, reference: Reference | None) -> dict[str, str]:
    """What the places of the prompts stand for."""
    texts = {"question": answer.prompts[0], "answer": answer.responses[0]}
    for number, (prompt, response) in enumerate(
        zip(answer.prompts, answer.responses, strict=True), start=1
    ):
        texts |= {f"question_{number}": prompt, f"answer_{number}": response}
    if reference is not None:
        for number, response in enumerate(reference.responses, start=1):
            texts[f"ref_answer_{number}"] = response
    return texts
