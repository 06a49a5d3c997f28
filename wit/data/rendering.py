"""From messages to the text that the model sees, cut into segments of one role each.

Roles come from the rendered text: every row is rendered, and must equal the markup of its layout
and its own texts put together.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

from jinja2 import TemplateError, TemplateSyntaxError
from transformers.utils.chat_template_utils import (
    _compile_jinja_template,  # pyright: ignore[reportPrivateUsage]
)

from wit.data.layout import Layout, LayoutFinder, Part, Turn
from wit.data.schema import Message, Messages
from wit.errors import BaseModelError, DataError
from wit.roles import Role
from wit.tokenizers import Tokenizer, markup_tokens

ROLE_OF_MESSAGE = {
    "system": Role.SYSTEM,
    "user": Role.PROMPT,
    "assistant": Role.RESPONSE,
    "tool": Role.PROMPT,
}
NUM_LAYOUTS = 4096  # kept: a set has few sequences of turns, unless its conversations are long


class Segment(NamedTuple):
    """A piece of rendered text that has one role."""

    text: str
    role: Role
    weight: float = 1.0  # factor on the loss weight of its tokens
    is_content: bool = False  # text of a row: what spells a special token there is plain text


class Boilerplate(Protocol):
    """Knows text that the prompts of a set have in common."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where such text stands: sorted, disjoint ranges of characters, without their ends."""
        ...


class ChatRenderer:
    """Renders conversations with the chat template of one tokenizer.

    Attributes:
        stop: Text of the token that ends a response.
    """

    def __init__(self, tokenizer: Tokenizer, boilerplate: Boilerplate | None = None) -> None:
        """Finds the stop token.

        Args:
            tokenizer: With a chat template.
            boilerplate: Finds it in what users wrote; unset: only the template writes any.

        Raises:
            BaseModelError: There is no template, it ends a response with no special token, or it
                starts a response in another way than generation does.
        """
        where = tokenizer.name_or_path
        if not tokenizer.chat_template:
            raise BaseModelError(f"{where}: has no chat template")
        self.tokenizer = tokenizer
        self._boilerplate = boilerplate
        # What ``apply_chat_template`` calls, without its copies of plain text: a third of the time.
        try:
            self._compiled = _compile_jinja_template(tokenizer.get_chat_template())
        except TemplateSyntaxError as error:
            said = f"line {error.lineno} of the chat template: {error.message}"
            raise BaseModelError(f"{where}: {said}") from None
        # Copied for every row, which of a chain of mappings takes as long as to render.
        self._compiled.globals = dict(self._compiled.globals)
        self._tokens = tokenizer.special_tokens_map
        added = list(markup_tokens(tokenizer).values())
        try:
            finder = LayoutFinder(self._render, ROLE_OF_MESSAGE, added, tokenizer.bos_token)
        except BaseModelError as error:
            raise BaseModelError(f"{where}: {error}") from None
        self._layout = lru_cache(maxsize=NUM_LAYOUTS)(finder.find)
        self._knows_input = finder.knows_input
        self.stop = finder.stop

    def segments(self, messages: Messages, *, num_prompt: int = 0) -> list[Segment]:
        """The conversation as the model sees it, up to the stop token of its last response.

        A message's weight is that of its text and, after a response, of its stop token. Markup has
        weight 1, but a message of weight 0 is not to be learned at all, so the markup before its
        text has weight 0 too.

        Args:
            messages: The last one must be the assistant's.
            num_prompt: Responses among the first so many messages, which are then no targets, count
                as prompt and their stop tokens as template.

        Raises:
            DataError: The template does not render these messages faithfully.
        """
        return [
            _as_prompt(segment) if message < num_prompt else segment
            for message, segment in self._segments(messages)
        ]

    def prompt(self, messages: Messages) -> list[Segment]:
        """A conversation that waits for an answer, with the header of the answer.

        Raises:
            DataError: As ``segments``.
        """
        return [
            segment
            for message, segment in self._segments((*messages, Message("assistant", "?")))
            if message < len(messages) or segment.role not in (Role.RESPONSE, Role.STOP)
        ]

    def _segments(self, messages: Messages) -> Iterator[tuple[int, Segment]]:
        """Every segment with the number of the message that it belongs to."""
        if messages[0].role == "assistant":
            raise DataError("begins with the assistant's message, so that nothing asks for it")
        if not self._knows_input:
            messages = tuple(
                m._replace(content=m.text, input="") if m.input else m for m in messages
            )
        for part in self._layout_of(messages).parts:
            text = part.text_of(messages)
            weight = messages[part.message].weight
            if part.role == Role.PROMPT and messages[part.message].role == "user":
                for segment in self._user_text(text, weight):
                    yield part.message, segment
            elif part.field:
                if text:
                    yield part.message, Segment(text, part.role, weight, is_content=True)
            else:
                is_own = part.role in (Role.RESPONSE, Role.STOP) or weight == 0
                yield part.message, Segment(text, part.role, weight if is_own else 1.0)

    def _user_text(self, text: str, weight: float) -> Iterator[Segment]:
        position = 0
        spans = self._boilerplate.spans(text) if self._boilerplate else []
        for start, end in [*spans, (len(text), len(text))]:
            for stop, role in ((start, Role.PROMPT), (end, Role.BOILERPLATE)):
                if position < stop:
                    yield Segment(text[position:stop], role, weight, is_content=True)
                    position = stop

    def _layout_of(self, messages: Messages) -> Layout:
        rendered = self._render(messages)
        turns = tuple(Turn(message.role, bool(message.input)) for message in messages)
        layout = self._layout(turns)
        if _fits(layout, messages, rendered):
            return layout
        # Some templates ask whether there is system text, and write another markup without it.
        blank = tuple(
            turn._replace(is_blank=turn.role == "system" and not message.content.strip())
            for turn, message in zip(turns, messages, strict=True)
        )
        if blank != turns and _fits(other := self._layout(blank), messages, rendered):
            return other
        raise DataError(_difference(layout.parts, messages, rendered))

    def _render(self, messages: Messages, add_generation_prompt: bool = False) -> str:
        turns = [
            {"role": message.role, "content": message.content}
            | ({"input": message.input} if message.input else {})
            for message in messages
        ]
        try:
            return self._compiled.render(
                messages=turns,
                tools=None,  # as at generation: templates write of tools where there is a list
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._tokens,
            )
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            raise DataError(f"the chat template refuses these messages: {error}") from None


def _as_prompt(segment: Segment) -> Segment:
    if segment.role == Role.RESPONSE:
        return segment._replace(role=Role.PROMPT)
    return segment._replace(role=Role.TEMPLATE) if segment.role == Role.STOP else segment


def _fits(layout: Layout, messages: Messages, rendered: str) -> bool:
    return "".join(part.text_of(messages) for part in layout.parts) + layout.rest == rendered


def _difference(parts: tuple[Part, ...], messages: Messages, rendered: str) -> str:
    """Names the first message that the template does not render as the layout has it."""
    position = start = 0
    changed: Message | None = None
    for part in parts:
        if part.field:
            start, changed = position, messages[part.message]
        text = part.text_of(messages)
        if not rendered.startswith(text, position):
            break
        position += len(text)
    if changed is None:
        return f"the chat template starts with {rendered[:60]!r}, not {parts[0].text!r:.60}"
    return (
        f"the chat template changes the {changed.role} message {changed.content!r:.60}; "
        f"it renders {rendered[start : start + 60]!r}"
    )
