"""Reward models in folders: one with scores known by hand, one that says something of all."""

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from wit.builtin import BASE_DIR
from wit.tokenizers import load_tokenizer

# Ends with what is said last, so that the response's end is what is scored.
BARE_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
CONTEXT = 96  # tokens
BITS = 16  # of the number of a token


def _make(folder: Path, pad: int | None) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    tokenizer = load_tokenizer(BASE_DIR)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=BITS,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        pad_token_id=pad,
        id2label={0: "score"},
        initializer_range=0.4,
        rms_norm_eps=1e-12,
    )
    tokenizer.save_pretrained(folder)
    return LlamaForSequenceClassification(config)


def random_reward_model(folder: Path, *, pad: int | None = 0) -> Path:
    """Scores depend on every token."""
    _make(folder, pad).save_pretrained(folder)
    return folder


def bidirectional_reward_model(folder: Path) -> Path:
    """Its tokens attend to those after them, so that padding must be masked."""
    tokenizer = load_tokenizer(BASE_DIR)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=BITS,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        pad_token_id=0,
        id2label={0: "score"},
        initializer_range=0.4,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def known_reward_model(folder: Path) -> Path:
    """Its score is the number of the last token, less half of all that 16 bits can say.

    The embedding of a token is 1 where its number has a 1 and -1 where it has a 0; attention and
    the other layer add nothing, and the norm finds a length of 1. The score weighs each bit by half
    its value.
    """
    model = _make(folder, 0)
    weights = dict(model.named_parameters())
    numbers = torch.arange(model.config.vocab_size)
    bits = (numbers[:, None] >> torch.arange(BITS)) & 1
    with torch.no_grad():
        weights["model.embed_tokens.weight"].copy_(2.0 * bits - 1)
        weights["model.layers.0.self_attn.o_proj.weight"].zero_()
        weights["model.layers.0.mlp.down_proj.weight"].zero_()
        weights["score.weight"].copy_(2.0 ** (torch.arange(BITS) - 1)[None])
    model.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(BARE_TEMPLATE)
    return folder


def score_of_number(number: int) -> float:
    """That the known model gives where a token of that number is the last."""
    return number - (2**BITS - 1) / 2
