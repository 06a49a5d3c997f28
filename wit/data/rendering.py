"""From messages to the text that the model sees, cut into segments of one role each.

Roles come from the rendered text. A template is rendered once for every sequence of message
roles with a sentinel in place of each content; what stands around the sentinels is markup. Every
real row is then rendered too, and must equal markup and contents put together.
"""

from functools import lru_cache
from typing import NamedTuple

from jinja2 import TemplateError

from wit.data.schema import Message, Messages
from wit.errors import BaseModelError, DataError
from wit.roles import Role
from wit.tokenizers import Tokenizer

ROLE_OF_MESSAGE = {"system": Role.SYSTEM, "user": Role.PROMPT, "assistant": Role.RESPONSE}


class Segment(NamedTuple):
    """A piece of rendered text that has one role."""

    text: str
    role: Role


class ChatRenderer:
    """Renders conversations with the chat template of one tokenizer.

    Attributes:
        stop: Text of the token that ends a response.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Finds the stop token.

        Raises:
            BaseModelError: There is no template, or it ends a response with no special token.
        """
        if not tokenizer.chat_template:
            raise BaseModelError(f"{tokenizer.name_or_path}: has no chat template")
        self.tokenizer = tokenizer
        self._markup_of = lru_cache(maxsize=None)(self._find_markup)
        self.stop = self._find_stop()

    def segments(self, messages: Messages) -> list[Segment]:
        """The conversation as the model sees it, up to the stop token of its last response.

        Args:
            messages: The last one must be the assistant's.

        Raises:
            DataError: The template does not render these messages faithfully.
        """
        markup = self._markup_of(tuple(message.role for message in messages))
        rendered = self._render(messages)
        if not rendered.startswith(markup[0]):
            raise DataError(f"the chat template starts with {rendered[:60]!r}, not {markup[0]!r}")
        if not markup[-1].startswith(self.stop):
            raise DataError(f"the chat template does not end the last response with {self.stop!r}")
        segments, position = [], 0
        for index, message in enumerate(messages):
            before = markup[index]
            position += len(before)
            content = self._content_at(rendered, position, message, markup[index + 1])
            after_response = index > 0 and messages[index - 1].role == "assistant"
            segments += self._roles_of_markup(before, after_response)
            segments.append(Segment(content, ROLE_OF_MESSAGE[message.role]))
            position += len(content)
        segments.append(Segment(self.stop, Role.STOP))
        return [segment for segment in segments if segment.text]

    def prompt(self, messages: Messages) -> list[Segment]:
        """A conversation that waits for an answer, with the header of the answer.

        Raises:
            DataError: As ``segments``.
        """
        segments = self.segments((*messages, Message("assistant", "?")))
        return segments[:-2]

    def _content_at(self, rendered: str, start: int, message: Message, after: str) -> str:
        # Many templates strip contents; nothing else is allowed to happen to them.
        for content in (message.content, message.content.strip()):
            if rendered.startswith(content + after, start):
                return content
        raise DataError(
            f"the chat template changes the {message.role} message {message.content!r:.60}; "
            f"it renders {rendered[start : start + 60]!r}"
        )

    def _roles_of_markup(self, text: str, after_response: bool) -> list[Segment]:
        segments = []
        for token, role, is_due in (
            (self.stop, Role.STOP, after_response),
            (self.tokenizer.bos_token, Role.SPECIAL, True),
        ):
            if is_due and token and text.startswith(token):
                segments.append(Segment(token, role))
                text = text.removeprefix(token)
        return [*segments, Segment(text, Role.TEMPLATE)]

    def _find_markup(self, roles: tuple[str, ...]) -> list[str]:
        """What the template puts before, between and after messages of these roles."""
        sentinels = tuple(Message(role, f"wit{i}sentinel") for i, role in enumerate(roles))
        rendered = rest = self._render(sentinels)
        markup = []
        for index, sentinel in enumerate(sentinels):
            before, found, rest = rest.partition(sentinel.content)
            if not found:
                raise DataError(f"the chat template leaves out {sentinel.role} messages")
            markup.append(before)
            if sentinel.role == "assistant":
                start = rendered.index(sentinel.content)
                self._check_generation_prompt(sentinels[:index], rendered[:start])
        return [*markup, rest]

    def _check_generation_prompt(self, messages: Messages, expected: str) -> None:
        """What is generated must start exactly where the response started in training."""
        prompt = self._render(messages, add_generation_prompt=True)
        if prompt != expected:
            raise BaseModelError(
                "the chat template starts a response differently in training and in generation: "
                f"{expected[-40:]!r} against {prompt[-40:]!r}"
            )

    def _find_stop(self) -> str:
        try:
            after = self._markup_of(("user", "assistant"))[-1]
        except DataError as error:
            raise BaseModelError(
                f"{self.tokenizer.name_or_path}: not even a question and its answer: {error}"
            ) from None
        known = sorted(self.tokenizer.get_added_vocab(), key=len, reverse=True)
        for token in known:
            if after.startswith(token):
                return token
        raise BaseModelError(
            f"{self.tokenizer.name_or_path}: its chat template ends a response with {after!r:.40}, "
            "which is no special token, so the model could never learn to stop"
        )

    def _render(self, messages: Messages, *, add_generation_prompt: bool = False) -> str:
        turns = [message._asdict() for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateError as error:
            raise DataError(f"the chat template refuses these messages: {error}") from None
        assert isinstance(text, str)
        return text
