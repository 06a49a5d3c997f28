"""Rows of preference data: from the shapes of real sets to pairs, or to good and bad responses.

Programs make such sets of what models said and raters thought, and leave rows in them that say
nothing. So what is wrong with a row is no error, as it is in instructions: the row is dropped, and
counted by its reason. An error is a set of which nothing is left.

A prompt may be given, or be what both conversations begin with, or both: then it is not doubled.
What both sides share after it belongs to the prompt too, up to the last message of either. The rest
of a side is its answer: mostly one message, else all turns from where the conversations part.
"""

import math
import re
from itertools import pairwise
from typing import Any, NamedTuple

from wit.data.schema import PAIR_SCORES, FaultyRowError, Message, Messages, Shape
from wit.data.sources import Row

# How HH-RLHF writes a conversation into one text.
TRANSCRIPT_TURN = re.compile(r"\n\n(Human|Assistant):")
TRANSCRIPT_ROLES = {"Human": "user", "Assistant": "assistant"}
LABELS = {"true": True, "false": False}  # CSV has text only


class Preference(NamedTuple):
    """A conversation that ends before an answer, and two answers to it."""

    prompt: Messages
    chosen: Messages  # the assistant's message, and any turns that follow it
    rejected: Messages


class Unpaired(NamedTuple):
    """A conversation that ends before an answer, and one answer that is good or bad."""

    prompt: Messages
    response: Messages  # the assistant's message, and any turns that follow it
    is_desirable: bool


class Unusable(NamedTuple):
    """A row that says nothing, and why."""

    reason: str  # under which it is counted
    said: str  # for people, with the number of the row
    content: str  # of the row: what tells it from others


PreferenceRow = Preference | Unpaired | Unusable


def read_preference(
    shape: Shape, row: Row, number: int, *, min_margin: float = 0.0
) -> PreferenceRow:
    """What a row says.

    Args:
        shape: Of its source.
        row: As the source has it.
        number: Of the row in its source, from 1.
        min_margin: Least difference of the scores of a pair, in their unit; equal ones are a tie.
    """
    try:
        if shape.is_unpaired:
            return _unpaired(shape, row, number)
        return _pair(shape, row, number, min_margin)
    except FaultyRowError as error:
        return Unusable(error.reason, error.said, repr(sorted(row.items())))


def _pair(shape: Shape, row: Row, number: int, min_margin: float) -> Preference:
    names = ("chosen", "rejected")
    if "scores" in shape.names:
        values = _best_and_worst(shape, row, number, min_margin)
        names = ("responses", "responses")
    else:
        values = tuple(shape.value(row, name) for name in names)
        if shape.optional.issuperset(PAIR_SCORES):
            scores = [row.get(shape.column[name]) for name in PAIR_SCORES]
            _check_margin(shape, number, scores, min_margin)
    has_prompt = shape.names[0] not in names
    prompt = shape.request(row, shape.names[0], number) if has_prompt else ()
    sides = [
        _turns(shape, value, name, number, has_prompt)
        for value, name in zip(values, names, strict=True)
    ]
    prompt, (chosen, rejected) = _after_prompt(shape, prompt, sides, number)
    num_shared = _num_shared(chosen[:-1], rejected[:-1])
    prompt += chosen[:num_shared]
    chosen, rejected = chosen[num_shared:], rejected[num_shared:]
    if not prompt or {chosen[0].role, rejected[0].role} != {"assistant"}:
        said = "'chosen' and 'rejected' are not two answers to one prompt"
        if not has_prompt:
            said += "; if that has a column, name it with 'columns', such as {prompt: question}"
        raise shape.fault(number, "answers to different prompts", said)
    if len(chosen) != len(rejected) and _said(chosen[:1]) == _said(rejected[:1]):
        said = "one of 'chosen' and 'rejected' goes on where the other ends"
        raise shape.fault(number, "one side continues the other", said)
    _check_turns(shape, prompt, (chosen, rejected), number)
    return Preference(prompt, chosen, rejected)


def _unpaired(shape: Shape, row: Row, number: int) -> Unpaired:
    request, response, label = shape.names
    prompt = shape.request(row, request, number)
    side = _turns(shape, shape.value(row, response), response, number, has_prompt=True)
    prompt, (answer,) = _after_prompt(shape, prompt, [side], number)
    _check_turns(shape, prompt, (answer,), number)
    value = shape.value(row, label)
    is_desirable = LABELS.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(is_desirable, bool):
        said = f"{shape.column[label]!r} is {value!r:.40}, not true or false"
        raise shape.fault(number, "label is neither true nor false", said)
    return Unpaired(prompt, answer, is_desirable)


def _turns(shape: Shape, value: Any, name: str, number: int, has_prompt: bool) -> Messages:
    """One side: an answer, or a conversation that ends with it."""
    if isinstance(value, list):
        return shape.messages_in(value, name, number)
    text = shape.text_in(value, name, number)
    return (Message("assistant", text),) if has_prompt else _transcript(shape, text, name, number)


def _transcript(shape: Shape, text: str, name: str, number: int) -> Messages:
    """The turns of a conversation in one text, without the space behind their names.

    Other texts may begin alike too, but not where a prompt ends: "The sky is blue" and "The sky is
    black" share a "bl".
    """
    before, *parts = TRANSCRIPT_TURN.split(text)
    speakers, texts = parts[::2], parts[1::2]
    alternate = [("Human", "Assistant")[i % 2] for i in range(len(speakers))]
    if before.strip() or not speakers:
        said = (
            f"{shape.column[name]!r} is text and there is no prompt; name its column with "
            r"'columns', such as {prompt: question}, or keep lists of messages, or text of turns "
            r"that begin with '\n\nHuman:' and '\n\nAssistant:'"
        )
        raise shape.fault(number, "text without a prompt", said)
    if speakers != alternate or len(speakers) % 2:
        said = f"the turns in {shape.column[name]!r} are not 'Human:' and 'Assistant:' by turns"
        raise shape.fault(number, "turns that do not alternate", said)
    return tuple(
        Message(TRANSCRIPT_ROLES[speaker], said.removeprefix(" "))
        for speaker, said in zip(speakers, texts, strict=True)
    )


def _after_prompt(
    shape: Shape, prompt: Messages, sides: list[Messages], number: int
) -> tuple[Messages, list[Messages]]:
    """The prompt, with system text that only the sides have, and what each side adds to it."""
    if not prompt:
        return prompt, sides
    systems = {_said(side[:1]) for side in sides}
    if len(systems) == 1 and sides[0][0].role == "system" != prompt[0].role:
        prompt = (sides[0][0], *prompt)
    without_system = prompt[1:] if prompt[0].role == "system" else prompt
    rests: list[Messages] = []
    for side in sides:
        repeated = prompt if side[0].role == "system" else without_system
        if _said(side[: len(repeated)]) == _said(repeated):
            side = side[len(repeated) :]
        if not side or side[0].role != "assistant":
            said = "an answer is neither the assistant's message nor the prompt and then that"
            raise shape.fault(number, "answer does not continue its prompt", said)
        rests.append(side)
    return prompt, rests


def _check_turns(
    shape: Shape, prompt: Messages, answers: tuple[Messages, ...], number: int
) -> None:
    """Whether a template can ask the prompt, and a model give the answers."""
    if prompt[-1].role != "user":
        said = "the prompt does not end with a user's turn"
        raise shape.fault(number, "prompt does not end with a user's turn", said)
    if prompt[0].role == "assistant":
        said = "the prompt begins with the assistant's turn, which nothing asks for"
        raise shape.fault(number, "prompt begins with the assistant's turn", said)
    if any(one.role == next.role for answer in answers for one, next in pairwise(answer)):
        said = "an answer has two turns of one role, one after the other"
        raise shape.fault(number, "turns that do not alternate", said)
    if any(answer[-1].role != "assistant" for answer in answers):
        said = "an answer does not end with the assistant's turn"
        raise shape.fault(number, "answer does not end with the assistant's turn", said)


def _best_and_worst(shape: Shape, row: Row, number: int, min_margin: float) -> tuple[Any, Any]:
    """Of all responses; of equally good ones the first."""
    responses, scores = (shape.value(row, name) for name in ("responses", "scores"))
    if not isinstance(responses, list) or len(responses) < 2:
        said = f"{shape.column['responses']!r} holds fewer than two responses"
        raise shape.fault(number, "fewer than two responses", said)
    if not isinstance(scores, list) or len(scores) != len(responses):
        said = f"{shape.column['scores']!r} does not hold {len(responses)} scores, one a response"
        raise shape.fault(number, "responses without scores", said)
    _check_scores(shape, number, scores)
    places = range(len(scores))
    best, worst = max(places, key=scores.__getitem__), min(places, key=scores.__getitem__)
    _check_margin(shape, number, [scores[best], scores[worst]], min_margin)
    return responses[best], responses[worst]


def _check_margin(shape: Shape, number: int, scores: list[Any], min_margin: float) -> None:
    """Whether a pair's scores tell its answers apart."""
    _check_scores(shape, number, scores)
    margin = float(scores[0]) - float(scores[1])
    if margin < 0:
        said = f"'rejected' has the higher score: {scores[1]:g}, not {scores[0]:g}"
        raise shape.fault(number, "rejected scores higher", said)
    if margin == 0:
        raise shape.fault(number, "scores tie", f"both answers score {scores[0]:g}")
    # 0.3 - 0.1 is a little less than 0.2.
    if margin < min_margin and not math.isclose(margin, min_margin):
        said = f"the scores differ by {margin:g}, less than min_margin = {min_margin:g}"
        raise shape.fault(number, "margin below min_margin", said)


def _check_scores(shape: Shape, number: int, scores: list[Any]) -> None:
    for score in scores:
        # A truth value is a number to Python; of these it would tell nothing.
        is_number = isinstance(score, int | float) and not isinstance(score, bool)
        if not (is_number and abs(score) < 1e300):  # not a number compares as false
            said = f"{score!r:.40} is no score: a finite number is due"
            raise shape.fault(number, "score is no finite number", said)


def _num_shared(one: Messages, other: Messages) -> int:
    """How many turns both begin with."""
    num_shared = 0
    while one[num_shared:] and _said(one[: num_shared + 1]) == _said(other[: num_shared + 1]):
        num_shared += 1
    return num_shared


def _said(turns: Messages) -> tuple[tuple[str, str], ...]:
    return tuple((turn.role, turn.text) for turn in turns)
