"""A model's responses against reference responses, as AlpacaEval.

Source: alpaca-eval 0.6.6, evaluator ``alpaca_eval_gpt4`` (AlpacaEval 1.0), Apache-2.0. Differs:
every pair is judged in both orders instead of in one that is drawn, and is a tie where the
verdicts disagree, for judges favour a place; a pair with a verdict that cannot be read is left out
and counted, and too many of them are no score.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from wit.errors import DataError
from wit.judging.client import Judge, ask_all
from wit.judging.judgements import (
    Judged,
    Judgement,
    Order,
    make_judgement,
    references_of,
    refuse_unparsable,
)
from wit.judging.length_control import LengthControlled, length_controlled
from wit.judging.prompts import JudgeRequest, make_request
from wit.judging.questions import Answer, Reference
from wit.judging.verdicts import Verdict, agreed, read_ranking
from wit.settings import Settings

PROMPT = "alpaca_eval_gpt4"
ORDERS: tuple[Order, Order] = ("reference_first", "response_first")
SCORES: dict[Verdict, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}
MAX_UNPARSABLE_SHARE = 0.1


class WinRate(Settings):
    """How often a judge prefers a model's responses to the references; a tie counts half."""

    value: float  # a fraction
    stderr: NonNegativeFloat | None  # None: one pair
    num_pairs: (
        PositiveInt  # with a verdict in both orders; all figures but the last two are of them
    )
    num_wins: NonNegativeInt
    num_ties: NonNegativeInt  # those where the orders disagree among them
    num_losses: NonNegativeInt
    num_disagreeing: NonNegativeInt  # the two orders have different verdicts
    mean_response_chars: NonNegativeFloat
    mean_reference_chars: NonNegativeFloat
    length_controlled: LengthControlled | None  # None: lengths do not let it be told
    num_unparsable: NonNegativeInt  # pairs
    num_empty_responses: NonNegativeInt  # of all pairs; they are judged as they are


class _Pair(NamedTuple):
    verdict: Verdict | None
    verdicts: tuple[Verdict | None, ...]  # by order
    row: Judgement  # either; what they have in common


def pair_requests(
    answers: Sequence[Answer], references: Mapping[str, Reference]
) -> list[JudgeRequest]:
    """What is asked: every pair in both orders, one after the other.

    Raises:
        DataError: A reference is missing or of another prompt, or an answer has several turns.
    """
    known = references_of(answers, references)
    requests = []
    for answer in answers:
        if len(answer.prompts) != 1:
            raise DataError(
                f"question {answer.id}: has {len(answer.prompts)} turns; pairs are judged on one. "
                "Give questions of one turn, or have them rated"
            )
        (response,), reference = answer.responses, known[answer.id].responses[0]
        for order in ORDERS:
            shown = (reference, response) if order == ORDERS[0] else (response, reference)
            texts = {"instruction": answer.prompts[0], "output_1": shown[0], "output_2": shown[1]}
            label = f"question {answer.id}, {order.replace('_', ' ')}"
            requests.append(make_request(PROMPT, label, texts))
    return requests


def compare(answers: Sequence[Answer], references: Mapping[str, Reference], judge: Judge) -> Judged:
    """Has every response compared with its reference, in both orders.

    Args:
        answers: Of one turn each.
        references: By question.
        judge: Who compares.

    Raises:
        DataError: As ``pair_requests``.
        InputError: The key is not there.
        JudgeError: As ``wit.judging.client.ask_all``.
        OSError: The cache cannot be read or written.
    """
    requests = pair_requests(answers, references)
    replies, usage = ask_all(requests, judge)
    shown: list[tuple[Answer, Order]] = [(answer, order) for answer in answers for order in ORDERS]
    rows = [
        make_judgement(
            answer,
            1,
            request.prompt_version,
            answered,
            verdict=_verdict(answered.reply.text, order),
            order=order,
            num_reference_chars=len(references[answer.id].responses[0]),
        )
        for (answer, order), request, answered in zip(shown, requests, replies, strict=True)
    ]
    return Judged(tuple(rows), usage)


def win_rate(
    rows: Sequence[Judgement], *, max_unparsable_share: float = MAX_UNPARSABLE_SHARE
) -> WinRate:
    """The share of pairs that the model wins, ties counting half.

    Args:
        rows: Of ``compare``.
        max_unparsable_share: Of the pairs.

    Raises:
        UnparsableError: More of them lack a verdict that can be read, or all.
    """
    pairs = _pairs(rows)
    counted = [pair for pair in pairs if pair.verdict is not None]
    num_without = len(pairs) - len(counted)
    refuse_unparsable(rows, num_without, len(pairs), max_unparsable_share, "pairs")
    scores = [SCORES[pair.verdict] for pair in counted if pair.verdict is not None]
    num_response_chars = [pair.row.num_response_chars for pair in counted]
    num_reference_chars = [pair.row.num_reference_chars or 0 for pair in counted]
    value = fmean(scores)
    return WinRate(
        value=value,
        stderr=_stderr(scores, value),
        num_pairs=len(counted),
        num_wins=sum(pair.verdict == "win" for pair in counted),
        num_ties=sum(pair.verdict == "tie" for pair in counted),
        num_losses=sum(pair.verdict == "loss" for pair in counted),
        num_disagreeing=sum(len(set(pair.verdicts)) > 1 for pair in counted),
        mean_response_chars=fmean(num_response_chars),
        mean_reference_chars=fmean(num_reference_chars),
        length_controlled=length_controlled(scores, num_response_chars, num_reference_chars),
        num_unparsable=num_without,
        num_empty_responses=sum(pair.row.is_response_empty for pair in pairs),
    )


def _verdict(text: str, order: Order) -> Verdict | None:
    better = read_ranking(text)
    if better is None:
        return None
    if better == 0:
        return "tie"
    return "win" if (better == 2) == (order == "reference_first") else "loss"


def _pairs(rows: Sequence[Judgement]) -> list[_Pair]:
    by_question: dict[str, dict[str | None, Judgement]] = {}
    for row in rows:
        by_question.setdefault(row.id, {})[row.order] = row
    pairs = []
    for of_pair in by_question.values():
        first, second = (of_pair[order] for order in ORDERS)
        verdicts = first.verdict, second.verdict
        pairs.append(_Pair(agreed(*verdicts), verdicts, first))
    return pairs


def _stderr(scores: Sequence[float], mean: float) -> float | None:
    if len(scores) < 2:
        return None
    squares = math.fsum((score - mean) ** 2 for score in scores)
    return math.sqrt(squares / (len(scores) - 1) / len(scores))
