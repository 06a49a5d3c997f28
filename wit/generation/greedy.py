"""Greedy responses in batches: neither the size of a batch nor the order of prompts shows in them.

Differs from sampling as chat services do it: the likeliest token, always. Two models are then
compared by what they say, not by their luck. For what is to be known of a model's own
distribution, ``sampling`` draws from it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel

from wit.errors import StageError
from wit.evaluation.greedy import plain_generation
from wit.generation.decoding import decode, ends_at
from wit.generation.drawing import Drawing
from wit.tokenizers import Tokenizer

# Names under which configurations keep how many tokens a model can take, prompt and response.
CONTEXTS = ("max_position_embeddings", "n_positions", "n_ctx")
PAD = 0  # any token would do: before a prompt it is masked, behind a stop token cut off


class Response(NamedTuple):
    """What a model wrote after a prompt.

    Attributes:
        ids: Its tokens: the stop token, if there is one, is the last; no padding.
        text: What it says: without special tokens, so without the stop token; white space kept.
        stopped: It was ended by a stop token, not by the limit.
    """

    ids: tuple[int, ...]
    text: str
    stopped: bool

    @property
    def text_ids(self) -> tuple[int, ...]:
        """Its tokens without the stop token."""
        return self.ids[:-1] if self.stopped else self.ids

    @property
    def num_tokens(self) -> int:
        """Number of tokens that the model chose, the stop token included; at least 1."""
        return len(self.ids)


class Fitted(NamedTuple):
    """Prompts that leave room for a response."""

    prompts: list[list[int]]
    num_cut: int  # of them, which lost their beginning


def max_tokens_of(model: PreTrainedModel) -> int | None:
    """Tokens that a model can take, prompt and response together; None: it sets no limit."""
    config = model.config.get_text_config()
    sizes = (getattr(config, name, None) for name in CONTEXTS)
    return next((size for size in sizes if size is not None), None)


def fit_prompts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, max_new_tokens: int
) -> Fitted:
    """The prompts; of one that leaves no room for a response, the end, as benchmarks have it.

    Raises:
        StageError: A response alone would fill the model's context.
    """
    context = max_tokens_of(model)
    if context is None:
        return Fitted([list(prompt) for prompt in prompts], 0)
    room = context - max_new_tokens
    if room < 1:
        raise StageError(
            f"asks for responses of up to {max_new_tokens} tokens, but the model's context is "
            f"{context}; lower max_new_tokens"
        )
    num_cut = sum(len(prompt) > room for prompt in prompts)
    return Fitted([list(prompt[-room:]) for prompt in prompts], num_cut)


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    draws: Float[Tensor, "prompts tokens"] | None = None,
    temperature: float = 1.0,
) -> list[Response]:
    """The greedy response to each prompt, in the order of the prompts.

    Args:
        model: In evaluation mode; left as it was.
        tokenizer: Its own; left as it was.
        prompts: Token ids, template applied.
        max_new_tokens: Limit of a response, in tokens, the stop token included.
        batch_size: Prompts per forward pass; no response depends on it.
        draws: A number in [0, 1) for every token that may come: responses are drawn by them. None:
            they are greedy.
        temperature: Of draws.

    Raises:
        StageError: A prompt leaves no room for the response.
    """
    context, longest = max_tokens_of(model), max(map(len, prompts), default=0)
    if context is not None and longest + max_new_tokens > context:
        raise StageError(
            f"a prompt of {longest} tokens and a response of up to {max_new_tokens} are more than "
            f"the model's context of {context}; shorten it, or lower max_new_tokens"
        )
    # The longest first: what runs out of memory does so at once.
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    found: dict[int, Response] = {}
    with plain_generation(model, tokenizer):
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            rows = [prompts[number] for number in numbers]
            own = None if draws is None else draws[numbers].to(model.device)
            responses = _generate_batch(model, tokenizer, rows, max_new_tokens, own, temperature)
            found |= zip(numbers, responses, strict=True)
    return [found[number] for number in range(len(prompts))]


def _generate_batch(
    model: Any,
    tokenizer: Tokenizer,
    rows: Sequence[Sequence[int]],
    max_new_tokens: int,
    draws: Float[Tensor, "rows tokens"] | None,
    temperature: float,
) -> list[Response]:
    ends: list[int] = model.generation_config.eos_token_id
    input_ids, mask = (part.to(model.device) for part in padded_left(rows))
    width = input_ids.shape[1]

    def drawing(left: Tensor) -> LogitsProcessorList:
        assert draws is not None
        return LogitsProcessorList([Drawing(draws[left], width, temperature)])

    made = decode(
        model,
        input_ids,
        mask,
        max_length=width + max_new_tokens,
        pad=PAD,
        ended_of=ends_at(ends, width),
        processors_of=None if draws is None else drawing,
    )
    return [_response(tokenizer, ids, ends) for ids in made[:, width:].tolist()]


def padded_left(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of rows that all end together, so that responses begin together."""
    width = max(map(len, rows))
    ids = [[PAD] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def _response(tokenizer: Tokenizer, ids: list[int], ends: list[int]) -> Response:
    """What stands before the first stop token; behind it is padding, which may look like one."""
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    kept = ids if end is None else ids[: end + 1]
    text = tokenizer.decode(kept if end is None else kept[:-1], skip_special_tokens=True)
    return Response(tuple(kept), text, end is not None)
