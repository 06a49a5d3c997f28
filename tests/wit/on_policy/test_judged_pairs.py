"""Responses rated by a judge: what it is shown of each, and what becomes of what it says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from judge_server import Body, JudgeServer, Reaction, always, judge_at, served_judge

from wit.data.schema import Message, Messages
from wit.judging.cache import ReplyCache
from wit.judging.client import ask_all
from wit.judging.errors import UnparsableError
from wit.judging.prompts import judge_prompts
from wit.on_policy.judged import judge_requests, judge_scores

ONE = (Message("user", "What is red?"),)
TWO = (Message("user", "First?"), Message("assistant", "First."), Message("user", "Second?"))


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with served_judge() as judge:
        yield judge


@pytest.fixture
def cache(tmp_path: Path) -> ReplyCache:
    return ReplyCache(tmp_path / "judge")


def by_length(body: Body, _: int) -> Reaction:
    """Rates a response by its plus signs."""
    num = body["messages"][-1]["content"].count("+")
    return Reaction(text=f"So long: [[{num}]]")


def test_each_response_has_its_own_rating(server: JudgeServer, cache: ReplyCache) -> None:
    server.behaviour = by_length
    expected = [[4, 2], [], [5, 2, 10]]
    responses = [["+" * rating for rating in ratings] for ratings in expected]
    scores, usage = judge_scores([ONE, ONE, TWO], responses, judge_at(server, cache))
    assert scores == expected
    assert usage.num_requests == len(server.asked) == 5
    assert judge_scores([], [], judge_at(server, cache))[0] == []


def test_equal_responses_are_asked_once_and_those_of_before_not_again(
    server: JudgeServer, cache: ReplyCache
) -> None:
    judge = judge_at(server, cache)
    scores, usage = judge_scores([ONE, ONE, TWO], [["a", "b", "a"], ["a"], ["a"]], judge)
    assert scores == [[5.0] * 3, [5.0], [5.0]]
    assert len(server.asked) == usage.num_answered == 3
    _, again = judge_scores([ONE], [["b", "new", "a"]], judge)
    assert (again.num_cached, again.num_answered, len(server.asked)) == (2, 1, 4)


def test_a_rating_that_cannot_be_read_is_none_and_no_number(
    server: JudgeServer, cache: ReplyCache
) -> None:
    def but_one(body: Body, _: int) -> Reaction:
        bad = "odd" in body["messages"][-1]["content"]
        return Reaction(text="Rating: [[11]]" if bad else "Rating: [[7.5]]")

    server.behaviour = but_one
    responses = [["a", "odd"], [str(number) for number in range(8)]]
    scores, _ = judge_scores([ONE, TWO], responses, judge_at(server, cache))
    assert scores == [[7.5, None], [7.5] * 8]  # a tenth is allowed
    with pytest.raises(
        UnparsableError, match=r"on 1 of 9 responses.*'Rating: \[\[11\]\]'"
    ) as caught:
        judge_scores([ONE, TWO], [responses[0], responses[1][:7]], judge_at(server, cache))
    assert caught.value.usage is not None
    assert caught.value.usage.num_cached == 9


def test_a_judge_that_never_rates_is_refused(server: JudgeServer, cache: ReplyCache) -> None:
    server.behaviour = always(Reaction(text="Fine."))
    with pytest.raises(UnparsableError, match="on 1 of 1 responses"):
        judge_scores([ONE], [["a"]], judge_at(server, cache))


def test_one_turn_is_judged_by_the_published_prompt_for_one() -> None:
    [request] = judge_requests([ONE], [["Red is red."]])
    published = judge_prompts()["single-v1"]
    texts = {"question": "What is red?", "answer": "Red is red."}
    assert (request.system, request.user) == (published.system, published.filled(texts))


def test_of_two_turns_the_second_is_judged_by_the_published_prompt_for_two() -> None:
    [request] = judge_requests([TWO], [["Second."]])
    published = judge_prompts()["single-v1-multi-turn"]
    texts = {"question_1": "First?", "answer_1": "First.", "question_2": "Second?"}
    assert request.system == published.system
    assert request.user == published.filled({**texts, "answer_2": "Second."})


SYSTEM = Message("system", "Be brief.")
OTHERS: list[tuple[Messages, str]] = [
    ((SYSTEM, *ONE), "### System:\nBe brief.\n\n### User:\nWhat is red?"),
    (
        (*TWO, Message("assistant", "2."), Message("user", "Third?")),
        "### User:\nFirst?\n\n### Assistant A:\nFirst.\n\n### User:\nSecond?\n\n"
        "### Assistant A:\n2.\n\n### User:\nThird?",
    ),
    (
        (ONE[0], Message("tool", "red: 1"), Message("user", "So?")),
        "### User:\nWhat is red?\n\n### Tool:\nred: 1\n\n### User:\nSo?",
    ),
    ((Message("user", ""),), "### User:\n"),
    (
        (Message("user", "Add", input="1 and 2"), *TWO[1:2], *ONE, *ONE),
        "### User:\nAdd\n\n1 and 2\n\n### Assistant A:\nFirst.\n\n### User:\nWhat is red?\n\n"
        "### User:\nWhat is red?",
    ),
]


@pytest.mark.parametrize(("prompt", "question"), OTHERS)
def test_any_other_conversation_is_one_question_with_its_roles(
    prompt: Messages, question: str
) -> None:
    [request] = judge_requests([prompt], [["Third."]])
    published = judge_prompts()["single-v1"]
    assert request.user == published.filled({"question": question, "answer": "Third."})


def test_requests_are_what_is_asked(server: JudgeServer, cache: ReplyCache) -> None:
    responses = [["a", ""], ["b"]]
    judge_scores([ONE, TWO], responses, judge_at(server, cache))
    requests = judge_requests([ONE, TWO], responses)
    assert [request.label for request in requests] == [
        "question 1, response 1, turn 1",
        "question 1, response 2, turn 1",
        "question 2, response 1, turn 2",
    ]
    _, usage = ask_all(requests, judge_at(server, cache))
    assert usage.num_cached == 3
