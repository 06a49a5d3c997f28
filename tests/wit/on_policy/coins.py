"""A policy whose every response is known: it throws a coin, says a side, and stops."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from wit.tokenizers import Tokenizer

HEADS, TAILS = "a", "b"


def coin(tokenizer: Tokenizer, tails: float = 0.0, context: int = 256) -> LlamaForCausalLM:
    """Says heads or tails, ``tails`` nats more of tails, and stops; whatever it is asked."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=context,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config).eval()
    sides = [token_of(tokenizer, side) for side in (HEADS, TAILS)]
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.zero_()
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding.zero_()
        embedding[:, 0] = 1  # asked
        embedding[sides, 0] = 0
        embedding[sides, 1] = 1  # has answered
        head.fill_(-20)
        head[sides, 0] = 20
        head[sides[1], 0] += tails / 2  # the norm doubles what one of four numbers holds
        head[tokenizer.eos_token_id, 1] = 20
    return model


def token_of(tokenizer: Tokenizer, text: str) -> int:
    [token] = tokenizer.encode(text, add_special_tokens=False)
    return token
