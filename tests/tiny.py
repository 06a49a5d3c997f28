"""A base model that trains in a second: random weights, the embedded tokenizer."""

import shutil
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from wit.builtin import BASE_DIR
from wit.tokenizers import load_tokenizer


def make_tiny_base(folder: Path) -> Path:
    """Two layers, hidden size 32."""
    tokenizer = load_tokenizer(BASE_DIR)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in BASE_DIR.iterdir():
        if file.name.startswith(("tokenizer", "chat_template", "special_tokens")):
            shutil.copy(file, folder / file.name)
    return folder
