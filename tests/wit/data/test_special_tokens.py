"""Which tokens of the rows an adapter of linear layers could not learn."""

from typing import Any

import pyarrow as pa
import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from wit.data.special_tokens import special_tokens_of

WORD, FAR = 0, 9  # there is no token between 7 and 9
BEGIN, STOP, USER, TAG, SPACES = 1, 2, 3, 4, 5


def tokenizer(**named: str) -> Any:
    words = {"word": WORD, "<s>": BEGIN, "<|end|>": STOP, "<|user|>": USER, "[tag]": TAG}
    backend = Backend(WordLevel({**words, "    ": SPACES, "far": FAR}, unk_token="word"))
    backend.add_special_tokens(["<s>", "<|end|>", "<|user|>"])
    backend.add_tokens([AddedToken("[tag]"), AddedToken("    ")])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{"bos_token": "<s>", "eos_token": "<|end|>", **named}
    )


def column(*rows: list[int]) -> Any:
    return pa.chunked_array([pa.array([row]) for row in rows])


ROWS = column([BEGIN, USER, WORD, SPACES], [BEGIN, FAR, TAG, STOP])


def test_they_are_the_markup_that_rows_have_and_what_ends_responses() -> None:
    """White space is text, although some vocabularies add it; some have gaps, too."""
    assert special_tokens_of(ROWS, tokenizer()) == [STOP, USER, TAG]
    assert special_tokens_of(column([BEGIN, WORD], [STOP]), tokenizer()) == [STOP]
    assert special_tokens_of(column([WORD]), tokenizer()) == []


@pytest.mark.parametrize("other", ["pad_token", "bos_token", "unk_token"])
def test_what_ends_responses_is_one_whatever_else_it_is_for(other: str) -> None:
    """A base without padding is padded with it."""
    assert STOP in special_tokens_of(ROWS, tokenizer(**{other: "<|end|>"}))
