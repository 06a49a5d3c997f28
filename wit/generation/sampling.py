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
    seed: str,
    batch_size: int,
    num_responses: int = 1,
    temperature: float = 1.0,
) -> list[list[Response]]:
    """Responses to each prompt, in the order of the prompts.

    Args:
        model: In evaluation mode; left as it was.
        tokenizer: Its own; left as it was.
        prompts: Token ids, template applied. Equal ones get equal responses.
        max_new_tokens: Limit of a response, in tokens, the stop token included.
        seed: Of all draws; those of a prompt are its own, whatever prompts stand beside it.
        batch_size: Rows per forward pass; changes a response only where rounding moves a
            probability across the number by which its token is drawn.
        num_responses: To each prompt.
        temperature: 1: the model's own distribution.

    Raises:
        StageError: A prompt leaves no room for the response.
    """
    draws = [draws_of(seed, prompt, num_responses, max_new_tokens) for prompt in prompts]
    found = generate(
        model,
        tokenizer,
        [prompt for prompt in prompts for _ in range(num_responses)],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        draws=torch.cat(draws) if draws else None,
        temperature=temperature,
    )
    return [found[i : i + num_responses] for i in range(0, len(found), num_responses)]


def draws_of(
    seed: str, prompt: Sequence[int], num_responses: int, num_tokens: int
) -> Float[Tensor, "responses tokens"]:
    """Numbers in [0, 1), the same on every device; those of a shorter limit begin alike."""
    digest = hashlib.sha256(f"{seed}: {list(prompt)}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    return torch.rand(num_tokens, num_responses, generator=generator).T
