"""What asking a judge will take, before it is asked. Afterwards: ``wit.judging.usage``."""

from collections.abc import Sequence

from pydantic import NonNegativeFloat, NonNegativeInt

from wit.generation.questions import Question
from wit.judging.cache import ReplyCache, cache_key
from wit.judging.client import TokenCounter, quarter_of_characters
from wit.judging.prompts import JudgeRequest
from wit.judging.questions import Answer
from wit.judging.settings import JudgeEndpoint, JudgeModel
from wit.settings import Settings

CHARACTERS_PER_TOKEN = 4  # of quarter_of_characters
RULE_OF_THUMB = "a quarter of the characters"


class CostEstimate(Settings):
    """What is still to be asked: nothing of it is paid yet, and the cache is left out."""

    num_requests: NonNegativeInt  # that differ, with those in the cache
    num_cached: NonNegativeInt
    num_prompt_tokens: NonNegativeInt  # without the marks of the server's chat template
    max_completion_tokens: NonNegativeInt  # if every answer is as long as it may be
    max_usd: NonNegativeFloat | None  # so too; None: prices are not known
    rule: str  # by which prompt tokens were counted


def estimate_cost(
    requests: Sequence[JudgeRequest],
    model: JudgeModel,
    endpoint: JudgeEndpoint,
    cache: ReplyCache | None = None,
    *,
    count_tokens: TokenCounter = quarter_of_characters,
    rule: str = RULE_OF_THUMB,
) -> CostEstimate:
    """Requests, tokens and money, at most. Retries of failed attempts are not in it.

    Args:
        requests: Of ``rating_requests`` or ``pair_requests``.
        model: The judge.
        endpoint: Its prices.
        cache: What is in it is not asked again.
        count_tokens: Of a text.
        rule: What that does, in words.

    Raises:
        OSError: The cache cannot be read.
    """
    by_key = {cache_key(request, model): request for request in requests}
    missing = [
        request for key, request in by_key.items() if cache is None or cache.get(key) is None
    ]
    num_prompt_tokens = sum(count_tokens(r.system) + count_tokens(r.user) for r in missing)
    max_completion_tokens = len(missing) * model.max_tokens
    return CostEstimate(
        num_requests=len(by_key),
        num_cached=len(by_key) - len(missing),
        num_prompt_tokens=num_prompt_tokens,
        max_completion_tokens=max_completion_tokens,
        max_usd=endpoint.usd(num_prompt_tokens, max_completion_tokens),
        rule=rule,
    )


def longest_answers(questions: Sequence[Question], max_response_tokens: int) -> list[Answer]:
    """Answers as long as they may be, to estimate the cost before there are any.

    Args:
        questions: That will be answered.
        max_response_tokens: Of each response.
    """
    response = "." * (max_response_tokens * CHARACTERS_PER_TOKEN)
    return [
        Answer(
            id=question.id,
            category=question.category,
            prompts=question.prompts,
            responses=(response,) * len(question.prompts),
            num_tokens=(max_response_tokens,) * len(question.prompts),
            stopped=(False,) * len(question.prompts),
        )
        for question in questions
    ]
