"""Small chat templates, and every kind of tokenizer, with what is made of them."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Any

import pytest
from hypothesis import settings
from samples import (
    BORDER_MERGES,
    LINE_BREAK,
    embedded_tokenizer,
    family_tokenizer,
    merging_tokenizer,
    needs_shared,
    stories_tokenizer,
)
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from wit.data.rendering import ChatRenderer, Segment
from wit.data.schema import Message, Messages
from wit.data.templates import template_names
from wit.data.tokenize import SegmentTokenizer, Tokens
from wit.roles import Role
from wit.tokenizers import special_tokens

USER, ANSWER, SYSTEM = Message("user", "q"), Message("assistant", "a"), Message("system", "s")
TURNS = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def renderer(template: str = TURNS) -> ChatRenderer:
    return ChatRenderer(merging_tokenizer(template=template))


def roles(renderer: ChatRenderer, *messages: Message) -> list[tuple[str, str]]:
    return [(segment.role.name.lower(), segment.text) for segment in renderer.segments(messages)]


LINES = (
    "{% for m in messages %}{{ m['role'] }}\n{{ m['content'] }}"
    "{{ '<end>' if m['role'] == 'assistant' else '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant\n{% endif %}"
)


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


OURS = tuple(template_names())
REAL = ("real alpaca", "real tulu", "real zephyr")  # with the real Llama's tokenizer
TOKENIZERS: dict[str, Callable[[], Any]] = {
    "embedded": embedded_tokenizer,
    "trimmed offsets": trimming_tokenizer,
    "adds bos": bos_adding_tokenizer,
    "merges": lambda: merging_tokenizer(
        (LINE_BREAK, "a"), ("a", LINE_BREAK), ("r", LINE_BREAK), ("t", LINE_BREAK), template=LINES
    ),
    **{name: partial(family_tokenizer, name) for name in OURS},
    **{f"merging {name}": partial(family_tokenizer, name, *BORDER_MERGES) for name in OURS},
    **{name: partial(stories_tokenizer, name.removeprefix("real ")) for name in REAL},
}
every_tokenizer = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=needs_shared if name in REAL else ()) for name in TOKENIZERS],
)
# Each of many small examples of one thing: fewer for each, and enough for all of them together.
few = settings(max_examples=25)
byte_level = pytest.mark.parametrize("name", [name for name in TOKENIZERS if name not in REAL])


class Chat:
    """A tokenizer with what is made of it."""

    def __init__(self, name: str) -> None:
        self.tokenizer: Any = TOKENIZERS[name]()
        self.renderer = ChatRenderer(self.tokenizer)
        self.segment_tokenizer = SegmentTokenizer(self.tokenizer)
        self.adds_space = name in REAL
        self.merges = "merg" in name

    def tokens(self, messages: Messages) -> Tokens:
        return self.segment_tokenizer.tokens(self.renderer.segments(messages))

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    def assert_roles_decode(self, messages: Messages) -> None:
        """Decodes every stretch of one role by itself, with nothing of what is tested."""
        tokens, segments = self.tokens(messages), self.renderer.segments(messages)
        assert len(tokens.ids) == len(tokens.roles) == len(tokens.factors)
        if self.merges:
            self._assert_moved(tokens, segments)
        else:
            self._assert_equal(tokens, segments)

    def _assert_equal(self, tokens: Tokens, segments: list[Segment]) -> None:
        stretches = [
            (role, "".join(segment.text for segment in group))
            for role, group in groupby(segments, lambda s: s.role)
        ]
        found = [(Role(role), list(group)) for role, group in self._runs(tokens)]
        assert [role for role, _ in found] == [role for role, _ in stretches]
        for (role, ids), (_, text) in zip(found, stretches, strict=True):
            decoded = self.decode(ids)
            if (
                self.adds_space
            ):  # its decoder takes one space off the front, and puts one behind </s>
                decoded, text = decoded.replace("</s> ", "</s>"), text.replace("</s> ", "</s>")
                assert decoded in {text, text.removeprefix(" "), " " + text}, role
            else:
                assert decoded == text, role

    def _assert_moved(self, tokens: Tokens, segments: list[Segment]) -> None:
        """Responses are exact; text may have got the rest of a token that began or ended in it."""
        assert self.decode(tokens.ids) == "".join(segment.text for segment in segments)
        runs = [(Role(role), self.decode(list(ids))) for role, ids in self._runs(tokens)]
        for role in (Role.RESPONSE, Role.STOP):
            decoded = "".join(text for found, text in runs if found == role)
            assert decoded == "".join(s.text for s in segments if s.role == role)
        for role in (Role.SYSTEM, Role.PROMPT):
            decoded = iter([text for found, text in runs if found == role])
            said = [s.text for s in segments if s.role == role]
            assert all(any(text in run for run in decoded) for text in said)

    @staticmethod
    def _runs(tokens: Tokens) -> Iterator[tuple[int, Iterator[int]]]:
        pairs = zip(tokens.roles, tokens.ids, strict=True)
        for role, group in groupby(pairs, lambda pair: pair[0]):
            yield role, (number for _, number in group)

    def forges(self, messages: Messages) -> bool:
        """Whether a text spells a special token, which generation would take for one."""
        special = special_tokens(self.tokenizer).values()
        return any(token in message.content for message in messages for token in special)

    def prompt_ids(self, messages: Messages) -> list[int]:
        """What a server would give to the model, with nothing of what is tested."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]
