"""What the judge of a study will cost at most, before it is asked anything."""

from collections.abc import Sequence
from pathlib import Path

from wit.config import Runtime, Settings, Study
from wit.evaluation_recipes import JudgedPrompts, JudgeEvaluation
from wit.judging.cost import CHARACTERS_PER_TOKEN, CostEstimate, estimate_cost
from wit.judging.inputs import requests_of
from wit.judging.settings import JudgeEndpoint
from wit.on_policy.recipes import PairsRecipe
from wit.plan import Plan
from wit.study_sources import row_files

SAMPLE_PROMPTS = 100  # from whose length that of all is told


class JudgeCost(Settings):
    """Of all models that are still to be judged; as if every response were as long as it may be."""

    num_requests: int
    num_prompt_tokens: int  # a quarter of the characters
    max_completion_tokens: int
    max_usd: float | None  # None: the runtime names no prices


def judge_cost(plan: Plan, runtime: Runtime, num_rows: int) -> JudgeCost | None:
    """The most that it can cost; None where nothing is judged any more.

    Args:
        plan: Of the study.
        runtime: Says where the judge is, and its prices.
        num_rows: Preferences that are trained on, whose prompts may be answered on policy.

    Raises:
        InputError: Questions or references cannot be read, or do not go together.
    """
    to_make = [artifact.recipe for artifact in plan.to_make]
    open_sets = [recipe.name for recipe in to_make if isinstance(recipe, JudgeEvaluation)]
    open_pairs = [r for r in to_make if isinstance(r, PairsRecipe) and r.judge is not None]
    if not (open_sets or open_pairs) or runtime.judge is None:
        return None
    each = {one.name: _of_one_model(plan.study, one, runtime) for one in plan.study.judged}
    costs = [each[name] for name in open_sets]
    costs += _of_pairs(plan, open_pairs, runtime.judge, num_rows)
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


def _of_pairs(
    plan: Plan, pairs: Sequence[PairsRecipe], endpoint: JudgeEndpoint, num_rows: int
) -> list[CostEstimate]:
    """As if no two responses were equal; prompts are as long as some of them are."""
    if not pairs:
        return []
    from wit.data.splits import TRAIN, read_table
    from wit.on_policy.judged import judge_requests
    from wit.on_policy.prompts import prompts_of_rows
    from wit.preview import prepared

    with prepared(plan, sample_rows=SAMPLE_PROMPTS) as folders:
        rows = read_table(folders.preferences, TRAIN).select(["source", "row"]).to_pylist()
    wanted = [(row["source"], row["row"]) for row in rows[:SAMPLE_PROMPTS]]
    prompts = prompts_of_rows(plan.study.preferences, row_files(plan.preferences), wanted)
    found = []
    for recipe in pairs:
        assert recipe.judge is not None
        response = "." * (recipe.max_new_tokens * CHARACTERS_PER_TOKEN)
        requests = judge_requests(prompts, [[response]] * len(prompts))
        sample = estimate_cost(requests, recipe.judge, endpoint)
        num_requests = min(num_rows, recipe.max_prompts or num_rows) * recipe.num_responses
        num_prompt_tokens = round(sample.num_prompt_tokens / sample.num_requests * num_requests)
        max_completion_tokens = num_requests * recipe.judge.max_tokens
        found.append(
            CostEstimate(
                num_requests=num_requests,
                num_cached=0,
                num_prompt_tokens=num_prompt_tokens,
                max_completion_tokens=max_completion_tokens,
                max_usd=endpoint.usd(num_prompt_tokens, max_completion_tokens),
                rule=sample.rule,
            )
        )
    return found
