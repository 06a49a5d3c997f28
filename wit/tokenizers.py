"""Tokenizers, loaded apart from models: what needs no torch should not wait for its import."""

import json
from pathlib import Path
from typing import Any

from wit.errors import BaseModelError, first_line

# A fast tokenizer of transformers, whose own annotations make a union of every attribute.
Tokenizer = Any
# Classes that do what tokenizer.json says and no more.
GENERIC = ("TokenizersBackend", "PreTrainedTokenizerFast")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a Hugging Face folder.

    Raises:
        BaseModelError: There is none that gives character offsets.
    """
    try:
        tokenizer = _class_of(folder).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,  # unset, the library asks whoever sits there
        )
    except Exception as error:  # a damaged file breaks the library in a dozen ways
        raise BaseModelError(
            f"{folder}: no tokenizer can be loaded: {first_line(error)}"
        ) from error
    if not tokenizer.is_fast:
        raise BaseModelError(f"{folder}: needs a tokenizer.json (a slow tokenizer has no offsets)")
    return tokenizer


def _class_of(folder: Path) -> Any:
    """The class that a folder asks for; ``AutoTokenizer`` finds it too, but imports torch first."""
    config = folder / "tokenizer_config.json"
    asked = (
        json.loads(config.read_text("utf-8")).get("tokenizer_class") if config.exists() else None
    )
    if asked in GENERIC:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def special_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """Ids and texts of the tokens that no text can mean."""
    named = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    added = tokenizer.added_tokens_decoder.items()
    return named | {number: token.content for number, token in added if token.special}


def markup_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """Ids and texts of the tokens that a template can use as markup: special and other added ones.

    Not those of white space alone: some vocabularies have such among the added ones, for any text.
    """
    added = tokenizer.added_tokens_decoder.items()
    visible = {n: token.content for n, token in added if token.content.strip("\u2581 \t\r\n")}
    return special_tokens(tokenizer) | visible
