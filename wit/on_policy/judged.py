"""Scores of responses by a judge: each is rated from 1 to 10, by the published prompts."""

from collections.abc import Sequence

from wit.data.schema import Messages
from wit.judging.client import Judge, ask_all
from wit.judging.errors import UnparsableError
from wit.judging.judgements import make_judgement, refuse_unparsable
from wit.judging.prompts import JudgeRequest
from wit.judging.questions import Answer
from wit.judging.rating import MAX_UNPARSABLE_SHARE, rating_requests
from wit.judging.usage import Usage
from wit.judging.verdicts import read_rating

# As the published prompt for two turns names them.
HEADERS = {"system": "System", "user": "User", "assistant": "Assistant A", "tool": "Tool"}


def judge_scores(
    prompts: Sequence[Messages], responses: Sequence[Sequence[str]], judge: Judge
) -> tuple[list[list[float | None]], Usage]:
    """A rating from 1 to 10 of each response to each prompt, and what asking for them took.

    None stands where the judge gave no rating that can be read. What is equal is asked once, and
    what the judge's cache has not at all.

    Args:
        prompts: Conversations that wait for an answer.
        responses: To each of them.
        judge: Who rates.

    Raises:
        UnparsableError: More than a tenth of the responses have no rating, or all; has ``usage``.
        InputError: The key is not there.
        JudgeError: As ``wit.judging.client.ask_all``.
        OSError: The cache cannot be read or written.
    """
    answers = _answers(prompts, responses)
    requests = [_request(answer) for answer in answers]
    replies, usage = ask_all(requests, judge)
    rows = [
        make_judgement(
            answer,
            len(answer.prompts),
            request.prompt_version,
            answered,
            rating=read_rating(answered.reply.text),
        )
        for answer, request, answered in zip(answers, requests, replies, strict=True)
    ]
    if rows:
        num_without = sum(row.rating is None for row in rows)
        try:
            refuse_unparsable(rows, num_without, len(rows), MAX_UNPARSABLE_SHARE, "responses")
        except UnparsableError as error:
            error.usage = usage
            raise
    ratings = iter([row.rating for row in rows])
    return [[next(ratings) for _ in texts] for texts in responses], usage


def judge_requests(
    prompts: Sequence[Messages], responses: Sequence[Sequence[str]]
) -> list[JudgeRequest]:
    """What ``judge_scores`` asks, one request a response, in that order.

    Source: the single-answer prompts of ``wit.judging``, for one turn and for two of which the
    second is rated. Differs: any other conversation is one question, turn by turn, as the prompt
    for two writes them.

    Args:
        prompts: Conversations that wait for an answer.
        responses: To each of them.
    """
    return [_request(answer) for answer in _answers(prompts, responses)]


def _request(answer: Answer) -> JudgeRequest:
    return rating_requests([answer], {})[-1]  # of the last turn


def _answers(prompts: Sequence[Messages], responses: Sequence[Sequence[str]]) -> list[Answer]:
    """As the judge is to see them; of two turns the last is what is rated."""
    answers: list[Answer] = []
    for i, (prompt, texts) in enumerate(zip(prompts, responses, strict=True), start=1):
        asked, said = _turns(prompt)
        num_turns = len(asked)
        answers += [
            Answer(
                id=f"{i}, response {j}",
                prompts=asked,
                responses=(*said, text),
                num_tokens=(0,) * num_turns,  # not counted, and in no rating
                stopped=(True,) * num_turns,
            )
            for j, text in enumerate(texts, start=1)
        ]
    return answers


def _turns(prompt: Messages) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was asked, and what was said before the last of it."""
    roles = [turn.role for turn in prompt]
    texts = tuple(turn.text for turn in prompt)
    if roles in (["user"], ["user", "assistant", "user"]) and all(texts[::2]):
        return texts[::2], texts[1::2]
    turns = [f"### {HEADERS[turn.role]}:\n{turn.text}" for turn in prompt]
    return ("\n\n".join(turns),), ()
