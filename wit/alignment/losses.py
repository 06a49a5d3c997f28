"""Losses of preference alignment, on log-probabilities of whole responses.

Every function gives one loss for each pair (KTO: for each response), so that a step may be split
into micro-batches in any way. Log-probabilities are natural logarithms, in nats.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from wit.alignment.objectives import ObjectiveName
from wit.alignment_recipes import DPOKnobs


class Responses(NamedTuple):
    """What the policy, and the reference, find of responses, each to its own prompt."""

    logps: Float[Tensor, " responses"]  # summed over the tokens of the response
    num_tokens: Int[Tensor, " responses"]
    reference_logps: Float[Tensor, " responses"] | None = None

    @property
    def log_ratios(self) -> Float[Tensor, " responses"]:
        """Of policy to reference."""
        assert self.reference_logps is not None
        return self.logps - self.reference_logps

    @property
    def log_ratios_per_token(self) -> Float[Tensor, " responses"]:
        """Their mean over the tokens of each response."""
        return self.log_ratios / self.num_tokens

    @property
    def logps_per_token(self) -> Float[Tensor, " responses"]:
        """Mean log-probability of the tokens of each response."""
        return self.logps / self.num_tokens


PairLoss = Callable[[Responses, Responses, DPOKnobs], Float[Tensor, " pairs"]]


def dpo(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """``-log sigmoid(beta * margin)``. Source: arXiv 2305.18290, Eq. 7."""
    return -logsigmoid(knobs.beta * (chosen.log_ratios - rejected.log_ratios))


def dpo_norm(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """DPO of log-ratios per token. Source: arXiv 2411.15124, section 5."""
    margin = chosen.log_ratios_per_token - rejected.log_ratios_per_token
    return -logsigmoid(knobs.beta * margin)


def cdpo(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """DPO where a share of the labels is wrong: what it expects of either order.

    Source: E. Mitchell, A note on DPO with noisy preferences (2023).
    """
    return _smoothed(knobs.beta * (chosen.log_ratios - rejected.log_ratios), knobs)


def robust_dpo(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """DPO without the bias of a share of wrong labels. Source: arXiv 2403.00409."""
    epsilon = _smoothing(knobs)
    logits = knobs.beta * (chosen.log_ratios - rejected.log_ratios)
    unbiased = (1 - epsilon) * -logsigmoid(logits) - epsilon * -logsigmoid(-logits)
    return unbiased / (1 - 2 * epsilon)


def ipo(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """Squared distance of the margin per token from ``1 / (2 beta)``.

    Source: arXiv 2310.12036, Eq. 17; per token as TRL 1.16, whose maintainers have it from the
    authors: sums would aim at the same margin for one token and for a thousand.
    """
    margin = chosen.log_ratios_per_token - rejected.log_ratios_per_token
    return (margin - 1 / (2 * knobs.beta)) ** 2


def sppo_hard(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """Draws each log-ratio to its own aim. Source: arXiv 2405.00675, Eq. 4.7 with P of 1 and 0."""
    aim = 1 / (2 * knobs.beta)
    return (chosen.log_ratios - aim) ** 2 + (rejected.log_ratios + aim) ** 2


def apo_zero(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """Chosen up, rejected down: for chosen responses better than the model's own.

    Source: arXiv 2408.06266, Eq. 7.
    """
    up, down = (torch.sigmoid(knobs.beta * side.log_ratios) for side in (chosen, rejected))
    return 1 - up + down


def apo_down(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """Both down, rejected more: for chosen responses worse than the model's own.

    Source: arXiv 2408.06266, Eq. 8.
    """
    down = torch.sigmoid(knobs.beta * chosen.log_ratios)
    apart = torch.sigmoid(knobs.beta * (chosen.log_ratios - rejected.log_ratios))
    return down + 1 - apart


def simpo(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """``-log sigmoid(beta * (margin per token - gamma / beta))``, without a reference.

    Source: arXiv 2405.14734, Eq. 6.
    """
    assert knobs.gamma_beta_ratio is not None
    margin = chosen.logps_per_token - rejected.logps_per_token
    return -logsigmoid(knobs.beta * (margin - knobs.gamma_beta_ratio))


def cpo(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """DPO against a uniform reference. Source: arXiv 2401.08417, its first term."""
    return -logsigmoid(knobs.beta * (chosen.logps - rejected.logps))


def orpo(chosen: Responses, rejected: Responses, knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    """``-beta * log sigmoid`` of the log odds ratio. Source: arXiv 2403.07691, Eq. 6 and 7.

    Odds are of the geometric mean of a response's token probabilities.
    """
    log_odds = [
        side.logps_per_token - _log_of_complement(side.logps_per_token)
        for side in (chosen, rejected)
    ]
    return -knobs.beta * logsigmoid(log_odds[0] - log_odds[1])


PAIR_LOSSES: dict[ObjectiveName, PairLoss] = {
    "dpo": dpo,
    "dpo-norm": dpo_norm,
    "cdpo": cdpo,
    "robust-dpo": robust_dpo,
    "ipo": ipo,
    "sppo-hard": sppo_hard,
    "apo-zero": apo_zero,
    "apo-down": apo_down,
    "simpo": simpo,
    "cpo": cpo,
    "orpo": orpo,
}


def kto(
    responses: Responses,
    is_desirable: Bool[Tensor, " responses"],
    divergence: Float[Tensor, ""],
    knobs: DPOKnobs,
) -> Float[Tensor, " responses"]:
    """How far each response is from what a person who avoids losses would value.

    Args:
        responses: Good and bad ones.
        is_desirable: Which are good.
        divergence: Of the policy from the reference, in nats, at least 0: the point from which
            gains and losses count. See ``kto_divergence``.
        knobs: beta, and the weights of good and bad responses.

    Source: arXiv 2402.01306.
    """
    assert knobs.desirable_weight is not None
    assert knobs.undesirable_weight is not None
    gain = knobs.beta * (responses.log_ratios - divergence)
    good = knobs.desirable_weight * torch.sigmoid(-gain)
    bad = knobs.undesirable_weight * torch.sigmoid(gain)
    return torch.where(is_desirable, good, bad)


def kto_divergence(mismatched: Responses) -> Float[Tensor, ""]:
    """KL of policy and reference, estimated on responses to other prompts; constant, at least 0.

    Source: arXiv 2402.01306. Over all of an optimizer step, so that its split into
    micro-batches does not matter; TRL 1.16 takes each micro-batch by itself.
    """
    return mismatched.log_ratios.detach().mean().clamp(min=0)


def losses_of(
    responses: Responses,
    is_desirable: Bool[Tensor, " responses"],
    knobs: DPOKnobs,
    divergence: Float[Tensor, ""],
) -> Float[Tensor, " losses"]:
    """The weighted sum of an objective's terms, but for those of likelihood.

    Args:
        responses: Of pairs, the chosen ones first and then the rejected ones.
        is_desirable: Which are good: of pairs, the first half.
        knobs: The terms and their weights, and all that they have.
        divergence: KTO's; see ``kto``.

    Returns:
        One loss for each pair; of KTO for each response.
    """
    if knobs.is_for_unpaired:
        return knobs.loss_weights["kto"] * kto(responses, is_desirable, divergence, knobs)
    chosen, rejected = _halves(responses)
    terms = [
        knobs.loss_weights[name] * PAIR_LOSSES[name](chosen, rejected, knobs)
        for name in knobs.terms
    ]
    return torch.stack(terms).sum(0)


def rewards(responses: Responses, knobs: DPOKnobs) -> Float[Tensor, " responses"]:
    """What the objective takes for the quality of each response: beta times a log-probability.

    Relative to the reference where there is one; per token where the objective is.
    """
    if knobs.has_reference:
        is_per_token = knobs.objective in ("dpo-norm", "ipo")
        return knobs.beta * (
            responses.log_ratios_per_token if is_per_token else responses.log_ratios
        )
    is_per_token = knobs.objective in ("simpo", "orpo")
    return knobs.beta * (responses.logps_per_token if is_per_token else responses.logps)


def _halves(responses: Responses) -> tuple[Responses, Responses]:
    sides = [(None, None) if part is None else part.chunk(2) for part in responses]
    first, second = zip(*sides, strict=True)
    return Responses(*first), Responses(*second)


def _smoothed(logits: Float[Tensor, " pairs"], knobs: DPOKnobs) -> Float[Tensor, " pairs"]:
    epsilon = _smoothing(knobs)
    return (1 - epsilon) * -logsigmoid(logits) + epsilon * -logsigmoid(-logits)


def _smoothing(knobs: DPOKnobs) -> float:
    assert knobs.label_smoothing is not None
    return knobs.label_smoothing


def _log_of_complement(logps: Float[Tensor, " responses"]) -> Float[Tensor, " responses"]:
    """``log(1 - exp(x))`` for x < 0, to full precision: M. Maechler, log1mexp (2012)."""
    # A model that is sure of every token has x = 0, of which the odds are infinite.
    logps = logps.clamp(max=-1e-7)
    of_small = torch.log(-torch.expm1(logps.clamp(min=-math.log(2))))
    of_large = torch.log1p(-torch.exp(logps.clamp(max=-math.log(2))))
    return torch.where(logps > -math.log(2), of_small, of_large)
