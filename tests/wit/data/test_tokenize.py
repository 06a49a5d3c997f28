"""Law 4: the tokens of a role decode to that role's text, whatever the text and the tokenizer."""

from contextlib import nullcontext, suppress
from itertools import groupby
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from samples import (
    SPECIAL_MARKERS,
    TEXT_ROLES,
    awkward_text,
    conversations,
    embedded_tokenizer,
    merging_tokenizer,
    needs_shared,
    stories_tokenizer,
)
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from wit.data.prepare import last_response_start
from wit.data.rendering import ChatRenderer, Segment
from wit.data.schema import Message, Messages
from wit.data.tokenize import SegmentTokenizer, Tokens
from wit.errors import DataError
from wit.roles import Role

LINES = (
    "{% for m in messages %}{{ m['role'] }}\n{{ m['content'] }}"
    "{{ '<end>' if m['role'] == 'assistant' else '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant\n{% endif %}"
)
LINE_BREAK = "\u010a"  # as byte-level BPE spells it


def trimming_tokenizer() -> PreTrainedTokenizerFast:
    """Takes white space out of its offsets, as byte-level tokenizers do by default."""
    tokenizer = embedded_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def bos_adding_tokenizer() -> PreTrainedTokenizerFast:
    """Puts a special token in front of every text, and cuts and pads what it gets."""
    tokenizer = embedded_tokenizer()
    backend = tokenizer.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", tokenizer.bos_token_id)]
    )
    backend.enable_truncation(8)
    backend.enable_padding(length=64)
    return tokenizer


TOKENIZERS = {
    "embedded": embedded_tokenizer,
    "trimmed offsets": trimming_tokenizer,
    "adds bos": bos_adding_tokenizer,
    "merges": lambda: merging_tokenizer(
        (LINE_BREAK, "a"), ("a", LINE_BREAK), ("r", LINE_BREAK), ("t", LINE_BREAK), template=LINES
    ),
    "alpaca": lambda: stories_tokenizer("alpaca"),
    "tulu": lambda: stories_tokenizer("tulu"),
}
OURS = ("alpaca", "tulu")  # templates, with the real Llama's tokenizer
every_tokenizer = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=needs_shared if name in OURS else ()) for name in TOKENIZERS],
)


class Chat:
    """A tokenizer with what is made of it."""

    def __init__(self, name: str) -> None:
        self.tokenizer: Any = TOKENIZERS[name]()
        self.renderer = ChatRenderer(self.tokenizer)
        self.segment_tokenizer = SegmentTokenizer(self.tokenizer)
        self.adds_space = name in OURS

    def tokens(self, messages: Messages) -> Tokens:
        return self.segment_tokenizer.tokens(self.renderer.segments(messages))

    def check(self, messages: Messages) -> None:
        """Decodes every stretch of one role by itself, with nothing of what is tested."""
        ids, roles = self.tokens(messages)
        assert len(ids) == len(roles)
        stretches = [
            (role, "".join(segment.text for segment in group))
            for role, group in groupby(self.renderer.segments(messages), lambda s: s.role)
        ]
        position = 0
        found = [(Role(role), len(list(group))) for role, group in groupby(roles)]
        assert [role for role, _ in found] == [role for role, _ in stretches]
        for (role, length), (_, text) in zip(found, stretches, strict=True):
            decoded = self.tokenizer.decode(
                ids[position : position + length], clean_up_tokenization_spaces=False
            )
            # Its decoder takes one space from the front of whatever it is given.
            allowed = {text, text.removeprefix(" "), " " + text} if self.adds_space else {text}
            assert decoded in allowed, role
            position += length
        # Nor does a cut add or lose anything: the row reads like its text tokenised in one piece.
        text = "".join(text for _, text in stretches)
        whole = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert self.tokenizer.decode(ids) == self.tokenizer.decode(whole)


@every_tokenizer
def test_tokens_of_a_role_decode_to_its_text(name: str) -> None:
    chat = Chat(name)
    given(messages=conversations())(chat.check)()


@pytest.mark.parametrize("name", ["embedded", "trimmed offsets", "adds bos", "merges"])
def test_texts_that_spell_special_tokens_keep_their_roles(name: str) -> None:
    chat = Chat(name)
    given(messages=conversations(awkward_text | st.sampled_from(SPECIAL_MARKERS)))(chat.check)()


@needs_shared
@pytest.mark.parametrize("name", OURS)
def test_texts_that_cannot_be_spelled_are_refused_not_trained_on(name: str) -> None:
    # The first Llama's tokenizer puts a space after a special token that stands within a text, and
    # has no token for the character that stands for a space in its vocabulary.
    chat = Chat(name)
    texts = awkward_text | st.sampled_from([*SPECIAL_MARKERS, "a</s>b", "a\u2581b"])

    def check(messages: Messages) -> None:
        is_awkward = any("\u2581" in m.content or "s>" in m.content for m in messages)
        with suppress(DataError) if is_awkward else nullcontext():
            chat.check(messages)

    given(messages=conversations(texts))(check)()
    for text in ("a\u2581b", "a</s>b"):
        with pytest.raises(DataError, match="should read"):
            chat.tokens((Message("user", text), Message("assistant", "a")))


@pytest.mark.parametrize(
    "name",
    ["embedded", "trimmed offsets", *(pytest.param(n, marks=needs_shared) for n in OURS)],
)
def test_a_prompt_has_the_ids_that_it_has_at_generation(name: str) -> None:
    chat = Chat(name)

    @given(prompt=awkward_text, system=st.none() | awkward_text, response=awkward_text)
    def check(prompt: str, system: str | None, response: str) -> None:
        before = (Message("user", prompt),)
        before = before if system is None else (Message("system", system), *before)
        turns = [message._asdict() for message in before]
        text = chat.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        tokens = chat.tokens((*before, Message("assistant", f"{response}?")))  # never empty
        alone = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokens.ids[: last_response_start(tokens)] == alone

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


def test_merges_across_every_other_border_are_cut_too() -> None:
    chat = Chat("merges")
    messages = (Message("user", "aqa"), Message("assistant", "xa"))
    joined = chat.tokenizer("user\naqa\nassistant\nxa<end>")["input_ids"]
    across = chat.tokenizer.convert_tokens_to_ids(["a" + LINE_BREAK, LINE_BREAK + "a"])
    assert set(across) & set(joined)
    tokens = chat.tokens(messages)
    prompt = [i for i, role in zip(*tokens, strict=True) if role == Role.PROMPT]
    assert [chat.tokenizer.decode(i) for i in prompt] == ["a", "q", "a"]
    chat.check(messages)


def test_a_token_over_three_borders_is_cut_at_each() -> None:
    tokenizer = merging_tokenizer(("x", "y"), ("xy", "z"), ("xyz", "x"), template="")
    segments = [
        Segment("x", Role.SYSTEM),
        Segment("y", Role.PROMPT),
        Segment("z", Role.TEMPLATE),
        Segment("x", Role.RESPONSE),
    ]
    assert len(tokenizer("xyzx")["input_ids"]) == 1
    tokens = SegmentTokenizer(tokenizer).tokens(segments)
    assert tokens.roles == [segment.role for segment in segments]
    assert [tokenizer.decode(i) for i in tokens.ids] == ["x", "y", "z", "x"]


def test_characters_of_many_bytes_stay_whole_at_a_border() -> None:
    chat = Chat("embedded")
    messages = (Message("user", "👩\u200d👧"), Message("assistant", "👩\u200d👧"))
    tokens = chat.tokens(messages)
    counts = {role: tokens.roles.count(role) for role in TEXT_ROLES}
    assert counts[Role.PROMPT] == counts[Role.RESPONSE] == len("👩\u200d👧".encode())
    chat.check(messages)


def test_special_tokens_stand_only_where_the_template_wrote_them() -> None:
    ids = Chat("adds bos").tokens((Message("user", "q"), Message("assistant", "a"))).ids
    bos = embedded_tokenizer().bos_token_id
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
