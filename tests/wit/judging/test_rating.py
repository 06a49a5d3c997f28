"""Ratings: the prompts as published, and means whose error knows that turns belong together."""

import math
import re

import numpy as np
import pytest
from judge_server import Body, Reaction, judge_at
from test_judge_questions import MT_BENCH, needs_mt_bench

from wit.errors import DataError
from wit.generation.questions import read_questions
from wit.judging.cost import longest_answers
from wit.judging.errors import UnparsableError
from wit.judging.judgements import Judgement
from wit.judging.prompts import judge_prompts
from wit.judging.questions import Answer, Reference, read_references
from wit.judging.rating import mean_rating, rate, rating_requests

TWO = Answer(
    id="101",
    category="math",
    prompts=("First question?", "Second question?"),
    responses=("First response", "Second response"),
    num_tokens=(2, 2),
    stopped=(True, True),
)
KNOWN = {"101": Reference(id="101", prompts=None, responses=("First key", "Second key"))}
PLAIN = TWO.model_copy(update={"category": "writing"})


def test_a_first_turn_is_judged_alone_and_a_second_with_what_was_before():
    first, second = rating_requests([PLAIN], {})
    assert "[Question]\nFirst question?\n\n" in first.user
    assert "Answer]\nFirst response\n[The End" in first.user
    assert "Second" not in first.user
    assert first.system == "You are a helpful assistant."
    order = ["First question?", "First response", "Second question?", "Second response"]
    assert [text for text in re.findall(r"(?:First|Second) \w+\??", second.user)] == order
    assert "second user question" in second.system


def test_math_is_judged_with_a_reference_and_writing_is_not():
    first, second = rating_requests([TWO], KNOWN)
    assert "[The Start of Reference Answer]\nFirst key\n" in first.user
    assert "### Reference answer:\nFirst key\n" in second.user
    assert "### Reference answer:\nSecond key\n" in second.user
    assert not any("key" in request.user for request in rating_requests([PLAIN], KNOWN))


@pytest.mark.parametrize("category", ["math", "reasoning", "coding"])
def test_a_reference_that_is_missing_is_told_before_anything_is_asked(category):
    asked = TWO.model_copy(update={"category": category})
    with pytest.raises(DataError, match="question 101 has no reference"):
        rating_requests([asked], {})
    short = {"101": Reference(id="101", prompts=None, responses=("First key",))}
    with pytest.raises(DataError, match="question 101: 2 turns are answered"):
        rating_requests([asked], short)


def test_three_turns_are_refused():
    three = Answer(
        id="5",
        prompts=("a",) * 3,
        responses=("b",) * 3,
        num_tokens=(1,) * 3,
        stopped=(True,) * 3,
    )
    with pytest.raises(DataError, match="question 5: has 3 turns"):
        rating_requests([three], {})


def test_every_prompt_names_its_source_and_licence_and_asks_for_what_is_read():
    prompts = judge_prompts()
    assert len(prompts) == 5
    for prompt in prompts.values():
        assert prompt.license == "Apache-2.0"
        assert re.search(r"@[0-9a-f]{40}", prompt.source)
        asks = "[[rating]]" if prompt.name.startswith("single") else "'rank': <model-rank>"
        assert asks in prompt.system + prompt.user
        assert prompt.version.startswith(f"{prompt.name}@")


def by_turn(body: Body, number: int) -> Reaction:
    is_second = "Conversation with User" in body["messages"][1]["content"]
    return Reaction(text=f"Fine. Rating: [[{4 if is_second else 9}]]")


def test_ratings_of_a_judge_are_kept_by_turn_and_category(server, cache):
    server.behaviour = by_turn
    empty = PLAIN.model_copy(update={"id": "81", "responses": ("", " \n")})
    rows, usage = rate([TWO, empty], KNOWN, judge_at(server, cache))
    assert [(row.id, row.turn, row.rating) for row in rows] == [
        ("101", 1, 9),
        ("101", 2, 4),
        ("81", 1, 9),
        ("81", 2, 4),
    ]
    assert usage.num_requests == 4
    found = mean_rating(rows)
    assert found.mean.value == 6.5
    assert {turn: mean and mean.value for turn, mean in found.by_turn.items()} == {1: 9, 2: 4}
    assert {*found.by_category} == {"math", "writing"}
    assert found.num_empty_responses == 2
    shown = [asked.user for asked in server.asked if "Second response" not in asked.user]
    assert any("Assistant's Answer]\n\n[The End" in user for user in shown)


def make_rows(*ratings: tuple[float | None, ...], category: str | None = "stem") -> list[Judgement]:
    return [
        Judgement(
            id=str(number),
            category=category,
            turn=turn,
            order=None,
            prompt_version="p@1",
            verdict=None,
            rating=rating,
            text="Hm.",
            finish_reason="length",
            served_model=None,
            server="http://host/v1",
            num_prompt_tokens=1,
            num_completion_tokens=1,
            is_estimated=False,
            is_cached=False,
            is_response_empty=False,
            num_response_chars=1,
            num_reference_chars=None,
        )
        for number, of_question in enumerate(ratings)
        for turn, rating in enumerate(of_question, start=1)
    ]


def test_the_error_is_that_of_a_mean_over_questions():
    found = mean_rating(make_rows((8, 6), (3, 3), (10, 8)))
    # means of questions 7, 3, 9: their mean 19/3, their variance 28/3
    assert found.mean.value == pytest.approx(19 / 3)
    assert found.mean.stderr == pytest.approx(math.sqrt(28 / 3 / 3))
    assert (found.mean.num_ratings, found.mean.num_questions) == (6, 3)
    first = found.by_turn[1]
    assert first is not None
    assert first.stderr == pytest.approx(np.std([8, 3, 10], ddof=1) / math.sqrt(3))


def test_turns_that_always_agree_are_no_more_evidence_than_one():
    twice = mean_rating(make_rows((8, 8), (3, 3), (10, 10), (5, 5))).mean
    once = mean_rating(make_rows((8,), (3,), (10,), (5,))).mean
    assert (twice.value, twice.stderr) == (once.value, once.stderr)
    assert mean_rating(make_rows((8, 2))).mean.stderr is None


def test_a_rating_that_is_missing_is_left_out_and_counted():
    rows = make_rows(*[(8, 6)] * 9, (8, None))
    found = mean_rating(rows)
    assert found.num_unparsable == 1
    assert found.mean.value == pytest.approx((10 * 8 + 9 * 6) / 19)
    assert found.mean.num_ratings == 19


def test_too_many_missing_ratings_are_no_score():
    rows = make_rows(*[(8, None)] * 5)
    with pytest.raises(UnparsableError, match=r"5 of 10 responses.*'Hm\.'.*5 of .*cut off.*max_t"):
        mean_rating(rows)
    allowed = mean_rating(rows, max_unparsable_share=0.5)
    assert allowed.mean.value == 8
    assert allowed.by_turn[2] is None
    with pytest.raises(UnparsableError):
        mean_rating(make_rows((None, None)), max_unparsable_share=1)


def test_no_category_is_no_part():
    assert mean_rating(make_rows((8, 6), category=None)).by_category == {}


@needs_mt_bench
def test_mt_bench_is_asked_with_the_prompts_that_are_published():
    questions = read_questions(MT_BENCH / "question.jsonl")
    references = read_references(MT_BENCH / "reference_gpt-4.jsonl")
    answers = longest_answers(questions, 1)
    requests = rating_requests(answers, references)
    assert len(requests) == 160
    names = [request.prompt_version.partition("@")[0] for request in requests]
    # three of eight categories have references
    assert {name: names.count(name) for name in names} == {
        "single-v1": 50,
        "single-v1-multi-turn": 50,
        "single-math-v1": 30,
        "single-math-v1-multi-turn": 30,
    }
    for request in requests:
        assert not re.search(r"\{(ref_)?(question|answer)(_\d)?\}", request.user)
