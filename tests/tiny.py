"""A base model that trains in a second, with random weights, and a study of it."""

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from wit.builtin import BASE_DIR
from wit.tokenizers import load_tokenizer


def make_tiny_base(folder: Path, *, is_tied: bool = False) -> Path:
    """Two layers, hidden size 32; tied: the LM head's weights are those of the embeddings."""
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
        tie_word_embeddings=is_tied,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in BASE_DIR.iterdir():
        if file.name.startswith(("tokenizer", "chat_template", "special_tokens")):
            shutil.copy(file, folder / file.name)
    return folder


def write_tiny_study(folder: Path, name: str, **changes: Any) -> Path:
    """One cell on such a base, with embedded rows and a benchmark that needs no generation.

    Args:
        folder: Of the file, and of the base.
        name: Of the study.
        **changes: Parts of it; of one that is a mapping, what differs.
    """
    training = {"num_epochs": 1, "examples_per_step": 16}
    rows = {"path": "builtin", "held_out_fraction": 0.2}
    study: dict[str, Any] = {
        "name": name,
        "base": {"path": str(make_tiny_base(folder / "base"))},
        "instructions": {**rows, "max_rows": 48},
        "preferences": {**rows, "max_rows": 32},
        "weights": [{"prompt": 0.5, "response": 1}],
        "sft": {**training, "learning_rate": 1e-2},
        "dpo": {**training, "learning_rate": 1e-3},
        "benchmarks": [{"name": "wit_choice", "role": "select", "limit": 8}],
    }
    for part, change in changes.items():
        study[part] = {**study.get(part, {}), **change} if isinstance(change, dict) else change
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(study))
    return file
