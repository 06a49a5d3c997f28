"""The head in one pass: its loss, gradients and figures are those that all logits give."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from wit.losses import IGNORE_INDEX, Reweighting, dft
from wit.training import one_pass_head
from wit.training.one_pass_head import add_one_pass_head, weighted_head

VOCABULARY = 50


@pytest.fixture
def made() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, weights of the head, labels with gaps, and coefficients with zeros."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 7, 16, generator=generator).requires_grad_()
    weight = torch.randn(VOCABULARY, 16, generator=generator).requires_grad_()
    labels = torch.randint(VOCABULARY, (3, 7), generator=generator)
    labels[0, 4:] = IGNORE_INDEX
    coefficients = torch.rand(3, 7, dtype=torch.float64, generator=generator)
    coefficients[1, :3] = 0  # scored for the figures, no part of the loss
    coefficients[labels == IGNORE_INDEX] = 0
    return hidden, weight, labels, coefficients


def by_all_logits(
    hidden: Tensor, weight: Tensor, labels: Tensor, coefficients: Tensor, f: Reweighting | None
) -> tuple[Tensor, Tensor]:
    log_probs = (hidden @ weight.T).double().log_softmax(-1)
    of_targets = log_probs.gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    factors = coefficients if f is None else coefficients * f(of_targets.detach())
    return -(factors * of_targets).sum(), log_probs


@pytest.mark.parametrize("reweighting", [None, dft])
@pytest.mark.parametrize("at_once", [1, 4, 1000])
def test_loss_gradients_and_figures_are_those_of_all_logits(
    reweighting: Reweighting | None,
    at_once: int,
    made: tuple[Tensor, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(one_pass_head, "TOKENS_AT_ONCE", at_once)
    monkeypatch.setattr(one_pass_head, "LOGITS_AT_ONCE", 0)
    monkeypatch.setattr(one_pass_head, "LOGITS_IN_CACHE", 3 * VOCABULARY)  # three rows
    hidden, weight, labels, _ = made
    found = weighted_head(*made, reweighting)
    (2 * found.loss).backward()  # as a scaler or a number of ranks does
    gradients = [hidden.grad, weight.grad]
    hidden.grad = weight.grad = None
    loss, log_probs = by_all_logits(*made, reweighting)
    (2 * loss).backward()
    torch.testing.assert_close(found.loss, loss.float())
    torch.testing.assert_close(gradients, [hidden.grad, weight.grad])
    mask = labels != IGNORE_INDEX
    assert torch.equal(found.label_mask, mask)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    torch.testing.assert_close(found.entropy[mask], entropy[mask].float())
    assert torch.equal(found.is_top1[mask], (log_probs.argmax(-1) == labels)[mask])
    assert not found.log_probs[~mask].any()


def test_without_a_target_the_loss_is_a_zero_that_is_connected(made: tuple[Tensor, ...]) -> None:
    hidden, weight, labels, coefficients = made
    found = weighted_head(hidden, weight, torch.full_like(labels, IGNORE_INDEX), coefficients)
    found.loss.backward()
    assert found.loss == 0
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_a_frozen_head_gets_no_gradient(made: tuple[Tensor, ...]) -> None:
    hidden, weight, *rest = made
    weighted_head(hidden, weight.requires_grad_(False), *rest).loss.backward()
    assert weight.grad is None
    assert hidden.grad.any()


def model_of(**config: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **small, **heads, **config))


def test_figures_and_targets_are_those_of_the_fused_head() -> None:
    model = model_of()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    assert add_one_pass_head(model)
    ids = torch.randint(VOCABULARY, (2, 9))
    labels = ids.masked_fill(torch.rand(2, 9) < 0.3, IGNORE_INDEX)
    ours = model(ids, labels=labels, coefficients=torch.ones(2, 8, dtype=torch.float64))
    theirs = model(ids, labels=labels, fused_lm_head=True)
    for name in ("log_probs", "entropy", "is_top1", "label_mask"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("other", ["dtype", "bias", "kind"])
def test_a_head_of_another_kind_is_left_alone(other: str) -> None:
    model = model_of()
    if other == "dtype":
        model.to(torch.bfloat16)
    elif other == "bias":
        model.lm_head = torch.nn.Linear(16, VOCABULARY)
    else:
        model.config.logits_scaling = 2.0  # as Granite divides its logits
    assert not add_one_pass_head(model)
