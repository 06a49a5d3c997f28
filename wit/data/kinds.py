"""What is different about instruction rows and preference pairs before they are tokens."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from wit.data.schema import (
    INSTRUCTION_SHAPES,
    PREFERENCE_SHAPES,
    Messages,
    Preference,
    Shape,
)
from wit.data.sources import Row

Item = Any  # Messages, or a Preference
AS_JSON = json.JSONEncoder(ensure_ascii=False)


class Kind(NamedTuple):
    """How to read rows of one kind and what to ask of them."""

    shapes: tuple[tuple[str, ...], ...]
    read: Callable[[Shape, Row, int], Item]
    prompt: Callable[[Item], Messages]
    answers: Callable[[Item], list[str]]
    fault: Callable[[Item], str | None]  # why nothing can be learned from it
    framed: Callable[[Item], str | None]  # the text that may have boilerplate around it


class Digests(NamedTuple):
    """What a row is known by: 16 bytes each, the same wherever and in whatever shape it stands."""

    row: bytes
    prompt: bytes


def digests(kind: Kind, item: Item) -> Digests:
    """Of the text of a row, and of its prompt; weights of messages do not count."""
    prompt = _digest([(message.role, message.text) for message in kind.prompt(item)])
    return Digests(_digest([prompt.hex(), *kind.answers(item)]), prompt)


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


def _fault_of_pair(pair: Preference) -> str | None:
    chosen, rejected = pair.chosen.strip(), pair.rejected.strip()
    if not (chosen and rejected):
        return "empty answer"
    return "chosen equals rejected" if chosen == rejected else None


INSTRUCTIONS = Kind(
    shapes=INSTRUCTION_SHAPES,
    read=Shape.instruction,
    prompt=lambda messages: messages[:-1],
    answers=lambda messages: [messages[-1].content],
    fault=_fault_of_instruction,
    framed=lambda messages: next((m.content for m in messages if m.role == "user"), None),
)
PREFERENCES = Kind(
    shapes=PREFERENCE_SHAPES,
    read=Shape.preference,
    prompt=lambda pair: pair.prompt,
    answers=lambda pair: [pair.chosen, pair.rejected],
    fault=_fault_of_pair,
    framed=lambda _: None,  # roles of their prompts are not kept
)
