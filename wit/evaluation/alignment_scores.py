"""What a model finds of held-out preferences, and what it says by itself; beside its SFT parent.

* ``logp_margin``: of the chosen response over the rejected one, the mean over pairs;
  ``logp_margin_per_token`` of log-probabilities per token. ``nll_chosen``, ``nll_rejected``: per
  token. DPO widens the margin even where both become less likely.
* ``log_ratio_chosen``, ``log_ratio_rejected``: log pi(y | x) / pi_SFT(y | x), the mean over
  responses. A reward of DPO is beta times that; without beta, models of several betas can be
  compared. ``log_ratio_margin`` and ``reward_accuracy`` are of the same pairs, so paired.
* ``kl_reference``: the mean of log pi(y | x) / pi_SFT(y | x) over responses that the model itself
  drew, an unbiased estimate of its KL from its SFT parent, of whole responses up to the limit.
* ``sampled_tokens``, ``sampled_empty``, ``sampled_unended``: how long those responses are, and how
  many of them are empty or were cut by the limit; ``sampled_cut``: how many of the prompts had to
  lose their beginning. Prompts of which the same is left are one.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from pydantic import ValidationError
from torch.nn import Module
from transformers import PreTrainedModel

from wit.data.splits import HELD_OUT, read_split
from wit.errors import StageError
from wit.evaluation.likelihood_scores import token_score
from wit.evaluation.results import Score, share_score
from wit.evaluation_recipes import AlignmentEvaluation
from wit.generation.greedy import Response, fit_prompts, max_tokens_of
from wit.generation.sampling import sample
from wit.likelihood import (
    HeldOutResponses,
    ResponseLogp,
    RowSums,
    held_out_responses,
    token_log_probs,
)
from wit.score_names import (
    KL_REFERENCE,
    LOG_RATIO_CHOSEN,
    LOG_RATIO_MARGIN,
    LOG_RATIO_REJECTED,
    LOGP_MARGIN,
    LOGP_MARGIN_PER_TOKEN,
    NLL_CHOSEN,
    NLL_REJECTED,
    REWARD_ACCURACY,
    SAMPLED_CUT,
    SAMPLED_EMPTY,
    SAMPLED_TOKENS,
    SAMPLED_UNENDED,
    is_cost,
)
from wit.sensitivity.posix import mean_over_prompts
from wit.tokenizers import Tokenizer

Prompts = Sequence[Sequence[int]]


@torch.no_grad()
def alignment_scores(
    recipe: AlignmentEvaluation,
    model: PreTrainedModel,
    reference: PreTrainedModel | None,
    *,
    preferences: Path,
    tokenizer: Tokenizer,
    batch_size: int,
) -> tuple[Score, ...]:
    """Figures of one model, and beside its SFT parent if it has one.

    Args:
        recipe: How many prompts are answered, and how long.
        model: In evaluation mode.
        reference: The SFT model that alignment started from, on the same device; None: the model
            was not aligned.
        preferences: A ``preferences`` artifact; of single responses there are no margins.
        tokenizer: Of both.
        batch_size: Rows per forward; changes results by rounding only.

    Returns:
        None where nothing is held out.

    Raises:
        StageError: A figure is not a number.
    """
    own = held_out_responses(model, preferences, batch_size=batch_size)
    scores = [*_of_responses(own)]
    if reference is not None:
        before = held_out_responses(reference, preferences, batch_size=batch_size)
        scores += _of_log_ratios(own, before)
    wanted = held_out_prompts(preferences, recipe.num_prompts)
    if not wanted:
        return tuple(scores)
    limit = response_limit(recipe, model)
    fitted = fit_prompts(model, wanted, max_new_tokens=limit)
    prompts = list(_once(fitted.prompts))
    responses = sample(
        model,
        tokenizer,
        prompts,
        max_new_tokens=limit,
        seed=str(recipe.seed),
        batch_size=batch_size,
    )
    drawn = [response for [response] in responses]
    scores += [*_of_drawn(drawn), _share_of_cut(fitted.num_cut, len(wanted))]
    if reference is not None:
        ratios = log_ratios_of_drawn(model, reference, prompts, drawn, batch_size)
        scores.append(_mean(KL_REFERENCE, "log-ratio", ratios))
    return tuple(scores)


def response_limit(recipe: AlignmentEvaluation, model: PreTrainedModel) -> int:
    """Limit of a drawn response, in tokens: half of a small context is the prompt's."""
    limit, context = recipe.max_new_tokens, max_tokens_of(model)
    return limit if context is None else min(limit, context // 2)


def held_out_prompts(preferences: Path, num_prompts: int) -> list[list[int]]:
    """The first so many different prompts of the held-out rows."""
    rows = read_split(preferences, HELD_OUT).select_columns("prompt_ids")
    prompts = (row["prompt_ids"] for row in rows)  # pyright: ignore
    return list(islice(_once(prompts), num_prompts))


def _once(prompts: Iterable[list[int]]) -> Iterator[list[int]]:
    seen: set[tuple[int, ...]] = set()
    for prompt in prompts:
        if (ids := tuple(prompt)) not in seen:
            seen.add(ids)
            yield prompt


def log_ratios_of_drawn(
    model: Module,
    reference: Module,
    prompts: Prompts,
    responses: Sequence[Response],
    batch_size: int,
) -> list[float]:
    """Of each response ``log pi - log pi_reference``, summed over its tokens, in nats.

    Both are scored anew, in the same way and in the same batches, so that they differ by their
    weights alone.
    """
    rows = [
        torch.tensor([*prompt, *response.ids])
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
    found: dict[int, float] = {}
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        batch = [rows[number] for number in numbers]
        both = (token_log_probs(one, batch) for one in (model, reference))
        for number, own, before in zip(numbers, *both, strict=True):
            num_tokens = responses[number].num_tokens
            found[number] = (own - before)[-num_tokens:].double().sum().item()
    return [found[number] for number in range(len(rows))]


def _of_responses(found: HeldOutResponses) -> Iterator[Score]:
    for name, responses in ((NLL_CHOSEN, found.chosen), (NLL_REJECTED, found.rejected)):
        sums = RowSums()
        for response in responses:
            sums.add_sum(-response.logp, response.num_tokens)
        if sums:
            score = token_score(name, "nll", sums.mean())
            yield score.model_copy(update={"higher_is_better": not is_cost(name)})
    pairs = _pairs(found)
    if pairs:
        margins = [chosen.logp - rejected.logp for chosen, rejected in pairs]
        yield _mean(LOGP_MARGIN, "log-probability", margins)
        margins = [_per_token(chosen) - _per_token(rejected) for chosen, rejected in pairs]
        yield _mean(LOGP_MARGIN_PER_TOKEN, "log-probability", margins)


def _of_log_ratios(found: HeldOutResponses, before: HeldOutResponses) -> Iterator[Score]:
    chosen, rejected = (
        [own.logp - other.logp for own, other in zip(*of_side, strict=True)]
        for of_side in ((found.chosen, before.chosen), (found.rejected, before.rejected))
    )
    for name, ratios in ((LOG_RATIO_CHOSEN, chosen), (LOG_RATIO_REJECTED, rejected)):
        if ratios:
            yield _mean(name, "log-ratio", ratios)
    if found.are_pairs and chosen:
        margins = [one - other for one, other in zip(chosen, rejected, strict=True)]
        yield _mean(LOG_RATIO_MARGIN, "log-ratio", margins)
        # A tie counts half: a model that did not move is no worse than chance.
        gained = [(margin > 0) + 0.5 * (margin == 0) for margin in margins]
        yield _mean(REWARD_ACCURACY, "accuracy", gained)


def _of_drawn(responses: Sequence[Response]) -> Iterator[Score]:
    yield _mean(SAMPLED_TOKENS, "tokens", [float(one.num_tokens) for one in responses])
    yield _mean(SAMPLED_EMPTY, "share", [float(not one.text.strip()) for one in responses])
    yield _mean(SAMPLED_UNENDED, "share", [float(not one.stopped) for one in responses])


def _share_of_cut(num_cut: int, num_prompts: int) -> Score:
    share = share_score(SAMPLED_CUT, "share", num_cut / num_prompts, num_prompts)
    return share.model_copy(update={"higher_is_better": not is_cost(SAMPLED_CUT)})


def _pairs(found: HeldOutResponses) -> list[tuple[ResponseLogp, ResponseLogp]]:
    return list(zip(found.chosen, found.rejected, strict=True)) if found.are_pairs else []


def _per_token(response: ResponseLogp) -> float:
    return response.logp / response.num_tokens


def _mean(name: str, metric: str, values: Sequence[float]) -> Score:
    """Of one value for each pair, response or prompt.

    Raises:
        StageError: It is not a number.
    """
    found = mean_over_prompts(values)
    try:
        return Score(
            benchmark=name,
            metric=metric,
            value=found.value,
            stderr=found.stderr,
            num_items=len(values),
            higher_is_better=not is_cost(name),
            is_main=True,
        )
    except ValidationError:
        raise StageError(f"{name} is not a number: {found.value}") from None
