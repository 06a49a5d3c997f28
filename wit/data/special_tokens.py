"""Special tokens that rows have."""

from typing import Any

import numpy as np

from wit.tokenizers import Tokenizer


def special_tokens_of(ids: Any, tokenizer: Tokenizer) -> list[int]:
    """Ids of the special tokens of rows, in order, but for the one that begins texts and padding.

    What a chat template writes, and what ends responses: a base may never have seen them. Text has
    none of them, whatever it says.

    Args:
        ids: An Arrow column with the token ids of every row.
        tokenizer: Theirs.
    """
    known = {*tokenizer.added_tokens_decoder} - {tokenizer.bos_token_id, tokenizer.pad_token_id}
    counts = np.zeros(len(tokenizer), dtype=np.int64)
    for chunk in ids.chunks:
        counts += np.bincount(chunk.flatten().to_numpy(), minlength=len(counts))
    return sorted(token for token in known if counts[token])
