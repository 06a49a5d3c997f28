"""Responses drawn from a model itself: what it would say, not what it would most likely say."""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from wit.generation.greedy import Response, generate
from wit.tokenizers import Tokenizer


def sample(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    seed: int,
    batch_size: int,
) -> list[Response]:
    """One response to each prompt at temperature 1, in the order of the prompts.

    Args:
        model: In evaluation mode; left as it was.
        tokenizer: Its own; left as it was.
        prompts: Token ids, template applied. Equal ones get equal responses.
        max_new_tokens: Limit of a response, in tokens, the stop token included.
        seed: Of all draws; those of a prompt are its own, whatever prompts stand beside it.
        batch_size: Prompts per forward pass; changes a response only where rounding moves a
            probability across the number by which its token is drawn.

    Raises:
        StageError: A prompt leaves no room for the response.
    """
    draws = [draws_of(seed, prompt, max_new_tokens) for prompt in prompts]
    return generate(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        draws=torch.stack(draws) if draws else None,
    )


def draws_of(seed: int, prompt: Sequence[int], num_tokens: int) -> Float[Tensor, " tokens"]:
    """Numbers in [0, 1), the same on every device."""
    digest = hashlib.sha256(f"{seed}: {list(prompt)}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    return torch.rand(num_tokens, generator=generator)
