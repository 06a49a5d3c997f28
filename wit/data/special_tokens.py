"""Special tokens that rows have."""

from typing import Any

from wit.tokenizers import Tokenizer, markup_tokens


def special_tokens_of(ids: Any, tokenizer: Tokenizer) -> list[int]:
    """Ids of the special tokens of rows, in order, but for the one that begins texts.

    What a chat template writes, and what ends responses: a base may never have seen them. The
    latter is among them whatever else it is for; where a base has no padding, it pads too.

    Args:
        ids: An Arrow column with the token ids of every row.
        tokenizer: Theirs.
    """
    known = {*markup_tokens(tokenizer)} - ({tokenizer.bos_token_id} - {tokenizer.eos_token_id})
    present = {token for chunk in ids.chunks for token in chunk.flatten().unique().to_pylist()}
    return sorted(known & present)
