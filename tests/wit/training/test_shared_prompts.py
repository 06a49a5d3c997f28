"""A pair in one sequence: the same log-probabilities, gradients and counts as in two."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from wit.builtin import BASE_DIR
from wit.losses import IGNORE_INDEX
from wit.models import load_model
from wit.training.head import TargetLogProbs, add_head
from wit.training.responses import (
    PreferenceCollator,
    logps_of_prompts,
    logps_of_responses,
    score,
    targets_of,
)
from wit.training.shared_prompts import CHOSEN, PROMPT, can_share, in_one_sequence, seen_by


def pairs(lengths: list[tuple[int, int, int]]) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(0)
    sides = ("prompt", "chosen", "rejected")
    return [
        {
            f"{side}_ids": torch.randint(10, 1000, (n,), generator=generator).tolist()
            for side, n in zip(sides, of_pair, strict=True)
        }
        for of_pair in lengths
    ]


def found_of(rows: Any, *, shares_prompts: bool) -> tuple[Any, ...]:
    model = load_model(BASE_DIR)
    add_head(model)
    batch = PreferenceCollator(0, shares_prompts=shares_prompts)(rows)
    outputs = score(model, batch, with_prompt=True)
    logps, of_prompts = logps_of_responses(outputs, batch), logps_of_prompts(outputs, batch)
    weights = torch.linspace(-1, 1, len(logps))
    (logps @ weights + of_prompts.sum()).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return logps, of_prompts, targets_of(batch), gradients


def test_sharing_a_prompt_changes_neither_values_nor_gradients_nor_counts() -> None:
    """Prompts and responses of one token, and either response the longer one."""
    rows = pairs([(1, 1, 1), (1, 5, 2), (7, 1, 30), (20, 12, 12), (33, 40, 3)])
    logps, of_prompts, targets, gradients = found_of(rows, shares_prompts=True)
    expected = found_of(rows, shares_prompts=False)
    assert torch.allclose(logps, expected[0], rtol=1e-5)
    assert torch.allclose(of_prompts, expected[1], rtol=1e-5)
    assert targets.of_responses.tolist() == [1, 5, 1, 12, 40, 1, 2, 30, 12, 3]
    assert targets.of_prompts.tolist() == [0, 0, 6, 19, 32] * 2
    for ours, theirs in zip(targets, expected[2], strict=True):
        assert torch.equal(ours, theirs)
    assert targets.num_tokens == expected[2].num_tokens == 2 * 62 + 59 + 48
    for name, gradient in gradients.items():
        most = expected[3][name].abs().max()
        assert torch.allclose(gradient, expected[3][name], rtol=1e-4, atol=1e-5 * most), name


def test_a_response_sees_its_prompt_and_itself() -> None:
    """By hand: prompt 1 2, chosen 3 4, rejected 5; the last token of each is a target only."""
    batch = in_one_sequence([([1, 2], [3, 4], [5])], 0)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 1]]
    assert batch["targets"].tolist() == [[2, 3, 4, 5]]
    assert seen_by(batch["branches"])[0, 0].int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [1, 0, 0, 1],
    ]


def test_padding_is_seen_by_no_token_and_every_token_sees_one() -> None:
    batch = in_one_sequence([([1, 2], [3, 4], [5]), ([1], [2], [3])], 0)
    seen = seen_by(batch["branches"])[1, 0]
    assert not seen[:2, 2:].any()
    assert seen.any(-1).all(), "else its output is not a number"
    assert batch["targets"][1, 2:].eq(IGNORE_INDEX).all()
    assert not torch.isin(batch["branches"][1, 2:], torch.tensor([PROMPT, CHOSEN])).any()


TINY: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.5,
}


def test_models_that_cannot_are_told_from_those_that_can(base: Path) -> None:
    torch.manual_seed(0)
    models = {
        "plain": LlamaForCausalLM(LlamaConfig(**TINY)),
        "window": MistralForCausalLM(MistralConfig(**TINY, sliding_window=4)),
        "eager": LlamaForCausalLM(LlamaConfig(**TINY)),
        "leaks": LlamaForCausalLM(LlamaConfig(**TINY)),
        "base": load_model(base),
        "by distance": FalconForCausalLM(FalconConfig(**TINY, alibi=True)),
    }

    def leak(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0] + inputs[0].cumsum(1), *inputs[1:])  # as a state over the sequence would

    models["eager"].set_attn_implementation("eager")
    models["leaks"].model.layers[0].mlp.register_forward_pre_hook(leak)
    for model in models.values():
        add_head(model)
    able = {name for name, model in models.items() if can_share(model)}
    assert able == {"plain", "base"}


@pytest.mark.parametrize("at_once", [1, 100, 2**23])
def test_the_head_has_the_values_and_gradients_of_the_formula(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wit.training.head.LOGITS_AT_ONCE", at_once)
    torch.manual_seed(0)
    hidden, weight = torch.randn(9, 5, requires_grad=True), torch.randn(40, 5, requires_grad=True)
    targets, factors = torch.randint(40, (9,)), torch.randn(9)
    found = TargetLogProbs.apply(hidden, weight, targets)
    ours = torch.autograd.grad(found @ factors, (hidden, weight))
    exact = (hidden.double() @ weight.double().T).log_softmax(-1)[range(9), targets]
    expected = torch.autograd.grad(exact @ factors.double(), (hidden, weight))
    assert torch.allclose(found.double(), exact, rtol=1e-5)
    for gradient, other in zip(ours, expected, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-4, atol=1e-6)


def test_a_batch_without_targets_is_connected_to_the_model(base: Path) -> None:
    model = load_model(base)
    add_head(model)
    ids = torch.ones(1, 4, dtype=torch.long)
    found = model(input_ids=ids, labels=torch.full_like(ids, IGNORE_INDEX), fused_lm_head=True)
    found.log_probs.sum().backward()
    assert found.log_probs.eq(0).all()
    assert model(input_ids=ids).logits.shape == (1, 4, model.config.vocab_size)


def test_the_head_of_another_kind_is_left_to_trl() -> None:
    torch.manual_seed(0)
    plain, capped = (LlamaForCausalLM(LlamaConfig(**TINY)) for _ in range(2))
    capped.load_state_dict(plain.state_dict())
    capped.config.final_logit_softcapping = 1.0
    ids = torch.arange(8)[None]
    found = []
    for model in (plain, capped):
        add_head(model)
        found.append(model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs)
    with torch.no_grad():
        logits = torch.tanh(plain(input_ids=ids).logits[:, :-1])
    expected = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    assert torch.allclose(found[1], expected, atol=1e-5)
    assert not torch.allclose(found[0], expected, atol=1e-2)
