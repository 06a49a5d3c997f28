"""Rows of preference data in every shape that real sets have."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from preference_data import (
    BAD,
    EXPECTED,
    GOOD,
    JUDGED,
    PAIR,
    SCORED,
    SYSTEM,
    USER,
    A,
    B,
    Q,
    Row,
    S,
    preferences,
    said,
    shape_of,
)
from samples import ROOT

from wit.data.kinds import PREFERENCES, digests
from wit.data.preference_rows import Preference, Unpaired
from wit.data.schema import Message, Messages
from wit.errors import DataError


def plain(turns: list[dict[str, str]]) -> Messages:
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


# --- shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        PAIR,
        {"instruction": "q", "chosen": "a", "rejected": "b", "output": "o"},
        {"question": "q", "chosen": "a", "rejected": "b", "system": ""},  # Orca
        {"prompt": [Q], "chosen": [A], "rejected": [B]},
        {"prompt": "q", "chosen": [A], "rejected": "b"},
        # UltraFeedback, binarised: the answers repeat the prompt.
        {"prompt": "q", "chosen": [Q, A], "rejected": [Q, B], "score_chosen": 1},
        {"prompt": [Q], "chosen": [Q, A], "rejected": [B]},
        {"chosen": [Q, A], "rejected": [Q, B]},
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        SCORED,
        {"instruction": "q", "responses": ["b", "a"], "scores": [-1, 0]},
        {"prompt": [Q], "responses": [[Q, B], [Q, A]], "scores": [0.1, 0.2]},
    ],
)
def test_a_pair_is_the_same_in_every_shape(row: Row) -> None:
    assert preferences(row) == [EXPECTED]


@pytest.mark.parametrize(
    "row",
    [
        {**PAIR, "system": "s"},
        {"question": "q", "system": "s", "chosen": "a", "rejected": "b"},
        {**PAIR, "prompt": [S, Q]},
        {"chosen": [S, Q, A], "rejected": [S, Q, B]},
        {"prompt": "q", "system": "s", "chosen": [Q, A], "rejected": [S, Q, B]},
        {"prompt": "q", "chosen": [S, Q, A], "rejected": [S, Q, B]},
    ],
)
def test_system_text_belongs_to_the_prompt_wherever_it_stands(row: Row) -> None:
    assert preferences(row) == [Preference((SYSTEM, USER), GOOD, BAD)]


def test_an_input_belongs_to_the_prompt_and_may_be_repeated_as_text() -> None:
    asked = (Message("user", "q", input="x"),)
    row = {"instruction": "q", "input": "x", "chosen": "a", "rejected": "b"}
    repeated = {**row, "chosen": [said("user", "q\n\nx"), A]}
    assert preferences(row, repeated) == [Preference(asked, GOOD, BAD)] * 2


def test_columns_are_mapped_by_hand() -> None:
    row = {"frage": "q", "good": "a", "bad": "b"}
    columns = {"prompt": "frage", "chosen": "good", "rejected": "bad"}
    assert preferences(row, columns=columns) == [EXPECTED]


def test_lists_can_be_fields_of_the_objects_in_a_list() -> None:
    answers = [{"response": "b", "overall": 2}, {"response": "a", "overall": 7.5}]
    row = {"instruction": "q", "completions": answers}
    columns = {"responses": "completions.response", "scores": "completions.overall"}
    assert preferences(row, columns=columns) == [EXPECTED]
    [faulty] = preferences({**row, "completions": [*answers, "c"]}, columns=columns)
    assert faulty.reason == "score is no finite number"


@pytest.mark.parametrize(
    ("row", "is_desirable"),
    [
        (JUDGED, True),
        ({**JUDGED, "label": False}, False),
        ({"prompt": [Q], "completion": [A], "label": True}, True),
        ({"prompt": "q", "response": [Q, A], "label": "False"}, False),  # CSV has text only
    ],
)
def test_one_response_is_good_or_bad(row: Row, is_desirable: bool) -> None:
    assert preferences(row) == [Unpaired((USER,), GOOD, is_desirable)]


@pytest.mark.parametrize(
    ("row", "is_unpaired"),
    [(PAIR, False), (SCORED, False), (JUDGED, True), ({**PAIR, **JUDGED}, False)],
)
def test_columns_alone_say_whether_rows_are_pairs(row: Row, is_unpaired: bool) -> None:
    assert shape_of((row,), {}).is_unpaired == is_unpaired


def test_instructions_are_no_preferences() -> None:
    with pytest.raises(DataError, match=r"prompt\+chosen\+rejected"):
        preferences({"prompt": "q", "response": "a"})


def test_one_score_without_the_other_is_refused() -> None:
    with pytest.raises(DataError, match="chosen_score and rejected_score go together"):
        preferences({**PAIR, "x": 1}, columns={"chosen_score": "x"})


def test_the_examples_of_the_document_are_read() -> None:
    document = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    table = document.partition("**Preferences**")[2].partition("**Shares**")[0]
    rows = [json.loads(row) for row in re.findall(r"\| `(\{[^…]+?\})`", table)]
    assert len(rows) == 4
    found = [preferences(row) for row in rows]
    assert [PREFERENCES.fault(row) for [row] in found] == [None] * 4
    assert {PREFERENCES.answers(row)[0] for [row] in found} == {"4"}


# --- several turns -----------------------------------------------------------------------------

roles = st.sampled_from([["user"], ["system", "user"]])
words = st.text("ab ", max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, str]]:
    """Ends before an answer."""
    turns = [said(role, draw(words)) for role in draw(roles)]
    for _ in range(draw(st.integers(0, 2))):
        turns += [said("assistant", draw(words)), said("user", draw(words))]
    return turns


@given(asked=conversations(), chosen=words, rejected=words, num_given=st.integers(0, 5))
def test_what_both_sides_share_is_the_prompt_however_much_of_it_is_given(
    asked: list[dict[str, str]], chosen: str, rejected: str, num_given: int
) -> None:
    sides = [[*asked, said("assistant", text)] for text in (chosen, rejected)]
    row: Row = dict(zip(("chosen", "rejected"), sides, strict=True))
    if num_given:
        ends = [i for i, turn in enumerate(asked, start=1) if turn["role"] == "user"]
        row["prompt"] = asked[: ends[min(num_given, len(ends)) - 1]]
    expected = Preference(
        plain(asked), plain([said("assistant", chosen)]), plain([said("assistant", rejected)])
    )
    assert preferences(row) == [expected]
    alone = {"prompt": asked, "chosen": sides[0][-1:], "rejected": rejected}
    assert preferences(alone) == [expected]
    swapped = {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
    assert preferences(swapped) == [
        expected._replace(chosen=expected.rejected, rejected=expected.chosen)
    ]


def test_an_answer_is_all_that_is_said_from_where_the_conversations_part() -> None:
    [pair] = preferences({"chosen": [Q, A, Q, A, Q, A], "rejected": [Q, A, Q, B, Q, A]})
    assert pair == Preference(plain([Q, A, Q]), plain([A, Q, A]), plain([B, Q, A]))
    [uneven] = preferences({"prompt": "q", "chosen": [A, Q, A], "rejected": "b"})
    assert uneven == Preference((USER,), plain([A, Q, A]), BAD)


def test_turns_of_an_answer_are_told_from_one_turn_of_the_same_text() -> None:
    turns, one = [A, said("user", "a"), A], said("assistant", "a\na\na")
    rows = [{**PAIR, "chosen": side} for side in (turns, [one])]
    found = {digests(PREFERENCES, row).row for row in preferences(*rows)}
    assert len(found) == 2


def test_a_transcript_is_its_turns() -> None:
    text = "\n\nHuman: q\n\nAssistant: a\n\nHuman: two\n\nlines: \n\nAssistant:"
    [pair] = preferences({"chosen": f"{text} a", "rejected": f"{text}  b "})
    asked = (USER, *GOOD, Message("user", "two\n\nlines: "))
    assert pair == Preference(asked, GOOD, (Message("assistant", " b "),))


# --- scores ------------------------------------------------------------------------------------


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=6), st.integers(0, 8))
def test_the_best_is_paired_with_the_worst(scores: list[int], min_margin: int) -> None:
    responses = [f"{i} {score}" for i, score in enumerate(scores)]
    row = {"prompt": "q", "responses": responses, "scores": scores}
    [found] = preferences(row, min_margin=min_margin)
    margin = max(scores) - min(scores)
    if margin == 0:
        assert found.reason == "scores tie"
    elif margin < min_margin:
        assert found.reason == "margin below min_margin"
    else:
        best, worst = (int(side[0].content.split()[1]) for side in (found.chosen, found.rejected))
        assert (best, worst) == (max(scores), min(scores))


def test_a_margin_is_not_missed_by_rounding() -> None:
    scored = {**SCORED, "responses": ["a", "b"], "scores": [0.3, 0.1]}
    assert preferences(scored, min_margin=0.2) == [EXPECTED]


def test_scores_of_a_pair_count_where_they_are_named_and_nowhere_else() -> None:
    def reasons(*scores: tuple[Any, Any], columns: dict[str, str] | None = None) -> list[Any]:
        rows = [{**PAIR, "chosen_score": good, "rejected_score": bad} for good, bad in scores]
        found = preferences(*rows, min_margin=2, columns=columns)
        return [getattr(row, "reason", None) for row in found]

    scores = [(5, 1), (3, 1), (2, 1), (1, 1), (1, 2), (None, 1)]
    named = {name: name for name in ("chosen_score", "rejected_score")}
    assert reasons(*scores) == [None] * 6
    assert reasons(*scores, columns=named) == [
        *[None] * 2,
        "margin below min_margin",
        "scores tie",
        "rejected scores higher",
        "score is no finite number",
    ]
