"""Log-probabilities of targets from hidden states, a few rows of logits at a time.

TRL's fused head does so on a GPU. Elsewhere it scores every position, targets or not, in tiles of
half a gibibyte and with figures that no loss reads; here the targets alone are scored.
"""

import types
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from peft.utils.other import TrainableTokensWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from wit.losses import IGNORE_INDEX

LOGITS_AT_ONCE = 2**23  # 32 MiB of them
# Of a config: what a model does to its logits that is not done here.
CHANGES_OF_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)


class Scored(NamedTuple):
    """What the head finds."""

    log_probs: Float[Tensor, "batch positions"]  # 0 where there is no target


class TargetLogProbs(torch.autograd.Function):
    """``log_softmax(hidden @ weight.T)`` at the targets; gradients make the logits again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "targets hidden"],
        weight: Float[Tensor, "vocabulary hidden"],
        targets: Int[Tensor, " targets"],
    ) -> Float[Tensor, " targets"]:
        """In float32; only the product of matrices has the precision of autocast."""
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        log_sums = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        found = torch.empty_like(log_sums)
        for rows in _slices(len(hidden), len(weight)):
            logits = _logits(hidden[rows], weight, dtype)
            largest = logits.amax(-1)
            found[rows] = logits.gather(-1, targets[rows, None])[:, 0]
            sums = logits.sub_(largest[:, None]).exp_().sum(-1)
            log_sums[rows] = sums.log_().add_(largest)
        ctx.save_for_backward(hidden, weight, targets, log_sums)
        ctx.dtype = dtype
        return found - log_sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Of ``hidden`` and ``weight``, summed in float32."""
        hidden, weight, targets, log_sums = ctx.saved_tensors
        [of_found] = gradients
        needs_hidden, needs_weight, _ = ctx.needs_input_grad
        of_hidden = torch.empty_like(hidden) if needs_hidden else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        for rows in _slices(len(hidden), len(weight)):
            logits = _logits(hidden[rows], weight, ctx.dtype)
            factors = of_found[rows, None].float()
            of_logits = logits.sub_(log_sums[rows, None]).exp_().mul_(-factors)
            of_logits.scatter_add_(-1, targets[rows, None], factors)
            if of_hidden is not None:
                of_hidden[rows] = (of_logits @ weight.float()).to(hidden.dtype)
            if of_weight is not None:
                of_weight.addmm_(of_logits.T, hidden[rows].float())
        return of_hidden, None if of_weight is None else of_weight.to(weight.dtype), None


def add_head(model: PreTrainedModel) -> None:
    """Lets ``model(..., labels=..., fused_lm_head=True)`` give log-probabilities and no logits.

    Args:
        model: Without adapters around it. Called in another way, it is as before.
    """
    vars(model).pop("forward", None)  # of a head that it has already
    add_fused_lm_head(model)
    if not has_plain_head(model):
        return
    of_trl: Any = model.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        weight = self.get_output_embeddings().weight
        if weight.device.type != "cpu" or not kwargs.get("fused_lm_head"):
            return of_trl(*args, **kwargs)
        del kwargs["fused_lm_head"]
        labels, targets = kwargs.pop("labels", None), kwargs.pop("shift_labels", None)
        hidden = self.base_model(*args, **kwargs).last_hidden_state
        if targets is None:
            hidden, targets = hidden[:, :-1], labels[:, 1:]
        is_target = targets != IGNORE_INDEX
        found = TargetLogProbs.apply(hidden[is_target], weight, targets[is_target])
        # Connected to the model even where there is no target.
        return Scored(found.new_zeros(is_target.shape).masked_scatter(is_target, found))

    replace_forward(model, forward)


def has_plain_head(model: Any) -> bool:
    """Whether logits are the product of hidden states and the head's weights, and no more."""
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper):  # its weight is that with the trained rows
        head = head.original_module
    is_changed = any(getattr(config, name, None) is not None for name in CHANGES_OF_LOGITS)
    return type(head) is nn.Linear and head.bias is None and not is_changed


def replace_forward(model: Any, forward: Callable[..., Any]) -> None:
    """Has a model called so; ``generate`` checks its arguments against the signature as it was."""
    model.forward = types.MethodType(wraps(type(model).forward)(forward), model)


def _slices(num_targets: int, num_tokens: int) -> list[slice]:
    size = max(1, LOGITS_AT_ONCE // num_tokens)
    return [slice(start, start + size) for start in range(0, num_targets, size)]


def _logits(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast(hidden.device.type, enabled=False):
        return (hidden.to(dtype) @ weight.to(dtype).T).float()
