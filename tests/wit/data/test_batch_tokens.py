"""Tokens of many conversations at once are those of ``SegmentTokenizer``, one after the other."""

import random
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from chats import Chat, byte_level, every_tokenizer, few
from hypothesis import given
from samples import LINE_BREAK, conversations, embedded_tokenizer, merging_tokenizer
from tokenizers import AddedToken, normalizers

from wit.data.batch_tokens import BatchTokenizer, Conversation, TokenArrays
from wit.data.rendering import Segment
from wit.data.schema import Message, Messages
from wit.data.token_bytes import BytesOfTokens
from wit.data.tokenize import SegmentTokenizer, Tokens
from wit.errors import DataError
from wit.roles import Role


def said(tokens: Callable[[], Tokens]) -> list[list[float]] | str:
    """Ids, roles and factors, or why there are none."""
    try:
        return list(map(list, tokens()))
    except DataError as error:
        return str(error)


def as_lists(found: TokenArrays) -> Tokens:
    assert (found.ids.dtype, found.roles.dtype) == (np.int32, np.int8)
    roles = found.roles.tolist()
    assert found.response == [*roles, Role.RESPONSE].index(Role.RESPONSE)
    assert found.factors is None or found.factors.dtype == np.float64
    factors = [1.0] * len(roles) if found.factors is None else found.factors.tolist()
    return Tokens(found.ids.tolist(), roles, factors)


def num_found(tokenizer: Any, found: list[Conversation]) -> int:
    """How many need no closer look; those are compared, and the others with what looks closer."""
    batch, one_by_one = BatchTokenizer(tokenizer), SegmentTokenizer(tokenizer)
    tokens = list(batch.tokens(found, batch.look_ahead(found)))
    for segments, of_segments in zip(found, tokens, strict=True):
        assert said(lambda of=of_segments, s=segments: as_lists(of or batch.tokens_of(s))) == said(
            lambda s=segments: one_by_one.tokens(s)
        )
    return sum(of_segments is not None for of_segments in tokens)


@every_tokenizer
def test_conversations_have_the_tokens_that_they_have_alone(name: str) -> None:
    chat = Chat(name)

    @few
    @given(st.lists(conversations(), max_size=4), st.floats(0, 2))
    def check(batch: list[Messages], weight: float) -> None:
        heavy = ((*of_row[:-1], of_row[-1]._replace(weight=weight)) for of_row in batch)
        num_found(chat.tokenizer, [chat.renderer.segments(messages) for messages in heavy])

    check()


MERGES = (
    *(("x", "y"), ("xy", "z"), ("xyz", "x"), (LINE_BREAK, "x"), (LINE_BREAK, LINE_BREAK)),
    # Half of an é with what is beside it, or with half of the next one.
    *(("\u00a9", "x"), ("\u00a9", "\u00c3"), ("y", "\u00c3")),
)
SEGMENT = st.builds(
    Segment,
    st.sampled_from(["x", "y", "z", "xy", "é", "éé", "\n", "<end>", "<", "end>", "ab"]),
    st.sampled_from(Role),
    st.sampled_from([1.0, 0.5]),
    st.booleans(),
)


@pytest.mark.parametrize("added", ["none", "that swallow spaces", "that no text is beside"])
def test_any_segments_have_the_tokens_that_they_have_alone(added: str) -> None:
    tokenizer: Any = merging_tokenizer(*MERGES, template="")
    if added == "that swallow spaces":
        tokenizer.add_tokens([AddedToken("z", lstrip=True, rstrip=True)])
    elif added == "that no text is beside":
        tokenizer.add_tokens([AddedToken("ab", single_word=True)])

    @given(st.lists(st.lists(SEGMENT, min_size=1, max_size=7), max_size=4))
    def check(batch: list[Conversation]) -> None:
        num_found(tokenizer, batch)

    check()


@byte_level
def test_ordinary_conversations_need_no_closer_look(name: str) -> None:
    chat = Chat(name)
    messages = (
        Message("system", "Be kind."),
        Message("user", "Ask 你"),
        Message("assistant", "A."),
    )
    segments = chat.renderer.segments(messages)
    assert num_found(chat.tokenizer, [segments] * 3) == 3


def test_nor_does_a_token_across_a_border_within_the_prompt() -> None:
    tokenizer = merging_tokenizer(("x", "y"), ("xy", "z"), ("xyz", "x"), template="")
    segments = [
        Segment("x", Role.SYSTEM),
        Segment("y", Role.PROMPT, weight=2),
        Segment("z", Role.TEMPLATE),
        Segment("x", Role.RESPONSE),
    ]
    over_markup = [
        Segment("x", Role.PROMPT),
        Segment("y", Role.TEMPLATE),
        Segment("z", Role.SYSTEM),
    ]
    answer = [Segment("x", Role.RESPONSE), Segment("y", Role.RESPONSE)]
    batch = [segments, segments[:3], segments[1:], over_markup, answer]
    assert num_found(tokenizer, batch) == len(batch)


CLOSER = {
    "a token of the markup in a text": [Segment("a<end>", Role.PROMPT, is_content=True)],
    "a token across the end of a response": [
        Segment("x", Role.RESPONSE),
        Segment("y", Role.TEMPLATE),
    ],
    "a token across the start of a stop": [
        Segment("x", Role.TEMPLATE),
        Segment("y", Role.STOP),
    ],
    "a token that ends within a character": [
        Segment("é", Role.TEMPLATE),
        Segment("x", Role.PROMPT),
    ],
}


@pytest.mark.parametrize("case", CLOSER)
def test_a_closer_look_is_taken_at(case: str) -> None:
    tokenizer = merging_tokenizer(*MERGES, template="")
    plain = [Segment("ab", Role.PROMPT), Segment("<end>", Role.STOP)]
    assert num_found(tokenizer, [plain, CLOSER[case], plain]) == 2


def test_texts_that_the_tokenizer_changes_need_a_closer_look() -> None:
    tokenizer = embedded_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    conversations = [[Segment(text, Role.PROMPT)] for text in ("e\u0301", "é", "e")]
    assert num_found(tokenizer, conversations) == 2


def test_nothing_is_made_of_no_conversations() -> None:
    assert num_found(embedded_tokenizer(), []) == 0


def test_lengths_are_those_of_the_bytes() -> None:
    tokenizer = embedded_tokenizer()
    tokenizer.add_tokens(["naïve 你"])
    of_tokens = BytesOfTokens(tokenizer.backend_tokenizer)
    ids = np.array(random.Random(0).choices(range(len(tokenizer)), k=3000))
    for _ in range(2):  # asked for the first time, and again
        assert of_tokens.lengths(ids).tolist() == [len(of_tokens.of([token])) for token in ids]
    assert of_tokens.lengths(ids[:0]).tolist() == []
