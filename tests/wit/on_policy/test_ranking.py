"""Which two responses to a prompt make a pair, and when none do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit.generation.greedy import Response
from wit.on_policy.ranking import (
    TIE,
    UNENDED,
    UNSCORED,
    Pair,
    best_and_worst,
    exact_matches,
)


def response(text: str, *, stopped: bool = True) -> Response:
    return Response((*map(ord, text), 2) if stopped else (*map(ord, text), 3), text, stopped)


RESPONSES = st.builds(response, st.sampled_from(["", " ", "a", "bb"]), stopped=st.booleans())
SCORED = st.lists(
    st.tuples(RESPONSES, st.none() | st.sampled_from([-1.0, 0.0, 0.5, 1.0])), max_size=6
)


@given(scored=SCORED, min_margin=st.sampled_from([0.0, 0.5, 1.0]))
def test_a_pair_is_a_whole_answer_that_is_better(scored: list[Any], min_margin: float) -> None:
    responses, scores = [r for r, _ in scored], [s for _, s in scored]
    found = best_and_worst(responses, scores, min_margin)
    known = [score for score in scores if score is not None]
    whole = [s for r, s in scored if s is not None and r.stopped and r.text.strip()]
    if isinstance(found, Pair):
        chosen, rejected = scores[found.chosen], scores[found.rejected]
        assert chosen is not None
        assert rejected is not None
        assert chosen == max(whole)
        assert rejected == min(known)
        assert chosen > rejected
        assert chosen - rejected >= min_margin
        assert responses[found.chosen].stopped
    elif found == UNSCORED:
        assert len(known) < 2
    elif found == UNENDED:
        assert not whole
    else:
        assert found == TIE
        assert max(whole) - min(known) < min_margin or max(whole) <= min(known)


def test_of_equals_the_first_that_was_drawn() -> None:
    responses = [response(text) for text in "abcd"]
    assert best_and_worst(responses, [0.0, 1.0, 0.0, 1.0]) == Pair(chosen=1, rejected=0)


def test_an_answer_without_an_end_is_rejected_but_never_chosen() -> None:
    both = [response("a", stopped=False), response("b")]
    assert best_and_worst(both, [1.0, 0.0]) == TIE, "the better one never ended"
    assert best_and_worst(both, [0.0, 1.0]) == Pair(chosen=1, rejected=0)
    blank = [response(" "), response("b", stopped=False)]
    assert best_and_worst(blank, [1.0, 0.0]) == UNENDED


@pytest.mark.parametrize(
    ("extract", "matches"),
    [
        (None, [1, 1, 0, 0, 0]),
        (r"\d+", [1, 1, 1, 0, 0]),
        (r"#### (\d+)", None),  # the answer itself has none
    ],
)
def test_exact_match(extract: str | None, matches: list[float] | None) -> None:
    texts = ["12", " 12\n", "of 3 and 4: 12", "12 or 13", "twelve"]
    assert exact_matches("12", texts, extract) == (matches or [None] * 5)


def test_the_group_of_the_last_match_is_compared() -> None:
    pattern = r"#### (\d+)"
    assert exact_matches("so #### 4", ["#### 3, no, #### 4", "#### 4, no, #### 3"], pattern) == [
        1,
        0,
    ]
