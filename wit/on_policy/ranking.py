"""Which of several responses to a prompt make a pair: the best against the worst."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from wit.generation.greedy import Response

# Why a prompt gives no pair; under these it is counted.
UNENDED = "no response came to its end"
UNSCORED = "responses without a score"
UNSAID = "a chosen response in which 'extract' matches nothing"
TIE = "responses that are equally good"
ALL_RIGHT, NONE_RIGHT = "every response is right", "no response is right"


class Pair(NamedTuple):
    """Places of two responses to one prompt."""

    chosen: int
    rejected: int


def best_and_worst(
    responses: Sequence[Response], scores: Sequence[float | None], min_margin: float = 0.0
) -> Pair | str:
    """The pair that a prompt gives, or why it gives none.

    The chosen response came to its end and says something: DPO would teach to go on for ever, or
    to say nothing. Of equally good ones that which was drawn first is taken.

    Args:
        responses: To one prompt.
        scores: Theirs, more is better; None: a response that nobody could score.
        min_margin: Least difference of the scores of a pair, in their unit.

    Source: arXiv 2405.07863, section 3.3: best of n and worst of n.
    """
    scored = [(score, place) for place, score in enumerate(scores) if score is not None]
    if len(scored) < 2:
        return UNSCORED
    whole = [
        (score, place)
        for score, place in scored
        if responses[place].stopped and responses[place].text.strip()
    ]
    if not whole:
        return UNENDED
    best, chosen = max(whole, key=lambda found: (found[0], -found[1]))
    worst, rejected = min(scored)
    if best <= worst or best - worst < min_margin:
        return TIE
    return Pair(chosen, rejected)


def exact_matches(
    answer: str, responses: Sequence[str], extract: str | None = None
) -> list[float | None]:
    """Of each response 1 if it says the answer, else 0; None for all if there is nothing to say.

    Args:
        answer: The text of the chosen response.
        responses: Texts.
        extract: Regular expression of what is compared, its group if it has one, where it matches
            last; unset: the whole text without white space around it. A response in which it does
            not match is wrong.
    """
    wanted = said(answer, extract)
    if wanted is None:
        return [None] * len(responses)
    return [float(said(response, extract) == wanted) for response in responses]


def said(text: str, extract: str | None) -> str | None:
    """What of a text is compared; None: nothing in it is."""
    if extract is None:
        return text.strip()
    found = [*re.finditer(extract, text)]
    return (found[-1][found[-1].re.groups] or "").strip() if found else None
