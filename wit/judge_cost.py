"""What the judge of a study will cost at most, before it is asked anything."""

from pathlib import Path

from wit.config import Runtime, Settings, Study
from wit.evaluation_recipes import JudgedPrompts, JudgeEvaluation
from wit.judging.cost import CostEstimate, estimate_cost
from wit.judging.inputs import requests_of
from wit.plan import Plan


class JudgeCost(Settings):
    """Of all models that are still to be judged; as if every response were as long as it may be."""

    num_requests: int
    num_prompt_tokens: int  # a quarter of the characters
    max_completion_tokens: int
    max_usd: float | None  # None: the runtime names no prices


def judge_cost(plan: Plan, runtime: Runtime) -> JudgeCost | None:
    """The most that it can cost; None where nothing is judged any more.

    Args:
        plan: Of the study.
        runtime: Says where the judge is, and its prices.

    Raises:
        InputError: Questions or references cannot be read, or do not go together.
    """
    open_sets = [
        artifact.recipe.name
        for artifact, _ in plan.artifacts()
        if isinstance(artifact.recipe, JudgeEvaluation) and not plan.is_made(artifact)
    ]
    if not open_sets or runtime.judge is None:
        return None
    each = {one.name: _of_one_model(plan.study, one, runtime) for one in plan.study.judged}
    costs = [each[name] for name in open_sets]
    usd = [cost.max_usd for cost in costs]
    return JudgeCost(
        num_requests=sum(cost.num_requests for cost in costs),
        num_prompt_tokens=sum(cost.num_prompt_tokens for cost in costs),
        max_completion_tokens=sum(cost.max_completion_tokens for cost in costs),
        max_usd=None if None in usd else sum(filter(None, usd)),
    )


def _of_one_model(study: Study, judged: JudgedPrompts, runtime: Runtime) -> CostEstimate:
    assert study.judge is not None
    assert runtime.judge is not None
    prompts, longest = Path(judged.path), judged.max_new_tokens
    requests = requests_of(judged, prompts, max_response_tokens=longest)
    return estimate_cost(requests, study.judge, runtime.judge)
