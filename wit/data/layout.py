"""What a chat template writes around the texts of a conversation, and the roles of that markup.

A template is rendered once for every sequence of turns with a sentinel in place of each text; what
stands around the sentinels is markup. It is rendered again with white space around the sentinels,
to see what the template strips.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from wit.data.schema import Message, Messages
from wit.errors import BaseModelError, DataError
from wit.roles import Role

# What templates are known to do to a text; nothing else is allowed to happen to it.
STRIPS: tuple[Callable[[str], str], ...] = (
    str,
    str.strip,
    lambda text: text.removesuffix(" "),
    str.rstrip,
    str.lstrip,
    lambda text: text.strip("\n"),
    lambda text: text.lstrip("\n"),
    lambda text: text.rstrip("\n"),
)
PADDING = (("\n \t", "\t\n "), ("\n \t", "\t \n"))  # together they tell all strips apart
WORDS_OF_PROSE = 4  # a line of the markup with so many is prose; a header has fewer
# A line with the white space after it, so that no token need reach across the end of prose.
LINE = re.compile(r"[^\n]*\S[^\n]*\s*|\s+")


class Turn(NamedTuple):
    """All that a layout depends on of a message, as far as we know."""

    role: str
    has_input: bool = False
    is_blank: bool = False  # without text, and the template asks whether there is any


class Part(NamedTuple):
    """Markup that stands in every conversation of a layout, or the place of a text of the row."""

    role: Role
    message: int  # number of the message whose header or text it is
    text: str = ""  # of markup
    field: str = ""  # of the message, whose text stands here; empty: this is markup
    strip: Callable[[str], str] = str

    def text_of(self, messages: Messages) -> str:
        """What stands here in a conversation."""
        return self.strip(getattr(messages[self.message], self.field)) if self.field else self.text


class Layout(NamedTuple):
    """All that a template writes for conversations of one sequence of turns."""

    parts: tuple[Part, ...]  # up to the stop token of the last response
    rest: str  # what follows it


class _Slot(NamedTuple):
    """The place of a text in the rendered sentinels."""

    start: int
    end: int
    message: int
    field: str


class LayoutFinder:
    """Finds the layouts of one template."""

    def __init__(
        self,
        render: Callable[[Messages, bool], str],
        role_of: dict[str, Role],
        added_tokens: list[str],
        bos_token: str | None,
    ) -> None:
        """Finds the stop token.

        Args:
            render: Messages and whether a generation prompt follows -> text.
            role_of: Role of a message -> role of its text.
            added_tokens: Those that templates may use as markup.
            bos_token: Text of the token that begins a text, if there is one.

        Raises:
            BaseModelError: The template ends a response with none of the tokens, or starts it in
                another way than generation does.
        """
        self._render, self._role_of = render, role_of
        longest_first = sorted(added_tokens, key=len, reverse=True)
        # Without any token the pattern must match nowhere, and not the empty text.
        self._token = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        try:
            self.knows_input = self._find_input()
            self.stop, self._before_stop = self._find_stop()
            self._bos = bos_token
            self.find((Turn("user"), Turn("assistant")))
        except DataError as error:
            raise BaseModelError(f"not even a question and its answer: {error}") from None

    def find(self, turns: tuple[Turn, ...]) -> Layout:
        """The layout of conversations of these turns, of which the last is the assistant's.

        Raises:
            DataError: The template does not render such turns.
            BaseModelError: It starts a response in another way than generation does.
        """
        sentinels = _sentinels(turns)
        rendered = self._render(sentinels, False)
        slots = list(self._slots(turns, sentinels, rendered))
        if slots[-1].message != len(turns) - 1:
            raise DataError("the chat template does not put the last response at its end")
        strips = self._strips(turns, slots, rendered)
        parts: list[Part] = []
        end = 0
        for index, (slot, strip) in enumerate(zip(slots, strips, strict=True)):
            if index:
                end += self._add_stop(parts, rendered[end : slot.start], turns, slots[index - 1])
            header_end = slot.start
            if turns[slot.message].role == "assistant":
                header_end = self._prompt_end(sentinels[: slot.message], rendered, slot, end)
            parts += self._markup(rendered[end:header_end], slot.message, is_first=not index)
            parts.append(Part(Role.RESPONSE, slot.message, rendered[header_end : slot.start]))
            role = self._role_of[turns[slot.message].role]
            parts.append(Part(role, slot.message, field=slot.field, strip=strip))
            end = slot.end
        end += self._add_stop(parts, rendered[end:], turns, slots[-1])
        if parts[-1].role != Role.STOP:
            raise DataError(f"the chat template does not end the last response with {self.stop!r}")
        return Layout(tuple(p for p in parts if p.text or p.field), rendered[end:])

    def _find_input(self) -> bool:
        """Whether the template writes a message's ``input`` apart."""
        question, answer = Message("user", "q", input="wit0input"), Message("assistant", "a")
        return "wit0input" in self._render((question, answer), False)

    def _find_stop(self) -> tuple[str, str]:
        """The token that ends a response, and the text that stands before it."""
        sentinels = _sentinels((Turn("user"), Turn("assistant")))
        _, answer, after = self._render(sentinels, False).rpartition(sentinels[-1].content)
        if not answer:
            raise DataError("the chat template leaves out assistant messages")
        if found := self._token.search(after):
            return found[0], after[: found.start()]
        raise BaseModelError(
            f"its chat template ends a response with {after!r:.40}, "
            "which is no special token, so the model could never learn to stop"
        )

    def _slots(
        self, turns: tuple[Turn, ...], sentinels: Messages, rendered: str
    ) -> Iterator[_Slot]:
        """Places of texts in the order of the rendered text; some templates move system text."""
        found: list[_Slot] = []
        for index, (turn, sentinel) in enumerate(zip(turns, sentinels, strict=True)):
            if turn.is_blank:
                continue
            for field in ("content", "input")[: 1 + turn.has_input]:
                text = getattr(sentinel, field)
                start = rendered.find(text)
                if start < 0:
                    raise DataError(f"the chat template leaves out {turn.role} messages")
                found.append(_Slot(start, start + len(text), index, field))
        yield from sorted(found)

    def _strips(
        self, turns: tuple[Turn, ...], slots: list[_Slot], rendered: str
    ) -> list[Callable[[str], str]]:
        """What the template takes off each text."""
        after = [b.start for b in slots[1:]] + [len(rendered)]
        markup = [rendered[slot.end : end] for slot, end in zip(slots, after, strict=True)]
        candidates = [list(STRIPS) for _ in slots]
        for padding in PADDING:
            padded = _sentinels(turns, *padding)
            whole = self._render(padded, False)
            position = slots[0].start
            for index, slot in enumerate(slots):
                text = getattr(padded[slot.message], slot.field)
                fitting = [
                    strip
                    for strip in candidates[index]
                    if whole.startswith(strip(text) + markup[index], position)
                ]
                # Nothing fits what a template changes in another way; rows will tell.
                candidates[index] = fitting or [str]
                position += len(candidates[index][0](text) + markup[index])
        return [fitting[0] for fitting in candidates]

    def _prompt_end(self, before: Messages, rendered: str, slot: _Slot, start: int) -> int:
        """Where the model begins to write: all that follows is its response.

        So the response has what the template puts between its generation prompt and the answer,
        such as a space or an empty block of thoughts.

        Raises:
            BaseModelError: What is generated would start elsewhere than the response in training.
        """
        prompt = self._render(before, True)
        begins = rendered.startswith(prompt) and start <= len(prompt)
        has_header = bool(rendered[len(prompt) : slot.start].strip())
        if not begins or (has_header and prompt == self._render(before, False)):
            raise BaseModelError(
                "the chat template starts a response differently in training and in generation: "
                f"{rendered[: slot.start][-40:]!r} against {prompt[-40:]!r}"
            )
        return len(prompt)

    def _add_stop(self, parts: list[Part], text: str, turns: tuple[Turn, ...], slot: _Slot) -> int:
        """Adds what ends a response, if the text after it starts with that; returns its length."""
        before, found, _ = text.partition(self.stop)
        is_due = turns[slot.message].role == "assistant"
        if not (is_due and found and (before == self._before_stop or not before.strip())):
            return 0
        parts.append(Part(Role.RESPONSE, slot.message, before))
        parts.append(Part(Role.STOP, slot.message, self.stop))
        return len(before) + len(self.stop)

    def _markup(self, text: str, message: int, *, is_first: bool) -> Iterator[Part]:
        """Beginnings of text, prose and headers of the markup before a text."""
        # Where one token begins a text and ends a response, it is the first only at the very start.
        bos = self._bos if is_first or self._bos != self.stop else None
        role, so_far = Role.TEMPLATE, ""
        for piece, piece_role in self._pieces(text, bos):
            if piece_role != role:
                yield Part(role, message, so_far)
                role, so_far = piece_role, ""
            so_far += piece
        yield Part(role, message, so_far)

    def _pieces(self, text: str, bos: str | None) -> Iterator[tuple[str, Role]]:
        position = 0
        for token in [*self._token.finditer(text), None]:
            end = token.start() if token else len(text)
            for line in LINE.findall(text[position:end]):
                num_words = sum(any(map(str.isalpha, word)) for word in line.split())
                yield line, Role.BOILERPLATE if num_words >= WORDS_OF_PROSE else Role.TEMPLATE
            if token:
                yield token[0], Role.SPECIAL if token[0] == bos else Role.TEMPLATE
                position = token.end()


def _sentinels(turns: tuple[Turn, ...], before: str = "", after: str = "") -> Messages:
    def text(index: int, field: str) -> str:
        return f"{before}wit{index}{field}{after}"

    return tuple(
        Message(
            turn.role,
            "" if turn.is_blank else text(index, "sentinel"),
            input=text(index, "input") if turn.has_input else "",
        )
        for index, turn in enumerate(turns)
    )
