"""Rows of preference data, read as the data stages read them."""

from pathlib import Path
from typing import Any

from wit.data.kinds import PREFERENCES
from wit.data.preference_rows import Preference, read_preference
from wit.data.rendering import ChatRenderer
from wit.data.schema import Message, Shape
from wit.data.sources import survey
from wit.tokenizers import load_tokenizer

Row = dict[str, Any]
USER, SYSTEM = Message("user", "q"), Message("system", "s")
GOOD, BAD = (Message("assistant", "a"),), (Message("assistant", "b"),)
EXPECTED = Preference((USER,), GOOD, BAD)


def said(role: str, content: str) -> dict[str, str]:
    """A message."""
    return {"role": role, "content": content}


Q, A, B, S = said("user", "q"), said("assistant", "a"), said("assistant", "b"), said("system", "s")
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
SCORED = {"prompt": "q", "responses": ["c", "a", "b"], "scores": [3, 4.5, 1]}
JUDGED = {"prompt": "q", "completion": "a", "label": True}


def shape_of(rows: tuple[Row, ...], columns: dict[str, str]) -> Shape:
    """Of a source that has these rows."""
    return Shape(survey(rows).columns, PREFERENCES.shapes, columns, "rows.jsonl")


def preferences(
    *rows: Row, min_margin: float = 0.0, columns: dict[str, str] | None = None
) -> list[Any]:
    """After a survey of all rows, one row after the other."""
    shape = shape_of(rows, columns or {})
    return [
        read_preference(shape, row, number, min_margin=min_margin)
        for number, row in enumerate(rows, start=1)
    ]


def rendered(folder: Path, *turns: Row) -> str:
    """What a template makes of a conversation, or of one that waits for an answer."""
    messages = tuple(Message(turn["role"], turn["content"]) for turn in turns)
    renderer = ChatRenderer(load_tokenizer(folder))
    segments = renderer.segments if turns[-1]["role"] == "assistant" else renderer.prompt
    return "".join(segment.text for segment in segments(messages))
