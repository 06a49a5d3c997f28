"""Tokenizers, loaded apart from models: what needs no torch should not wait for its import."""

from pathlib import Path
from typing import Any

from wit.errors import BaseModelError, first_line

# A fast tokenizer of transformers, whose own annotations make a union of every attribute.
Tokenizer = Any


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a Hugging Face folder.

    Raises:
        BaseModelError: There is none that gives character offsets.
    """
    from transformers import AutoTokenizer  # takes seconds

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file breaks the library in a dozen ways
        raise BaseModelError(
            f"{folder}: no tokenizer can be loaded: {first_line(error)}"
        ) from error
    if not tokenizer.is_fast:
        raise BaseModelError(f"{folder}: needs a tokenizer.json (a slow tokenizer has no offsets)")
    return tokenizer
