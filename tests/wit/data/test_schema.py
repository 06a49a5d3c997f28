"""Shapes of rows: found by their columns, or mapped by hand."""

from typing import Any

import pytest

from wit.data.kinds import INSTRUCTIONS
from wit.data.schema import Message, Shape
from wit.data.sources import survey
from wit.errors import DataError

USER, ANSWER = Message("user", "q"), Message("assistant", "a")
SYSTEM = Message("system", "s")
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def instructions(*rows: dict[str, Any], **columns: str) -> list[tuple[Message, ...]]:
    """As the data stages do: a survey of all rows, and then one row after the other."""
    shape = Shape(survey(rows).columns, INSTRUCTIONS.shapes, columns, "rows.jsonl")
    return [INSTRUCTIONS.read(shape, row, number) for number, row in enumerate(rows, start=1)]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "q", "response": "a"}, (USER, ANSWER)),
        ({"prompt": "q", "completion": "a"}, (USER, ANSWER)),
        ({"question": "q", "answer": "a"}, (USER, ANSWER)),
        ({"instruction": "q", "output": "a"}, (USER, ANSWER)),
        ({"instruction": "q", "input": "", "output": "a"}, (USER, ANSWER)),
        ({"instruction": "q", "input": None, "output": "a"}, (USER, ANSWER)),
        ({"instruction": "q", "input": " \n", "output": "a"}, (USER, ANSWER)),
        (
            {"instruction": "q", "input": " x ", "output": "a"},
            (Message("user", "q", input=" x "), ANSWER),
        ),
        ({"prompt": "q", "response": "a", "system": "s"}, (SYSTEM, USER, ANSWER)),
        ({"prompt": "q", "response": "a", "system": " "}, (USER, ANSWER)),
        ({"prompt": "q", "response": "a", "id": 3, "source": None}, (USER, ANSWER)),
        ({"messages": TURNS}, (USER, ANSWER)),
        ({"messages": TURNS * 2}, (USER, ANSWER) * 2),
        ({"prompt": TURNS[:1], "completion": "a"}, (USER, ANSWER)),
        ({"messages": [{**turn, "name": "x"} for turn in TURNS]}, (USER, ANSWER)),
        (  # as Parquet writes what a message does not have
            {"messages": [{**turn, "tool_calls": None, "weight": None} for turn in TURNS]},
            (USER, ANSWER),
        ),
        (
            {"messages": [*TURNS, {"role": "tool", "content": "t"}, TURNS[1]]},
            (USER, ANSWER, Message("tool", "t"), ANSWER),
        ),
    ],
)
def test_instructions_of_every_shape(row: dict[str, Any], expected: tuple[Message, ...]) -> None:
    assert instructions(row) == [expected]


def test_columns_are_mapped_by_hand() -> None:
    row = {"frage": "q", "antwort": "a", "rolle": "s"}
    assert instructions(row, prompt="frage", response="antwort") == [(USER, ANSWER)]
    mapped = instructions(row, prompt="frage", response="antwort", system="rolle")
    assert mapped == [(SYSTEM, USER, ANSWER)]


def test_a_mapping_wins_over_a_shape_that_also_fits() -> None:
    row = {"messages": TURNS, "prompt": "other", "frage": "q", "response": "a"}
    assert instructions(row, prompt="frage") == [(USER, ANSWER)]


def test_what_only_later_rows_have_is_not_lost() -> None:
    rows = [
        {"instruction": "q", "output": "a"},
        {"instruction": "q", "input": "x", "output": "a"},
        {"instruction": "q", "output": "a", "system": "s"},
    ]
    assert instructions(*rows) == [
        (USER, ANSWER),
        (Message("user", "q", input="x"), ANSWER),
        (SYSTEM, USER, ANSWER),
    ]


GOOD = {"prompt": "q", "response": "a"}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "q"}, "row 2: 'response' is missing, not text"),
        ({"prompt": "q", "response": None}, "row 2: 'response' is missing, not text"),
        ({"prompt": "q", "response": 3}, "row 2: 'response' is a int (3), not text"),
        ({"prompt": "q", "response": ["a"]}, "row 2: 'response' is a list (['a']), not text"),
        ({"prompt": b"q", "response": "a"}, "row 2: 'prompt' is a bytes (b'q'), not text"),
        ({"prompt": float("nan"), "response": "a"}, "row 2: 'prompt' is a float (nan), not text"),
        ({"prompt": "q", "response": "\ud83d"}, "row 2: 'response' holds half a surrogate pair"),
        ({"prompt": "q", "response": "a", "system": 1}, "row 2: 'system' is a int (1), not text"),
        ({"prompt": [], "response": "a"}, "row 2: 'prompt' is not a list of messages"),
        ({"prompt": ["q"], "response": "a"}, "row 2: message 0: has no 'content' that is text"),
    ],
)
def test_a_wrong_field_of_an_instruction_is_named_with_file_and_row(
    row: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        instructions(GOOD, row)
    assert str(caught.value) == f"rows.jsonl: {says}"


@pytest.mark.parametrize(
    ("turns", "says"),
    [
        ("hello", "'messages' is not a list of messages"),
        ([], "'messages' is not a list of messages"),
        (TURNS[:1], "the last message is no assistant's"),
        ([{"role": "user"}], "message 0: has no 'content' that is text"),
        ([TURNS[0], {"role": "assistant", "content": None}], "message 1: has no 'content'"),
        (
            [{"role": "user", "content": "\udc00"}, TURNS[1]],
            "message 0: 'content' holds half a surrogate pair",
        ),
        (
            [{"role": "human", "content": "q"}],
            "message 0: role 'human' is unknown; allowed: system",
        ),
        ([{"content": "q"}], "message 0: role None is unknown"),
        (
            [TURNS[0], {"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]}],
            "message 1: has 'tool_calls'; only messages of text can be trained on",
        ),
        (
            [TURNS[0], {"role": "assistant", "content": None, "function_call": {"name": "f"}}],
            "message 1: has 'function_call'; only messages of text can be trained on",
        ),
    ],
)
def test_a_wrong_list_of_messages_is_named_with_file_row_and_message(turns: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        instructions({"messages": TURNS}, {"messages": turns})
    assert str(caught.value).startswith(f"rows.jsonl: row 2: {says}")


@pytest.mark.parametrize("weight", [0, 0.25, 1, 3, 1e6])
def test_a_message_can_have_a_weight_of_its_own(weight: float) -> None:
    row = {"messages": [TURNS[0], {**TURNS[1], "weight": weight}]}
    assert instructions(row) == [(USER, Message("assistant", "a", weight=float(weight)))]


@pytest.mark.parametrize(
    "weight", [True, False, "1", -0.5, float("nan"), float("inf"), 1e39, 10**400, [1]]
)
def test_a_weight_that_is_none_is_refused(weight: Any) -> None:
    row = {"messages": [TURNS[0], {**TURNS[1], "weight": weight}]}
    with pytest.raises(
        DataError, match=r"^rows\.jsonl: row 2: message 1: 'weight' is .* from 0 to 1e6"
    ):
        instructions({"messages": TURNS}, row)


@pytest.mark.parametrize("typo", ["weigth", "weights", "Weight"])
def test_a_misspelt_weight_is_refused_and_not_lost(typo: str) -> None:
    row = {"messages": [TURNS[0], {**TURNS[1], typo: 2}]}
    with pytest.raises(DataError, match=rf"^rows\.jsonl: row 1: message 1: '{typo}' is unknown"):
        instructions(row)
    assert instructions({"messages": [TURNS[0], {**TURNS[1], "name": "x", "train": True}]})


def test_tools_that_a_template_would_write_of_are_refused() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(DataError, match=r"^rows\.jsonl: row 2: has 'tools'"):
        instructions({"messages": TURNS, "tools": []}, {"messages": TURNS, "tools": tools})
    for none in (None, [], "", "[]"):
        assert instructions({"messages": TURNS, "tools": none}) == [(USER, ANSWER)]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"promt": "frage"}, "columns.promt: allowed names: answer, completion, input"),
        ({"prompt": "nope"}, "has no column 'nope'; it has ['antwort', 'frage']"),
        ({"prompt": "frage"}, "are none of the known shapes (messages; instruction+output;"),
        ({"prompt": "frage", "output": "antwort"}, "are none of the known shapes"),
        ({}, "say with 'columns' which column is which"),
    ],
)
def test_columns_that_make_no_shape_are_refused_with_those_that_do(
    columns: dict[str, str], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        instructions({"frage": "q", "antwort": "a"}, **columns)
    assert says in str(caught.value)


def test_a_mapped_column_that_the_shape_does_not_know_is_not_ignored() -> None:
    with pytest.raises(DataError, match="none of the known shapes"):
        instructions({**GOOD, "extra": "x"}, prompt="prompt", response="response", input="extra")
