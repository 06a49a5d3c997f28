"""What asking a judge took, afterwards. Before: ``wit.judging.cost``."""

import math
from collections.abc import Sequence

from pydantic import NonNegativeFloat, NonNegativeInt

from wit.judging.cache import Reply
from wit.settings import Settings

USAGE_FILE = "usage.json"  # beside what was judged


class Usage(Settings):
    """What asking took, and what was paid before for the answers that the cache had.

    Both together are the cost of all answers, in however many attempts they were got. What earlier
    attempts asked again or gave up is not known.
    """

    num_requests: NonNegativeInt  # that differ
    num_cached: NonNegativeInt
    num_answered: NonNegativeInt  # by the server, in this run
    num_retries: NonNegativeInt  # attempts beyond the first of each request
    num_failed: NonNegativeInt  # requests that were given up
    num_prompt_tokens: NonNegativeInt
    num_completion_tokens: NonNegativeInt
    is_estimated: bool  # the server did not tell the tokens of every answer
    usd: NonNegativeFloat | None  # None: prices are not known
    seconds: NonNegativeFloat
    # Of the answers that were there, from earlier attempts or for other studies.
    num_cached_prompt_tokens: NonNegativeInt
    num_cached_completion_tokens: NonNegativeInt
    cached_usd: NonNegativeFloat | None  # when they were made; None: of some it is not known
    num_by_server: dict[str, int]  # answers, of the cache too, by the address of who gave them


def spent(replies: Sequence[Reply]) -> tuple[int, int, float | None]:
    """Tokens of prompts and of completions, and what they cost; None where one price is unknown."""
    usd = [reply.usd for reply in replies]
    return (
        sum(reply.num_prompt_tokens for reply in replies),
        sum(reply.num_completion_tokens for reply in replies),
        None if None in usd else math.fsum(filter(None, usd)),
    )
