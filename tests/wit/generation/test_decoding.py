"""Rows that have ended are not computed, and nobody can see it in what is generated."""

from typing import Any

import pytest
import torch
from one_by_one import TEXTS, by_hand
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel

from wit.data.schema import Message
from wit.evaluation.greedy import plain_generation
from wit.generation.decoding import decode, ends_at, ends_at_text
from wit.generation.encoding import PromptEncoder
from wit.generation.greedy import PAD, generate, padded_left

MAX = 16  # new tokens


@pytest.fixture
def prompts(tokenizer) -> list[list[int]]:
    encoder = PromptEncoder(tokenizer)
    return [encoder.ids((Message("user", text),)) for text in 3 * TEXTS]


def windowed_model(tokenizer) -> PreTrainedModel:
    """Its cache forgets, so that no row can be taken out of it."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=24,
        initializer_range=0.4,
        eos_token_id=tokenizer.eos_token_id,
    )
    return MistralForCausalLM(config).eval()


def watched(model: Any) -> list[int]:
    """Rows of every forward from now on."""
    seen: list[int] = []
    model.register_forward_pre_hook(
        lambda _, __, knobs: seen.append(len(knobs["input_ids"])), with_kwargs=True
    )
    return seen


def some_ends(model, prompts) -> list[int]:
    """Tokens at which some responses end early, and others later."""
    places = zip(prompts, (2, 5, 9), strict=False)
    return sorted({by_hand(model, prompt, (), MAX)[place] for prompt, place in places})


@pytest.mark.parametrize("kind", ["all", "windowed"])
def test_every_row_is_as_the_library_alone_writes_it(random_model, tokenizer, prompts, kind):
    model: Any = random_model if kind == "all" else windowed_model(tokenizer)
    ends = some_ends(model, prompts)
    model.generation_config.eos_token_id = ends
    input_ids, mask = padded_left(prompts)
    width = input_ids.shape[1]
    with plain_generation(model, tokenizer):
        ends = model.generation_config.eos_token_id
        expected = model.generate(
            input_ids=input_ids, attention_mask=mask, max_new_tokens=MAX, pad_token_id=PAD
        )
        seen = watched(model)
        found = decode(
            model,
            input_ids,
            mask,
            max_length=width + MAX,
            pad=PAD,
            ended_of=ends_at(ends, width),
        )
    for row, other in zip(found.tolist(), expected.tolist(), strict=True):
        assert until(row[width:], ends) == until(other[width:], ends)
    assert seen[0] == len(prompts)
    assert (seen[-1] < len(prompts)) == (kind == "all")
    assert len(seen) == MAX  # nothing is computed twice


def test_rows_that_are_left_keep_the_numbers_they_are_drawn_by(random_model, tokenizer, prompts):
    random_model.generation_config.eos_token_id = list(range(100))  # of 1024: most rows end
    draws = torch.rand(len(prompts), MAX, generator=torch.Generator().manual_seed(0))
    knobs: dict[str, Any] = {"max_new_tokens": MAX, "draws": draws}
    alone = generate(random_model, tokenizer, prompts, batch_size=1, **knobs)
    seen = watched(random_model)
    assert generate(random_model, tokenizer, prompts, batch_size=len(prompts), **knobs) == alone
    assert len(set(seen)) > 1


def test_what_ended_long_ago_has_ended_where_no_row_can_be_taken_out(tokenizer, prompts):
    """Rows end one after the other, each by something that is seen at that step alone."""
    model: Any = windowed_model(tokenizer)
    last = MAX // 2
    input_ids, mask = padded_left(prompts[:last])
    width = input_ids.shape[1]

    def ended_of(num_rows):
        ended = torch.zeros(num_rows, dtype=torch.bool)

        def has_ended(rows):
            ended[rows.shape[1] - width - 1] = True
            return ended.clone()

        return has_ended

    with plain_generation(model, tokenizer):
        model.generation_config.eos_token_id = []
        seen = watched(model)
        decode(model, input_ids, mask, max_length=width + MAX, pad=PAD, ended_of=ended_of)
    assert len(seen) == last


def until(tokens: list[int], ends: list[int]) -> list[int]:
    place = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: place + 1]


def test_a_text_ends_a_row_wherever_it_begins_in_a_token(tokenizer):
    of = ends_at_text(["b c"], tokenizer, [tokenizer.eos_token_id], 2)
    texts = ["b c", "a b", "a b c d", "b", " b c"]
    rows = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor(
        [[5, 5, *row, *[tokenizer.pad_token_id] * (width - len(row))] for row in rows]
    )
    has_ended = of(len(rows))
    ended = torch.zeros(len(rows), dtype=torch.bool)
    for num in range(3, 2 + width + 1):
        ended = has_ended(ids[:, :num])
    assert ended.tolist() == ["b c" in text for text in texts]


def test_what_stands_in_the_prompt_ends_nothing(tokenizer):
    eos = tokenizer.eos_token_id
    rows = torch.tensor([[eos, 7, 7, 7], [7, 7, 7, eos]])
    assert ends_at([eos], 2)(2)(rows).tolist() == [False, True]
    assert ends_at_text([tokenizer.decode(eos)], tokenizer, [], 2)(2)(rows).tolist() == [
        False,
        True,
    ]
