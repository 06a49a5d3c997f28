"""Drawn tokens have the model's own probabilities, and each prompt has draws of its own."""

from typing import Any

import pytest
import torch
from random_models import make_random_model

from wit.generation.drawing import Drawing
from wit.generation.sampling import draws_of, sample

PROMPTS = [[40, 41, 42], [50] * 9, [60, 61], [70, 71, 72, 73, 74]]


def test_tokens_come_as_often_as_is_likely() -> None:
    """Numbers at equal distances give every token its share, but for one of them."""
    scores = torch.tensor([0.5, -torch.inf, 2.0, -1.0, 0.0])
    numbers = (torch.arange(10_000) + 0.5) / 10_000
    before = torch.zeros(len(numbers), 3, dtype=torch.long)
    found = Drawing(numbers[:, None], 3)(before, scores.expand(len(numbers), 5))
    shares = found.exp().mean(0)
    assert shares.tolist() == pytest.approx(scores.softmax(-1).tolist(), abs=1.01e-4)
    assert shares[1] == 0
    assert (found.exp().sum(-1) == 1).all(), "one token of each row"


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24])
def test_the_ends_of_the_scale_give_tokens_that_can_come(number: float) -> None:
    scores = torch.full((1, 50), -torch.inf)
    scores[0, 3:40] = torch.linspace(-1, 1, 37)
    found = Drawing(torch.tensor([[number]]), 1)(torch.zeros(1, 1, dtype=torch.long), scores)
    assert found[0].argmax().item() == (3 if number == 0 else 39)


def test_every_step_has_a_number_of_its_own() -> None:
    drawing = Drawing(torch.tensor([[0.1, 0.9]]), 2)
    scores = torch.zeros(1, 2)
    for step in (0, 1):
        before = torch.zeros(1, 2 + step, dtype=torch.long)
        assert drawing(before, scores).argmax(-1).item() == step


def test_a_response_depends_on_its_prompt_and_the_seed_alone(tokenizer: Any) -> None:
    model = make_random_model(tokenizer)
    model.lm_head.weight.data *= 0.2  # several tokens are likely

    def say(prompts: list[list[int]], seed: int = 0, batch_size: int = 4) -> list[Any]:
        return sample(
            model, tokenizer, prompts, max_new_tokens=8, seed=f"{seed}", batch_size=batch_size
        )

    expected = say(PROMPTS)
    assert say(PROMPTS[::-1], batch_size=2) == expected[::-1]
    assert [*say(PROMPTS[:1]), *say(PROMPTS[1:], batch_size=1)] == expected
    assert say(PROMPTS, seed=1) != expected
    torch.manual_seed(7)
    assert say(PROMPTS) == expected, "the library's own numbers are not used"
    assert say([]) == []


def test_draws_of_fewer_tokens_are_the_first_of_more() -> None:
    assert torch.equal(draws_of("0", [1, 2], 3, 4), draws_of("0", [1, 2], 3, 9)[:, :4])
    assert not torch.equal(draws_of("0", [1, 2], 3, 4), draws_of("0", [12], 3, 4))
