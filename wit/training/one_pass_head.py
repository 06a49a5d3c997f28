"""The weighted loss from hidden states in one pass, for a device without Triton.

TRL's fused head gives log-probabilities, so its backward computes every logit a second time, and
where there is no Triton it scores padding too and makes a copy of a tile of 512 MiB in each of its
operations. What a log-probability counts in the loss is known before the forward, so the gradient
can be computed while the logits are there.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor
from torch.autograd.function import once_differentiable

from wit.losses import IGNORE_INDEX, Reweighting
from wit.training.head import has_plain_head, replace_forward

TOKENS_AT_ONCE = 128  # at least: fewer would write the gradient of the weights too often
LOGITS_AT_ONCE = 2**22  # else: 16 MiB
LOGITS_IN_CACHE = 2**19  # of which softmax and its gradient are taken


class HeadOutput(NamedTuple):
    """The loss, and what figures are made of; zero where there is no target."""

    loss: Float[Tensor, ""]
    log_probs: Float[Tensor, "batch targets"]
    entropy: Float[Tensor, "batch targets"]
    is_top1: Bool[Tensor, "batch targets"]
    label_mask: Bool[Tensor, "batch targets"]


def add_one_pass_head(wrapped: Any) -> bool:
    """Lets ``model(..., labels=labels, coefficients=coefficients)`` return a ``HeadOutput``.

    Whatever wraps the model afterwards passes that on. Without coefficients all is as before.

    Returns:
        Whether it does: if its head is a plain product, on a CPU, in float32.
    """
    model: Any = wrapped.get_base_model() if isinstance(wrapped, PeftModel) else wrapped
    if not has_plain_head(model):
        return False
    weight = model.get_output_embeddings().weight
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        return False
    original = model.forward

    def forward(
        self: Any,
        *args: Any,
        labels: Tensor | None = None,
        coefficients: Tensor | None = None,
        reweighting: Reweighting | None = None,
        **kwargs: Any,
    ) -> Any:
        if coefficients is None or labels is None:
            return original(*args, labels=labels, **kwargs)
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        weight = self.get_output_embeddings().weight
        return weighted_head(hidden, weight, labels[:, 1:], coefficients, reweighting)

    replace_forward(model, forward)
    return True


def weighted_head(
    hidden: Float[Tensor, "batch targets hidden"],
    weight: Float[Tensor, "vocab hidden"],
    labels: Int[Tensor, "batch targets"],
    coefficients: Float[Tensor, "batch targets"],
    reweighting: Reweighting | None = None,
) -> HeadOutput:
    """The loss - sum_t c_t f_t log p(x_t), and of every target what figures are made of.

    Args:
        hidden: What each target is predicted from.
        weight: Of the head.
        labels: Targets; ``IGNORE_INDEX``: none, so no logit is computed.
        coefficients: The factors c, as ``wit.losses.coefficients_of_targets`` gives them.
        reweighting: Gives the factors f from log-probabilities, each from its own; unset: all 1.
    """
    mask = labels != IGNORE_INDEX
    places = mask.flatten().nonzero().squeeze(1)
    loss, *values = _WeightedHead.apply(
        hidden.flatten(0, 1),
        weight,
        places,
        labels.flatten()[places],
        coefficients.flatten()[places],
        reweighting,
    )  # pyright: ignore[reportGeneralTypeIssues]  that of torch has no type
    log_probs, entropy, is_top1 = (
        value.new_zeros(mask.shape).masked_scatter(mask, value) for value in values
    )
    return HeadOutput(loss, log_probs, entropy, is_top1, mask)


class _WeightedHead(torch.autograd.Function):
    """Three products with the head's weights where log-probabilities alone would take four."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        places: Tensor,
        targets: Tensor,
        coefficients: Tensor,
        reweighting: Reweighting | None,
    ) -> tuple[Tensor, ...]:
        num_targets, num_logits = len(targets), len(weight)
        log_probs, entropy = hidden.new_empty(num_targets), hidden.new_empty(num_targets)
        is_top1 = torch.empty_like(targets, dtype=torch.bool)
        gradient = torch.zeros_like(hidden)
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        at_once = max(TOKENS_AT_ONCE, LOGITS_AT_ONCE // num_logits)
        in_cache = max(1, LOGITS_IN_CACHE // num_logits)
        scratch = hidden.new_empty(min(at_once, num_targets), num_logits)
        for start in range(0, num_targets, at_once):
            chunk = slice(start, start + at_once)
            states = hidden[places[chunk]]
            logits = torch.mm(states, weight.t(), out=scratch[: len(states)])
            for row in range(0, len(states), in_cache):
                part = slice(row, row + in_cache)
                of_all = slice(start + row, start + min(row + in_cache, len(states)))
                log_probs[of_all], entropy[of_all], is_top1[of_all] = _to_gradient(
                    logits[part], targets[of_all], coefficients[of_all], reweighting
                )
            gradient[places[chunk]] = logits @ weight
            if of_weight is not None:
                of_weight.addmm_(logits.t(), states)
        factors = coefficients if reweighting is None else coefficients * reweighting(log_probs)
        ctx.gradients = gradient, of_weight
        ctx.mark_non_differentiable(log_probs, entropy, is_top1)
        return -(factors * log_probs).sum().float(), log_probs, entropy, is_top1

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.gradients
        del ctx.gradients
        if (of_loss := gradients[0]) != 1:
            hidden *= of_loss
            if weight is not None:
                weight *= of_loss
        return hidden, weight, None, None, None, None


def _to_gradient(
    logits: Tensor, targets: Tensor, coefficients: Tensor, reweighting: Reweighting | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of targets, entropies, and hits; ``logits`` becomes the loss's gradient."""
    column = targets[:, None]
    highest, likeliest = logits.max(1, keepdim=True)
    shifted = logits.sub_(highest)
    of_target = shifted.gather(1, column).squeeze(1)
    exponentials = shifted.exp()
    sums = exponentials.sum(1)
    log_sums = sums.log()
    log_probs = of_target - log_sums
    entropy = log_sums - torch.linalg.vecdot(exponentials, shifted) / sums
    if reweighting is not None:
        coefficients = coefficients * reweighting(log_probs)
    factors = coefficients.to(logits.dtype)
    torch.mul(exponentials, (factors / sums)[:, None], out=logits)
    logits.scatter_add_(1, column, -factors[:, None])
    return log_probs, entropy, likeliest.squeeze(1) == targets
