"""What an aligned model says by itself: which prompts it answers, and its KL from its parent."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from held_out_pairs import NUM_PAIRS, RECIPE, random_pairs, save
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PretrainedConfig

from wit.evaluation.alignment_scores import (
    held_out_prompts,
    log_ratios_of_drawn,
    response_limit,
)
from wit.evaluation_recipes import AlignmentEvaluation
from wit.generation.greedy import Response
from wit.generation.sampling import sample
from wit.score_names import OF_SAMPLED


class Coin(nn.Module):
    """A language of two tokens, of which the second comes with the same probability always."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        logits = torch.tensor([1 - probability, probability]).log()
        self.logits = nn.Parameter(logits)
        self.config = PretrainedConfig(vocab_size=2)

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, 2))


def test_kl_of_two_tokens_is_that_of_pencil_and_paper() -> None:
    """Heads 3/4 against 1/4: each head says +ln 3, each tail ln (1/4 : 3/4) = -ln 3."""
    prompts, responses = [[0], [1, 0], [1]], [(1, 1, 0), (1,), (0, 0, 0, 1)]
    drawn = [Response(ids, "", stopped=False) for ids in responses]
    expected = [math.log(3) * number for number in (1, 1, -2)]
    for batch_size in (1, 2, 8):
        found = log_ratios_of_drawn(Coin(3 / 4), Coin(1 / 4), prompts, drawn, batch_size)
        assert found == pytest.approx(expected, abs=1e-6)


def test_the_estimate_of_kl_is_unbiased(
    model: LlamaForCausalLM, aligned: LlamaForCausalLM, tokenizer: Any
) -> None:
    """Of responses of one token the KL can be summed over the vocabulary."""
    prompt = [40, 41, 42]
    with torch.no_grad():
        own, before = (
            one(torch.tensor([prompt])).logits[0, -1].double().log_softmax(-1)
            for one in (aligned, model)
        )
    exact = (own.exp() * (own - before)).sum().item()
    ratios = []
    for seed in range(400):
        [drawn] = sample(
            aligned, tokenizer, [prompt], max_new_tokens=1, seed=f"{seed}", batch_size=1
        )
        ratios += log_ratios_of_drawn(aligned, model, [prompt], drawn, 1)
    mean, spread = torch.tensor(ratios).mean().item(), torch.tensor(ratios).std().item()
    assert exact > 0.01
    assert mean == pytest.approx(exact, abs=4 * spread / math.sqrt(len(ratios)))
    assert spread / math.sqrt(len(ratios)) < exact / 3


def test_every_prompt_is_answered_once_and_only_the_first_so_many(
    aligned: LlamaForCausalLM, measure: Any, pairs: Path
) -> None:
    rows = random_pairs()
    once = [row["prompt_ids"] for number, row in enumerate(rows) if number % 3 != 2]
    assert held_out_prompts(pairs, 100) == once
    found = measure(aligned, pairs, recipe=RECIPE.model_copy(update={"num_prompts": 3}))
    assert {found[name].num_items for name in OF_SAMPLED} == {3}
    assert found["logp_margin"].num_items == NUM_PAIRS


def test_responses_have_room_in_a_small_context(
    aligned: LlamaForCausalLM, measure: Any, pairs: Path
) -> None:
    aligned.config.max_position_embeddings = 40
    recipe = AlignmentEvaluation(max_new_tokens=1000)
    found = measure(aligned, pairs, recipe=recipe)
    assert 1 <= found["sampled_tokens"].value <= 20 == response_limit(recipe, aligned)
    assert response_limit(RECIPE, aligned) == 6
    assert found["sampled_cut"].value == 0, "20 tokens are the longest prompt"


def test_prompts_that_were_cut_are_counted_and_those_that_became_equal_are_one(
    aligned: LlamaForCausalLM, measure: Any, tmp_path: Path
) -> None:
    """Room for 14 tokens: the first two prompts end alike, the third ends otherwise."""
    aligned.config.max_position_embeddings = 20
    ends = ([40] * 16, [41] + [40] * 15, [40] * 15 + [41], [42] * 14)
    rows = [{**row, "prompt_ids": end} for row, end in zip(random_pairs(4), ends, strict=True)]
    found = measure(aligned, save(tmp_path / "long", rows))
    assert (found["sampled_cut"].value, found["sampled_cut"].num_items) == (3 / 4, 4)
    assert {found[name].num_items for name in OF_SAMPLED if name != "sampled_cut"} == {3}
