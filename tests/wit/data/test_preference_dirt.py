"""What is wrong with rows of real preference data, and under which reason it is counted."""

import pytest
from preference_data import JUDGED, PAIR, SCORED, A, B, Q, Row, preferences, said

from wit.data.kinds import PREFERENCES, digests
from wit.data.preference_rows import Unusable

OTHER = said("user", "other")
DIRT: list[tuple[Row, str, str]] = [
    ({**PAIR, "chosen": None}, "no chosen", "'chosen' is missing, not text"),
    ({"prompt": "q", "chosen": "a"}, "no rejected", "'rejected' is missing, not text"),
    ({**PAIR, "chosen": True}, "chosen is not text", "'chosen' is a bool (True), not text"),
    ({**PAIR, "rejected": 0.5}, "rejected is not text", "'rejected' is a float (0.5), not text"),
    ({**PAIR, "prompt": 7}, "prompt is not text", "'prompt' is a int (7), not text"),
    ({**PAIR, "chosen": "\ud83d"}, "half a surrogate pair", "'chosen' holds half a surrogate pair"),
    ({**PAIR, "chosen": []}, "chosen is no list of messages", "'chosen' is not a list of messages"),
    (
        {**PAIR, "chosen": [said("gpt", "a")]},
        "message without text or role",
        "message 0: role 'gpt' is unknown; allowed: system, user, assistant, tool",
    ),
    (
        {**PAIR, "chosen": [{**A, "content": None}]},
        "message without text or role",
        "message 0: has no 'content' that is text",
    ),
    (
        {**PAIR, "chosen": [said("assistant", "\ud83d")]},
        "half a surrogate pair",
        "message 0: 'content' holds half a surrogate pair",
    ),
    (
        {**PAIR, "chosen": [{**A, "tool_calls": [{"id": 1}]}]},
        "tool calls",
        "message 0: has 'tool_calls'; only messages of text can be trained on",
    ),
    (
        {**PAIR, "chosen": [{**A, "weight": -1}]},
        "weight of a message that is none",
        "message 0: 'weight' is -1, not a number from 0 to 1e6",
    ),
    (
        {**PAIR, "prompt": [Q, A]},
        "prompt does not end with a user's turn",
        "the prompt does not end with a user's turn",
    ),
    (
        {**PAIR, "prompt": [A, Q]},
        "prompt begins with the assistant's turn",
        "the prompt begins with the assistant's turn, which nothing asks for",
    ),
    *(
        (
            {**PAIR, "rejected": side},
            "answer does not continue its prompt",
            "an answer is neither the assistant's message nor the prompt and then that",
        )
        for side in ([OTHER, B], [Q], [said("system", "t"), Q, B], [Q, Q, B])
    ),
    (
        {**PAIR, "rejected": [B, Q]},
        "answer does not end with the assistant's turn",
        "an answer does not end with the assistant's turn",
    ),
    (
        {**PAIR, "rejected": [B, B]},
        "turns that do not alternate",
        "an answer has two turns of one role, one after the other",
    ),
    (
        {**PAIR, "chosen": [Q, A, Q, A], "rejected": [Q, A, OTHER, B]},
        "answers to different prompts",
        "'chosen' and 'rejected' are not two answers to one prompt",
    ),
    (
        {**PAIR, "chosen": [A, Q, A]} | {"rejected": "a"},
        "one side continues the other",
        "one of 'chosen' and 'rejected' goes on where the other ends",
    ),
    ({**SCORED, "responses": ["a"]}, "fewer than two responses", "'responses' holds fewer"),
    ({**SCORED, "responses": "ab"}, "fewer than two responses", "'responses' holds fewer"),
    ({**SCORED, "responses": [1, 2, 3]}, "responses is not text", "'responses' is a int (2)"),
    *(
        ({**SCORED, "scores": none}, "responses without scores", "'scores' does not hold 3 scores")
        for none in (None, [1, 2], 3)
    ),
    *(
        ({**SCORED, "scores": [1, score, 3]}, "score is no finite number", f"{score!r:.40} is no")
        for score in (float("nan"), float("inf"), -float("inf"), None, "2", True, 10**400)
    ),
    ({**SCORED, "scores": [2, 2, 2.0]}, "scores tie", "both answers score 2"),
    *(
        (
            {**JUDGED, "label": label},
            "label is neither true nor false",
            f"'label' is {label!r}, not true or false",
        )
        for label in (None, 1, 0.0, "good", [True])
    ),
    ({**JUDGED, "completion": 5}, "completion is not text", "'completion' is a int (5)"),
]
GIVEN_WITH = {"chosen": PAIR, "scores": SCORED, "label": JUDGED}


@pytest.mark.parametrize(("row", "reason", "says"), DIRT)
def test_dirt_is_named_by_its_reason_and_the_rest_is_read(row: Row, reason: str, says: str) -> None:
    good = next(good for name, good in GIVEN_WITH.items() if name in row)
    before, found, after = preferences(good, row, good)
    assert isinstance(found, Unusable)
    assert found.reason == reason
    assert found.said.startswith(f"row 2: {says}")
    assert before == after
    assert PREFERENCES.fault(before) is None
    assert PREFERENCES.fault(found) == reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**PAIR, "chosen": " a", "rejected": "a\n"}, "chosen equals rejected"),
        ({**PAIR, "chosen": [A, Q, A], "rejected": [A, Q, A]}, "chosen equals rejected"),
        ({**PAIR, "rejected": " \n"}, "empty answer"),
        ({**PAIR, "rejected": [said("assistant", ""), Q, B]}, "empty answer"),
        ({**SCORED, "responses": ["a", "", "a "], "scores": [2, 1, 0]}, "chosen equals rejected"),
        ({**JUDGED, "completion": " "}, "empty answer"),
    ],
)
def test_answers_that_teach_nothing_have_a_reason(row: Row, reason: str) -> None:
    [found] = preferences(row)
    assert PREFERENCES.fault(found) == reason


IMPLICIT = {"chosen": [Q, A], "rejected": [Q, B]}


@pytest.mark.parametrize(
    ("row", "reason", "says"),
    [
        (
            {"chosen": "The sky is blue.", "rejected": "The sky is green."},
            "text without a prompt",
            "'chosen' is text and there is no prompt; name its column with 'columns', such as",
        ),
        (
            {"chosen": [A], "rejected": [B]},
            "answers to different prompts",
            "'chosen' and 'rejected' are not two answers to one prompt; if that has a column, name",
        ),
        (
            {"chosen": [Q, A], "rejected": [OTHER, B]},
            "answers to different prompts",
            "'chosen' and 'rejected' are not two answers to one prompt",
        ),
        *(
            ({"chosen": f"\n\n{text}", "rejected": "x"}, "turns that do not alternate", "the turns")
            for text in ("Human: q", "Assistant: a\n\nHuman: q", "Human: q\n\nHuman: q")
        ),
    ],
)
def test_a_prompt_that_cannot_be_found_is_named_with_the_remedy(
    row: Row, reason: str, says: str
) -> None:
    _, found = preferences(IMPLICIT, row)
    assert (found.reason, found.said.startswith(f"row 2: {says}")) == (reason, True), found


def test_equal_dirt_is_known_and_other_dirt_is_not_taken_for_it() -> None:
    one, same, other = preferences(
        *({"prompt": prompt, "chosen": True, "rejected": "b"} for prompt in ("q", "q", "r"))
    )
    assert digests(PREFERENCES, one) == digests(PREFERENCES, same)
    assert digests(PREFERENCES, one).row != digests(PREFERENCES, other).row


def test_a_response_that_is_good_and_bad_is_two_rows() -> None:
    rows = preferences(JUDGED, {**JUDGED, "label": False}, {**JUDGED, "label": "TRUE"})
    good, bad, again = (digests(PREFERENCES, row).row for row in rows)
    assert good == again != bad
