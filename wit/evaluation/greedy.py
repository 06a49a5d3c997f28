"""Greedy generation, whatever a model's own settings or a benchmark's file say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

# What a benchmark may say about generation; the rest would make it random or something else.
GREEDY_KNOBS = ("until", "max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@contextmanager
def plain_generation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Takes away what a model's own generation settings would do to greedy search.

    A repetition penalty, say, changes greedy answers too. What ends a response stays; lm-eval
    would otherwise keep text after it.
    """
    own = model.generation_config
    own_ends: Any = own.eos_token_id if own is not None else None
    ends: list[Any] = own_ends if isinstance(own_ends, list) else [own_ends]
    ends = [*dict.fromkeys(end for end in (*ends, tokenizer.eos_token_id) if end is not None)]
    model.generation_config = GenerationConfig(eos_token_id=ends, do_sample=False)
    try:
        yield
    finally:
        model.generation_config = own  # pyright: ignore[reportAttributeAccessIssue]
