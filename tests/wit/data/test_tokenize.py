"""Law 4: the tokens of a role decode to that role's text, whatever the text and the tokenizer."""

from typing import Any

import hypothesis.strategies as st
import pytest
from chats import LINES, Chat, every_tokenizer, few
from hypothesis import assume, given
from samples import (
    LINE_BREAK,
    SPACE,
    TEXT_ROLES,
    awkward_text,
    conversations,
    embedded_tokenizer,
    merging_tokenizer,
    needs_shared,
    stories_tokenizer,
)
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from wit.data.encode import last_response_start
from wit.data.rendering import ChatRenderer, Segment
from wit.data.schema import Message, Messages
from wit.data.tokenize import SegmentTokenizer, decode_runs
from wit.errors import DataError
from wit.roles import Role


@every_tokenizer
def test_tokens_of_a_role_decode_to_its_text(name: str) -> None:
    chat = Chat(name)
    few(given(messages=conversations())(chat.assert_roles_decode))()


@every_tokenizer
def test_a_prompt_has_the_ids_that_it_has_at_generation(name: str) -> None:
    chat = Chat(name)

    @few
    @given(prompt=awkward_text, system=st.none() | awkward_text, response=awkward_text)
    def check(prompt: str, system: str | None, response: str) -> None:
        before = (Message("user", prompt),)
        before = before if system is None else (Message("system", system), *before)
        assume(not chat.forges(before))
        tokens = chat.tokens((*before, Message("assistant", f"{response}?")))  # never empty
        assert tokens.ids[: last_response_start(tokens)] == chat.prompt_ids(before)

    check()


@every_tokenizer
def test_so_has_a_prompt_with_earlier_answers_if_they_are_no_targets(name: str) -> None:
    chat = Chat(name)

    @few
    @given(messages=conversations())
    def check(messages: Messages) -> None:
        *before, last = messages
        assume(not chat.forges(messages))
        segments = chat.renderer.segments(
            (*before, last._replace(content=f"{last.content}?")), num_prompt=len(before)
        )
        tokens = chat.segment_tokenizer.tokens(segments)
        prompt = tokens.ids[: tokens.roles.index(Role.RESPONSE)]
        assert prompt == chat.prompt_ids(tuple(before))

    check()


def test_a_merge_from_the_prompt_into_the_response_is_cut() -> None:
    tokenizer = merging_tokenizer((LINE_BREAK, "a"), template=LINES)
    messages = (Message("user", "q"), Message("assistant", "apple"))
    merged = tokenizer("user\nq\nassistant\napple<end>")["input_ids"]
    tokens = SegmentTokenizer(tokenizer).tokens(ChatRenderer(tokenizer).segments(messages))
    assert len(tokens.ids) == len(merged) + 1  # the line break and the a were one token
    start = last_response_start(tokens)
    assert tokens.ids[:start] == tokenizer("user\nq\nassistant\n")["input_ids"]
    assert tokenizer.decode(tokens.ids[start:]) == "apple<end>"


def test_a_tokenizer_that_looks_ahead_sees_no_response_from_the_prompt() -> None:
    # GPT-2 keeps the last of several line breaks apart when a word follows, so a prompt that ends
    # with two has other tokens before a response than it has alone; no token is across the border.
    tokenizer = merging_tokenizer((LINE_BREAK, LINE_BREAK), template=LINES)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    segments = [Segment("q\n\n", Role.PROMPT), Segment("apple", Role.RESPONSE)]
    tokens = SegmentTokenizer(tokenizer).tokens(segments)
    alone = tokenizer("q\n\n")["input_ids"]
    assert tokenizer("q\n\napple")["input_ids"][: len(alone)] != alone
    assert tokens.ids[: len(alone)] == alone


def test_a_token_across_a_border_of_the_prompt_goes_to_the_text() -> None:
    chat = Chat("merges")
    messages = (Message("user", "aqa"), Message("assistant", "xa"))
    tokens = chat.tokens(messages)
    assert [(run.role, run.text) for run in decode_runs(chat.tokenizer, tokens)] == [
        (Role.TEMPLATE, "user"),
        (Role.PROMPT, "\naqa"),  # its first token is a line break and an a
        (Role.TEMPLATE, "\nassistant\n"),
        (Role.RESPONSE, "xa"),
        (Role.STOP, "<end>"),
    ]
    start = last_response_start(tokens)
    assert tokens.ids[:start] == chat.tokenizer("user\naqa\nassistant\n")["input_ids"]


def test_a_token_over_three_borders_goes_to_the_users_text() -> None:
    tokenizer = merging_tokenizer(("x", "y"), ("xy", "z"), ("xyz", "x"), template="")
    segments = [
        Segment("x", Role.SYSTEM),
        Segment("y", Role.PROMPT, weight=2),
        Segment("z", Role.TEMPLATE),
        Segment("x", Role.RESPONSE),
    ]
    assert len(tokenizer("xyzx")["input_ids"]) == 1
    tokens = SegmentTokenizer(tokenizer).tokens(segments)
    assert tokens.roles == [Role.PROMPT, Role.RESPONSE]
    assert tokens.factors == [2, 1]
    assert [tokenizer.decode(i) for i in tokens.ids] == ["xyz", "x"]


def test_a_token_over_the_markup_between_two_texts_goes_to_the_first() -> None:
    tokenizer = merging_tokenizer(("x", "y"), ("xy", "z"), template="")
    segments = [
        Segment("x", Role.PROMPT),
        Segment("y", Role.TEMPLATE),
        Segment("z", Role.SYSTEM),
        Segment("a", Role.RESPONSE),
    ]
    assert SegmentTokenizer(tokenizer).tokens(segments).roles == [Role.PROMPT, Role.RESPONSE]


def test_a_token_across_the_end_of_a_response_is_cut() -> None:
    tokenizer = merging_tokenizer(("x", "y"), template="")
    segments = [Segment("q", Role.PROMPT), Segment("x", Role.RESPONSE), Segment("y", Role.TEMPLATE)]
    assert SegmentTokenizer(tokenizer).tokens(segments).roles == [s.role for s in segments]


def test_half_a_character_in_a_token_moves_with_all_of_the_character() -> None:
    # The last byte of é is one token with x.
    tokenizer = merging_tokenizer(("\u00a9", "x"), template="")
    segments = [Segment("é", Role.PROMPT), Segment("x", Role.TEMPLATE), Segment("a", Role.RESPONSE)]
    tokens = SegmentTokenizer(tokenizer).tokens(segments)
    assert tokens.roles == [Role.PROMPT, Role.PROMPT, Role.RESPONSE]
    flipped = [Segment("é", Role.TEMPLATE), Segment("x", Role.PROMPT), Segment("a", Role.RESPONSE)]
    tokens = SegmentTokenizer(tokenizer).tokens(flipped)
    assert tokens.roles == [Role.PROMPT, Role.PROMPT, Role.RESPONSE]


def test_tokens_that_share_characters_move_together() -> None:
    # In ééx, a token has the end of the first é and the start of the second; the next has the x.
    tokenizer = merging_tokenizer(("\u00a9", "\u00c3"), ("\u00a9", "x"), template="")
    segments = [Segment("éé", Role.TEMPLATE), Segment("x", Role.PROMPT)]
    assert len(tokenizer("ééx")["input_ids"]) == 3
    assert SegmentTokenizer(tokenizer).tokens(segments).roles == [Role.PROMPT] * 3
    segments = [Segment("é", Role.PROMPT), Segment("éx", Role.TEMPLATE)]
    assert SegmentTokenizer(tokenizer).tokens(segments).roles == [Role.PROMPT] * 3


def test_boilerplate_and_a_users_own_words_share_no_token() -> None:
    tokenizer = merging_tokenizer((":", SPACE), template="")
    segments = [Segment("Do:", Role.BOILERPLATE), Segment(" it", Role.PROMPT)]
    runs = decode_runs(tokenizer, SegmentTokenizer(tokenizer).tokens(segments))
    assert [(run.role, run.text) for run in runs] == [
        (Role.BOILERPLATE, "Do"),
        (Role.PROMPT, ": it"),
    ]


def test_weights_of_segments_are_factors_of_tokens() -> None:
    chat = Chat("embedded")
    messages = (Message("user", "one two"), Message("assistant", "three", weight=0.5))
    tokens = chat.tokens(messages)
    for role, factor in zip(tokens.roles, tokens.factors, strict=True):
        assert factor == (0.5 if role in (Role.RESPONSE, Role.STOP) else 1.0)


def test_characters_of_many_bytes_stay_whole_at_a_border() -> None:
    chat = Chat("embedded")
    messages = (Message("user", "👩\u200d👧"), Message("assistant", "👩\u200d👧"))
    tokens = chat.tokens(messages)
    counts = {role: tokens.roles.count(role) for role in TEXT_ROLES}
    assert counts[Role.PROMPT] == counts[Role.RESPONSE] == len("👩\u200d👧".encode())
    chat.assert_roles_decode(messages)


def test_special_tokens_stand_only_where_the_template_wrote_them() -> None:
    ids = Chat("adds bos").tokens((Message("user", "q"), Message("assistant", "a"))).ids
    bos: Any = embedded_tokenizer().bos_token_id
    assert ids.count(bos) == 1
    assert ids[0] == bos


def test_a_text_with_words_that_the_tokenizer_does_not_know_is_refused() -> None:
    words = Backend(models.WordLevel({"<unk>": 0, "good": 1, "bad": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    known = [Segment("good", Role.PROMPT), Segment("bad", Role.RESPONSE)]
    assert SegmentTokenizer(tokenizer).tokens(known).ids == [1, 2]
    with pytest.raises(DataError, match="role response should read 'ugly' but its tokens read"):
        SegmentTokenizer(tokenizer).tokens([known[0], Segment("ugly", Role.RESPONSE)])


@needs_shared
def test_plain_text_has_the_ids_of_prompt_space_and_response_in_one_piece() -> None:
    # As the authors of weighted instruction tuning tokenise their rows.
    tokenizer = stories_tokenizer("plain")
    chat, segment_tokenizer = ChatRenderer(tokenizer), SegmentTokenizer(tokenizer)
    for prompt, answer in (("Tell me a story.", "Once upon a time."), ("Name it ", "Tim")):
        messages = (Message("user", prompt), Message("assistant", answer))
        tokens = segment_tokenizer.tokens(chat.segments(messages))
        joined = tokenizer(f"{prompt.removesuffix(' ')} {answer}</s>")["input_ids"]
        assert tokens.ids == joined
        alone = tokenizer(prompt.removesuffix(" "))["input_ids"]
        assert last_response_start(tokens) == len(alone)
