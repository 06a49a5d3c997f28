"""What is different about instruction rows and preference rows before they are tokens."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from wit.data.preference_rows import Preference, PreferenceRow, Unpaired, Unusable, read_preference
from wit.data.schema import (
    INSTRUCTION_SHAPES,
    PREFERENCE_SHAPES,
    Messages,
    Shape,
)
from wit.data.sources import Row

Item = Any  # Messages, or a PreferenceRow
AS_JSON = json.JSONEncoder(ensure_ascii=False)


class Kind(NamedTuple):
    """How to read rows of one kind and what to ask of them."""

    shapes: tuple[tuple[str, ...], ...]
    read: Callable[[Shape, Row, int], Item]
    prompt: Callable[[Item], Messages]
    answers: Callable[[Item], list[str]]
    marks: Callable[[Item], list[Any]]  # what tells rows apart besides their text
    fault: Callable[[Item], str | None]  # why nothing can be learned from it
    framed: Callable[[Item], str | None]  # the text that may have boilerplate around it


class Digests(NamedTuple):
    """What a row is known by: 16 bytes each, the same wherever and in whatever shape it stands."""

    row: bytes
    prompt: bytes


def digests(kind: Kind, item: Item) -> Digests:
    """Of the text of a row, and of its prompt; weights of messages do not count."""
    prompt = _digest([(message.role, message.text) for message in kind.prompt(item)])
    return Digests(_digest([prompt.hex(), *kind.answers(item), *kind.marks(item)]), prompt)


def text_of(kind: Kind, item: Item) -> str:
    """All text of a row, turn by turn."""
    return "\n".join([*(message.text for message in kind.prompt(item)), *kind.answers(item)])


def texts_of(kind: Kind, item: Item) -> list[str]:
    """A row as it is learned: the prompt with each of its answers."""
    prompt = "\n".join(message.text for message in kind.prompt(item))
    return [f"{prompt}\n{answer}" for answer in kind.answers(item)]


def num_characters(kind: Kind, item: Item) -> int:
    """Length of all text of a row."""
    turns = sum(len(m.content) + len(m.input) for m in kind.prompt(item))
    return turns + sum(map(len, kind.answers(item)))


def _digest(content: Any) -> bytes:
    return hashlib.sha256(AS_JSON.encode(content).encode()).digest()[:16]


def _fault_of_instruction(messages: Messages) -> str | None:
    return None if messages[-1].content.strip() else "empty response"


def _sides(row: PreferenceRow) -> list[Messages]:
    match row:
        case Preference():
            return [row.chosen, row.rejected]
        case Unpaired():
            return [row.response]
        case Unusable():
            return []


def _answers(row: PreferenceRow) -> list[str]:
    """The text of each answer; all that an unusable row holds."""
    if isinstance(row, Unusable):
        return [row.content]
    return ["\n".join(turn.text for turn in side) for side in _sides(row)]


def _marks(row: PreferenceRow) -> list[Any]:
    """The label; and of answers of several turns, where each ends."""
    label = [row.is_desirable] if isinstance(row, Unpaired) else []
    ends = [[(turn.role, len(turn.text)) for turn in side] for side in _sides(row)]
    return label + (ends if any(len(side) > 1 for side in _sides(row)) else [])


def _fault_of_preference(row: PreferenceRow) -> str | None:
    if isinstance(row, Unusable):
        return row.reason
    said = [[(turn.role, turn.text.strip()) for turn in side] for side in _sides(row)]
    if any(role == "assistant" and not text for side in said for role, text in side):
        return "empty answer"
    return "chosen equals rejected" if len(said) == 2 and said[0] == said[1] else None


INSTRUCTIONS = Kind(
    shapes=INSTRUCTION_SHAPES,
    read=Shape.instruction,
    prompt=lambda messages: messages[:-1],
    answers=lambda messages: [messages[-1].content],
    marks=lambda _: [],
    fault=_fault_of_instruction,
    framed=lambda messages: next((m.content for m in messages if m.role == "user"), None),
)
PREFERENCES = Kind(
    shapes=PREFERENCE_SHAPES,
    read=read_preference,
    prompt=lambda row: () if isinstance(row, Unusable) else row.prompt,
    answers=_answers,
    marks=_marks,
    fault=_fault_of_preference,
    framed=lambda _: None,  # roles of their prompts are not kept
)
