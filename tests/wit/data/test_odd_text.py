"""Text that spells markup never becomes markup; other odd text keeps its role or is refused."""

import time
from contextlib import nullcontext, suppress
from typing import Any

import hypothesis.strategies as st
import pytest
from chats import LINES, REAL, Chat, byte_level, every_tokenizer, few
from hypothesis import given
from samples import (
    SPECIAL_MARKERS,
    awkward_text,
    conversations,
    family_tokenizer,
    merging_tokenizer,
    needs_shared,
)
from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from wit.data.rendering import ChatRenderer, Segment
from wit.data.schema import Message, Messages
from wit.data.tokenize import SegmentTokenizer, Tokens, decode_runs
from wit.errors import DataError
from wit.roles import Role
from wit.tokenizers import special_tokens


@byte_level
def test_texts_that_spell_special_tokens_keep_their_roles(name: str) -> None:
    chat = Chat(name)
    special = set(special_tokens(chat.tokenizer))

    @few
    @given(messages=conversations(awkward_text | st.sampled_from(SPECIAL_MARKERS)))
    def check(messages: Messages) -> None:
        chat.assert_roles_decode(messages)
        ids, roles, _ = chat.tokens(messages)
        where = {Role(role) for n, role in zip(ids, roles, strict=True) if n in special}
        assert where <= {Role.SPECIAL, Role.TEMPLATE, Role.STOP}

    check()


@needs_shared
@pytest.mark.parametrize("name", REAL)
def test_texts_that_cannot_be_spelled_are_refused_not_trained_on(name: str) -> None:
    # The first Llama's tokenizer has no token for the character that stands for a space in its
    # vocabulary. It can spell its special tokens in letters.
    chat = Chat(name)
    texts = awkward_text | st.sampled_from([*SPECIAL_MARKERS, "a</s>b", "a\u2581b"])

    def check(messages: Messages) -> None:
        is_awkward = any("\u2581" in m.content for m in messages)
        with suppress(DataError) if is_awkward else nullcontext():
            chat.tokens(messages)

    few(given(messages=conversations(texts))(check))()
    with pytest.raises(DataError, match="should read"):
        chat.tokens((Message("user", "a\u2581b"), Message("assistant", "a")))
    forged = chat.tokens((Message("user", "a</s>b"), Message("assistant", "a</s>b")))
    stops = [r for n, r in zip(forged.ids, forged.roles, strict=True) if n == 2]
    assert stops.count(Role.STOP) == 1
    assert Role.PROMPT not in stops
    assert Role.RESPONSE not in stops


def run_texts(tokenizer: Any, tokens: Tokens) -> list[tuple[str, str]]:
    return [(run.role.name.lower(), run.text) for run in decode_runs(tokenizer, tokens)]


def test_an_added_token_is_markup_only_where_the_template_uses_it_so() -> None:
    tokenizer = family_tokenizer("tulu")
    tokenizer.add_tokens(["[INST]", "<think>"])  # not special
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '[INST]' if m['role'] == 'user' else '</s>' if m['role'] == "
        "'system' }}{{ m['content'] }}{{ '</s>' if m['role'] == 'assistant' }}{% endfor %}"
    )
    marker, thought = (tokenizer.get_vocab()[token] for token in ("[INST]", "<think>"))
    messages = (Message("user", "[INST]<think>"), Message("assistant", "<think>[INST]"))
    segments = ChatRenderer(tokenizer).segments(messages)
    tokens = SegmentTokenizer(tokenizer).tokens(segments)
    # Around the text that spells markup, every other token is what it always is.
    assert tokens.ids.count(marker) == 1
    assert tokens.ids[0] == marker
    assert tokens.ids.count(thought) == 2
    assert run_texts(tokenizer, tokens)[1:3] == [
        ("prompt", "[INST]<think>"),
        ("response", "<think>[INST]"),
    ]


def test_white_space_among_the_added_tokens_is_text_like_other() -> None:
    # As Gemma has line breaks there, one token for each number of them.
    tokenizer = family_tokenizer("gemma")
    tokenizer.add_tokens(["\n"])
    line_break = tokenizer.get_vocab()["\n"]
    messages = (Message("user", "a\nb"), Message("assistant", "a\nb"))
    renderer = ChatRenderer(tokenizer)
    tokens = SegmentTokenizer(tokenizer).tokens(renderer.segments(messages))
    roles = [r for n, r in zip(tokens.ids, tokens.roles, strict=True) if n == line_break]
    assert roles.count(Role.PROMPT) == roles.count(Role.RESPONSE) == 1
    assert renderer.stop == "<end_of_turn>"


def test_an_added_token_that_the_model_has_to_write_is_no_markup() -> None:
    tokenizer = family_tokenizer("tulu")
    tokenizer.add_tokens(["<think>"])  # not special
    thought = tokenizer.get_vocab()["<think>"]
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '|<think>' if m['role'] == 'assistant' }}{{ m['content'] }}"
        "{{ '</s>' if m['role'] == 'assistant' }}{% endfor %}{{ '|' if add_generation_prompt }}"
    )
    messages = (Message("user", "<think>"), Message("assistant", "<think>a"))
    segments = ChatRenderer(tokenizer).segments(messages)
    tokens = SegmentTokenizer(tokenizer).tokens(segments)
    assert tokens.ids.count(thought) == 3
    assert run_texts(tokenizer, tokens)[-2] == ("response", "<think><think>a")


@pytest.mark.parametrize(
    "halves",
    [
        [Segment("q<en", Role.PROMPT, is_content=True), Segment("d>", Role.TEMPLATE)],
        [Segment("<en", Role.TEMPLATE), Segment("d>q", Role.PROMPT, is_content=True)],
    ],
)
def test_a_marker_half_of_which_is_markup_is_no_token(halves: list[Segment]) -> None:
    tokenizer = merging_tokenizer(template="")
    segments = [*halves, Segment("a", Role.RESPONSE, is_content=True)]
    tokens = SegmentTokenizer(tokenizer).tokens(segments)
    assert tokenizer.eos_token_id not in tokens.ids
    assert [text for _, text in run_texts(tokenizer, tokens)] == [s.text for s in segments]


def test_a_marker_that_swallows_white_space_keeps_its_role() -> None:
    # As those of Phi-3: no token stands for the line break behind them.
    tokenizer = merging_tokenizer(template=LINES.replace("\n", "<|x|>\n"))
    swallowing = AddedToken("<|x|>", special=True, rstrip=True)
    tokenizer.backend_tokenizer.add_special_tokens([swallowing])
    messages = (Message("user", " q"), Message("assistant", "\na"))
    tokens = SegmentTokenizer(tokenizer).tokens(ChatRenderer(tokenizer).segments(messages))
    assert run_texts(tokenizer, tokens) == [
        ("template", "user<|x|>"),
        ("prompt", "q"),
        ("template", "<|x|>assistant<|x|>"),
        ("response", "\na"),
        ("stop", "<end>"),
    ]


def test_a_special_token_that_a_vocabulary_has_as_a_word_is_refused() -> None:
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("a", -1.0), ("b", -1.0)]
    unigram = Backend(models.Unigram(pieces, unk_id=0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=unigram, unk_token="<unk>", eos_token="</s>"
    )
    safe = [Segment("a", Role.PROMPT, is_content=True), Segment("b", Role.RESPONSE)]
    assert SegmentTokenizer(tokenizer).tokens(safe).ids == [2, 3]
    forged = [Segment("a</s>", Role.PROMPT, is_content=True), Segment("b", Role.RESPONSE)]
    with pytest.raises(DataError, match="role prompt: 'a</s>' has a special token in it"):
        SegmentTokenizer(tokenizer).tokens(forged)


@every_tokenizer
def test_nul_is_a_character_like_others(name: str) -> None:
    chat = Chat(name)
    chat.assert_roles_decode((Message("user", "a\0b"), Message("assistant", "\0")))


@pytest.mark.parametrize("unit", ["word and more. ", "a<|end|>b "])
def test_a_row_of_a_megabyte_takes_seconds(unit: str) -> None:
    chat = Chat("embedded")
    messages = (Message("user", unit * (1_000_000 // len(unit))), Message("assistant", "a"))
    start = time.process_time()
    tokens = chat.tokens(messages)
    assert time.process_time() - start < 10  # a bound for a busy machine, 1 or 2 on its own
    assert tokens.roles.count(Role.STOP) == 1


def test_an_error_shows_where_the_texts_part() -> None:
    words = Backend(models.WordLevel({"<unk>": 0, "good": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split("|", "removed")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    long = "good " * 100
    with pytest.raises(DataError, match="role prompt should read ") as caught:
        SegmentTokenizer(tokenizer).tokens([Segment(long, Role.PROMPT)])
    assert len(str(caught.value)) < 200
