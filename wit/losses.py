"""The weighted loss, on log-probabilities that a fused LM head has already gathered."""

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

IGNORE_INDEX = -100  # PyTorch's and Hugging Face's shared "no target here" label


def weighted_loss(
    log_probs: Float[Tensor, "batch targets"],
    token_weights: Float[Tensor, "batch targets"],
    *,
    num_target_tokens: Num[Tensor, ""] | int | None = None,
) -> Float[Tensor, ""]:
    """Weighted negative log-likelihood per target token, in nats.

        loss = sum_t w_t * -log p(x_t | x_<t)  /  #{t : w_t != 0}

    The divisor counts tokens, it does not sum weights: halving every weight halves the loss.
    Prompt and response weights (0, 1) give ordinary instruction tuning, (1, 1) continual
    pre-training.

    Args:
        log_probs: Log-probability of each target given what stands before it; already shifted.
            Values at targets of weight 0 do not matter as long as they are finite.
        token_weights: Weight of each target, aligned with ``log_probs``.
        num_target_tokens: Divisor to use instead of this batch's own count. Pass the count over
            all micro-batches and ranks of an optimizer step, so that splitting the step does not
            change the loss.

    Returns:
        A scalar in float32 that is connected to ``log_probs``; 0 for a batch without any target.

    Source: arXiv 2507.07817, Eq. 2.
    """
    weights = token_weights.float()
    if num_target_tokens is None:
        num_target_tokens = (weights != 0).sum()
    divisor = torch.as_tensor(num_target_tokens, device=log_probs.device).clamp(min=1)
    return -(weights * log_probs.float()).sum() / divisor


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
