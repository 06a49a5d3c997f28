"""The weighted loss, on log-probabilities that a fused LM head has already gathered."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from wit.roles import Role

IGNORE_INDEX = -100  # PyTorch's and Hugging Face's shared "no target here" label
RESPONSE_SIDE = (Role.RESPONSE, Role.STOP)  # what the model has to produce

Normaliser = Literal["nonzero_tokens", "weight_sum", "per_role_mean"]
# From the log-probabilities of targets, detached, a factor on the loss of each.
Reweighting = Callable[[Float[Tensor, "*targets"]], Float[Tensor, "*targets"]]


def weighted_loss(
    log_probs: Float[Tensor, "batch targets"],
    token_weights: Float[Tensor, "batch targets"],
    divisors: Num[Tensor, "batch targets"] | Num[Tensor, ""] | int | None = None,
    *,
    reweighting: Reweighting | None = None,
) -> Float[Tensor, ""]:
    """Weighted negative log-likelihood per target token, in nats.

        loss = sum_t w_t * f_t * -log p(x_t | x_<t)  /  d_t

    With the default divisor, #{t : w_t != 0}, halving every weight halves the loss. Prompt and
    response weights (0, 1) give ordinary instruction tuning, (1, 1) continual pre-training.

    Args:
        log_probs: Log-probability of each target given what stands before it; already shifted.
            Values at targets of weight 0 do not matter as long as they are finite.
        token_weights: Weight of each target, aligned with ``log_probs``.
        divisors: What the loss of each target is divided by, over all micro-batches and ranks of
            an optimizer step, so that splitting the step does not change the loss: see
            ``divisors_of_targets``. Unset: the number of targets here whose weight is not 0.
        reweighting: Gives the factors f; unset: all 1.

    Returns:
        A scalar in float32 that is connected to ``log_probs``; 0 for a batch without any target.

    Source: arXiv 2507.07817, Eq. 2.
    """
    coefficients = coefficients_of_targets(token_weights, divisors)
    if reweighting is not None:
        coefficients = coefficients * reweighting(log_probs.detach().float())
    return -(coefficients * log_probs.float()).sum().float()


def coefficients_of_targets(
    token_weights: Float[Tensor, "batch targets"],
    divisors: Num[Tensor, "batch targets"] | Num[Tensor, ""] | int | None = None,
) -> Float[Tensor, "batch targets"]:
    """What the negative log-likelihood of each target counts in the loss: w_t / d_t.

    Args:
        token_weights: As of ``weighted_loss``.
        divisors: As of ``weighted_loss``.
    """
    if divisors is None:
        divisors = (token_weights != 0).sum()
    divisors = torch.as_tensor(divisors, device=token_weights.device)
    # A step without a target has a divisor of 0; nothing is divided by it but zeros.
    return token_weights.float() / divisors.masked_fill(divisors == 0, 1)


def step_totals(
    token_weights: Float[Tensor, "batch targets"],
    roles: Int[Tensor, "batch targets"],
    normaliser: Normaliser,
) -> Float[Tensor, " sides"]:
    """What a micro-batch adds to the divisors of its step: of prompt- and response-side targets.

    * ``nonzero_tokens``: the count of targets with a weight, the same for both sides (the paper);
    * ``weight_sum``: the sum of their weights, the same for both: the loss is a weighted mean;
    * ``per_role_mean``: the count of each side apart, so that the loss is lambda_p times the mean
      over the prompt plus lambda_r times the mean over the response, however long the two are.

    Returns:
        Two numbers in float64, in which counts are exact; they add up over micro-batches and ranks.

    Source: arXiv 2507.07817, Eq. 2; swiss-ai/posttraining ``trainers/sft.py`` (``LN-PLW``).
    Differs: there the sum of weights is taken in the model's precision, over unshifted tokens.
    """
    if normaliser == "weight_sum":
        return token_weights.double().sum().expand(2)
    of_response = is_response_side(roles)
    has_weight = token_weights != 0
    counts = torch.stack([(has_weight & ~of_response).sum(), (has_weight & of_response).sum()])
    if normaliser == "nonzero_tokens":
        counts = counts.sum().expand(2)
    return counts.double()


def divisors_of_targets(
    totals: Float[Tensor, " sides"], roles: Int[Tensor, "batch targets"]
) -> Float[Tensor, "batch targets"]:
    """The divisor of each target, from the totals of its step."""
    return totals[is_response_side(roles).long()]


def is_response_side(roles: Int[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Whether the model has to produce a token of that role."""
    # No tensor of roles to compare with: making one would have a GPU wait for the host.
    first, second = RESPONSE_SIDE
    return (roles == first) | (roles == second)


def dft(log_probs: Float[Tensor, "*targets"]) -> Float[Tensor, "*targets"]:
    """Dynamic fine-tuning: the loss of a target counts as much as the model believes in it.

    Source: arXiv 2508.05629, Eq. 9; as ``loss_type="dft"`` of TRL.
    """
    return log_probs.exp()


def weights_of_roles(
    roles: Int[Tensor, "batch seq"], weight_by_role: Float[Tensor, " roles"]
) -> Float[Tensor, "batch seq"]:
    """Weight of every token as a target: its role looked up in a table.

    The first token of a row has no context to be predicted from, so its weight is 0 whatever its
    role; a loss that counts it would divide by one token too many per row.
    """
    weights = weight_by_role[roles]
    weights[:, 0] = 0.0
    return weights
