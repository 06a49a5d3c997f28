"""One row for each answer of a judge, and when there are too few verdicts for a score."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import NonNegativeInt, PositiveInt

from wit.errors import DataError
from wit.judging.client import Answered
from wit.judging.errors import UnparsableError
from wit.judging.questions import Answer, Reference
from wit.judging.usage import Usage
from wit.judging.verdicts import Verdict
from wit.settings import Settings

Order = Literal["reference_first", "response_first"]  # which of two the judge sees first
SHOWN = 120  # characters of what a judge says


class Judgement(Settings):
    """What the judge was shown of one response, and what it said."""

    id: str  # of the question
    category: str | None
    turn: PositiveInt
    order: Order | None  # None: nothing is compared
    prompt_version: str
    verdict: Verdict | None  # of the response; None: there is none, or none was asked for
    rating: float | None  # from 1 to 10; None: there is none, or none was asked for
    text: str  # of the judge
    finish_reason: str | None  # "length": the judge was cut off
    served_model: str | None
    server: str  # address of who answered
    num_prompt_tokens: NonNegativeInt
    num_completion_tokens: NonNegativeInt
    is_estimated: bool  # the tokens are
    is_cached: bool
    is_response_empty: bool
    num_response_chars: NonNegativeInt
    num_reference_chars: NonNegativeInt | None  # None: nothing is compared

    @property
    def is_parsable(self) -> bool:
        """Whether the judge's text holds what it was asked for."""
        return self.verdict is not None or self.rating is not None


class Judged(NamedTuple):
    """All that a judge said of one model's answers, and what it took."""

    rows: tuple[Judgement, ...]
    usage: Usage


def make_judgement(
    answer: Answer,
    turn: int,
    prompt_version: str,
    answered: Answered,
    *,
    verdict: Verdict | None = None,
    rating: float | None = None,
    order: Order | None = None,
    num_reference_chars: int | None = None,
) -> Judgement:
    """The row of one answer of the judge.

    Args:
        answer: What was judged.
        turn: Of it, from 1.
        prompt_version: Of the judge prompt.
        answered: What the judge said.
        verdict: Read from that.
        rating: Read from that.
        order: In which two responses were shown.
        num_reference_chars: Of the other response.
    """
    reply = answered.reply
    return Judgement(
        id=answer.id,
        category=answer.category,
        turn=turn,
        order=order,
        prompt_version=prompt_version,
        verdict=verdict,
        rating=rating,
        text=reply.text,
        finish_reason=reply.finish_reason,
        served_model=reply.served_model,
        server=reply.server,
        num_prompt_tokens=reply.num_prompt_tokens,
        num_completion_tokens=reply.num_completion_tokens,
        is_estimated=reply.is_estimated,
        is_cached=answered.is_cached,
        is_response_empty=answer.empty_turns[turn - 1],
        num_response_chars=len(answer.responses[turn - 1]),
        num_reference_chars=num_reference_chars,
    )


def refuse_unparsable(
    rows: Sequence[Judgement], num_without: int, num_items: int, max_share: float, items: str
) -> None:
    """Nothing, if enough items have a verdict.

    Args:
        rows: Of all items.
        num_without: Items that have none.
        num_items: All of them.
        max_share: Of items without, that a score may leave out; what is left must be something.
        items: What they are, in words.

    Raises:
        UnparsableError: It is more.
    """
    if num_without < num_items and num_without <= max_share * num_items:
        return
    bad = next((row for row in rows if not row.is_parsable), None)
    cut = sum(row.finish_reason == "length" for row in rows if not row.is_parsable)
    example = f" It says, for one: {bad.text[:SHOWN]!r}." if bad else ""
    ended = f" {cut} of its answers were cut off: raise max_tokens." if cut else ""
    raise UnparsableError(
        f"the judge gave no verdict that can be read on {num_without} of {num_items} {items}, "
        f"and {max_share:.0%} are allowed, so there is no score.{example}{ended} Choose a judge "
        "that follows its prompt"
    )


def references_of(
    answers: Sequence[Answer], references: Mapping[str, Reference]
) -> dict[str, Reference]:
    """The reference of every answer, which must be one to the same prompts.

    Raises:
        DataError: One is missing, has other turns, or answers something else.
    """
    missing = [answer.id for answer in answers if answer.id not in references]
    if missing:
        others = f", nor have {len(missing) - 1} others" if len(missing) > 1 else ""
        raise DataError(
            f"question {missing[0]} has no reference{others}; give a file of references that has "
            "them all, by the same ids"
        )
    for answer in answers:
        reference = references[answer.id]
        if len(reference.responses) < len(answer.prompts):
            raise DataError(
                f"question {answer.id}: {len(answer.prompts)} turns are answered, and its "
                f"reference has {len(reference.responses)}"
            )
        if reference.prompts is not None and reference.prompts != answer.prompts:
            raise DataError(
                f"question {answer.id}: its reference answers another prompt "
                f"({reference.prompts[0][:SHOWN]!r}); questions and references must be of one "
                "file, or in one order"
            )
    return {answer.id: references[answer.id] for answer in answers}
