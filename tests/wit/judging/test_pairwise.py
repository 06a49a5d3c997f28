"""Win rates: of judges who are fair, who favour a place or length, and who make no sense."""

import math
import re

import pytest
from judge_server import Body, JudgeServer, Reaction, always, judge_at

from wit.errors import DataError
from wit.judging.cache import ReplyCache
from wit.judging.errors import UnparsableError
from wit.judging.judgements import Judgement
from wit.judging.pairwise import ORDERS, WinRate, compare, pair_requests, win_rate
from wit.judging.questions import Answer, Reference

SHOWN = re.compile(r'"answer": """(.*?)"""', re.DOTALL)


def answer(name: str, response: str, prompt: str = "Why?") -> Answer:
    return Answer(
        id=name, prompts=(prompt,), responses=(response,), num_tokens=(1,), stopped=(True,)
    )


def reference(name: str, response: str, prompt: str = "Why?") -> Reference:
    return Reference(id=name, prompts=(prompt,), responses=(response,))


def ranked(better: int) -> str:
    worse = 3 - better
    return f"[{{'model': 'model_{better}', 'rank': 1}}, {{'model': 'model_{worse}', 'rank': 2}}]"


def shown(body: Body) -> tuple[str, str]:
    first, second = SHOWN.findall(body["messages"][1]["content"])
    return first, second


def longer_wins(body: Body, number: int) -> Reaction:
    first, second = shown(body)
    if len(first) == len(second):
        return Reaction(text=ranked(1).replace("2}", "1}"))
    return Reaction(text=ranked(1 if len(first) > len(second) else 2))


def first_wins(body: Body, number: int) -> Reaction:
    return Reaction(text=ranked(1))


def judged(server: JudgeServer, cache: ReplyCache, pairs: list[tuple[str, str]]):
    answers = [answer(str(n), response) for n, (response, _) in enumerate(pairs)]
    references = {str(n): reference(str(n), other) for n, (_, other) in enumerate(pairs)}
    return compare(answers, references, judge_at(server, cache))


PAIRS = [("aaa", "b"), ("aaaa", "bb"), ("a", "bbb"), ("aa", "bb"), ("", "bb")]


def test_every_pair_is_shown_in_both_orders(server, cache):
    server.behaviour = longer_wins
    judged(server, cache, [("mine", "theirs")])
    assert sorted(shown(asked.body) for asked in server.asked) == [
        ("mine", "theirs"),
        ("theirs", "mine"),
    ]


def test_wins_ties_and_losses_are_counted(server, cache):
    server.behaviour = longer_wins
    rows, usage = judged(server, cache, PAIRS)
    found = win_rate(rows)
    assert (found.num_wins, found.num_ties, found.num_losses) == (2, 1, 2)
    assert found.value == 2.5 / 5
    assert (found.num_pairs, found.num_disagreeing, found.num_unparsable) == (5, 0, 0)
    assert found.num_empty_responses == 1
    assert found.mean_response_chars == (3 + 4 + 1 + 2 + 0) / 5
    assert found.mean_reference_chars == (1 + 2 + 3 + 2 + 2) / 5
    assert [row.verdict for row in rows if row.id == "0"] == ["win", "win"]
    assert [row.verdict for row in rows if row.id == "2"] == ["loss", "loss"]
    assert usage.num_requests == 10


def test_exchanging_model_and_reference_turns_the_win_rate(server, cache):
    server.behaviour = longer_wins
    pairs = PAIRS[:4]
    one = win_rate(judged(server, cache, pairs).rows)
    other = win_rate(judged(server, cache, [(b, a) for a, b in pairs]).rows)
    assert one.value == 1 - other.value
    assert one.stderr == pytest.approx(other.stderr)
    assert (one.num_wins, one.num_ties, one.num_losses) == (2, 1, 1)
    assert (other.num_wins, other.num_ties, other.num_losses) == (1, 1, 2)


def test_a_judge_that_favours_a_place_prefers_nobody(server, cache):
    server.behaviour = first_wins
    found = win_rate(judged(server, cache, PAIRS).rows)
    assert (found.value, found.num_ties, found.num_disagreeing) == (0.5, 5, 5)


def test_equal_responses_are_one_question(server, cache):
    server.behaviour = first_wins
    rows, usage = judged(server, cache, [("same", "same")])
    assert usage.num_requests == 1
    assert win_rate(rows).value == 0.5


def make_rows(*verdicts: tuple[str | None, str | None], text: str = "?") -> list[Judgement]:
    return [
        Judgement.model_validate(
            {
                "id": str(number),
                "category": None,
                "turn": 1,
                "order": order,
                "prompt_version": "p@1",
                "verdict": verdict,
                "rating": None,
                "text": text,
                "finish_reason": "stop",
                "served_model": None,
                "server": "http://host/v1",
                "num_prompt_tokens": 1,
                "num_completion_tokens": 1,
                "is_estimated": False,
                "is_cached": False,
                "is_response_empty": False,
                "num_response_chars": 10 * number,
                "num_reference_chars": 20,
            }
        )
        for number, pair in enumerate(verdicts)
        for order, verdict in zip(ORDERS, pair, strict=True)
    ]


WIN, LOSS, TIE, NONE = ("win", "win"), ("loss", "loss"), ("tie", "tie"), (None, "win")


def test_the_standard_error_is_that_of_a_mean():
    found = win_rate(make_rows(WIN, WIN, LOSS, TIE))
    # scores 1, 1, 0, 1/2: mean 5/8, squares 9/64 + 9/64 + 25/64 + 1/64 = 44/64, over 3, over 4
    assert found.value == 5 / 8
    assert found.stderr == pytest.approx(math.sqrt(44 / 64 / 3 / 4))
    assert win_rate(make_rows(WIN)).stderr is None


def test_a_disagreement_is_a_tie():
    found = win_rate(make_rows(("win", "loss"), ("win", "tie"), WIN))
    assert (found.num_wins, found.num_ties, found.num_losses) == (1, 2, 0)
    assert found.num_disagreeing == 2


def test_a_pair_without_verdict_is_left_out_and_counted():
    found = win_rate(make_rows(*[WIN] * 9, *[LOSS] * 9, NONE, (None, None)))
    whole = win_rate(make_rows(*[WIN] * 9, *[LOSS] * 9))
    assert found.num_unparsable == 2
    assert found == WinRate.model_validate({**whole.model_dump(), "num_unparsable": 2})


def test_too_many_pairs_without_verdict_are_no_score():
    rows = make_rows(*[WIN] * 8, NONE, NONE, text="I like both")
    with pytest.raises(UnparsableError, match=r"2 of 10 pairs, and 10% are allowed.*I like both"):
        win_rate(rows)
    assert win_rate(rows, max_unparsable_share=0.2).value == 1
    with pytest.raises(UnparsableError, match="1 of 1 pairs"):
        win_rate(make_rows(NONE), max_unparsable_share=1)


def test_a_judge_that_makes_no_sense_gives_no_score_and_its_words_are_kept(server, cache):
    server.behaviour = always(Reaction(text="Both are nice."))
    rows, _ = judged(server, cache, PAIRS)
    assert {row.text for row in rows} == {"Both are nice."}
    with pytest.raises(UnparsableError, match="5 of 5"):
        win_rate(rows)


def test_a_text_that_looks_like_a_place_of_the_prompt_is_left_alone():
    response = "{output_1} {instruction} {x} \\1 {0}"
    known = {"1": reference("1", "{output_2}", prompt="{output_2}?")}
    first, second = pair_requests([answer("1", response, prompt="{output_2}?")], known)
    assert first.user.count(response) == second.user.count(response) == 1
    assert '"instruction": """{output_2}?"""' in first.user
    assert '"answer": """{output_2}"""' in first.user


@pytest.mark.parametrize(
    ("references", "said"),
    [
        ({}, "question 1 has no reference; give"),
        ({"1": reference("1", "b", prompt="Who?")}, "question 1: its reference answers another"),
    ],
)
def test_a_reference_to_something_else_is_refused(references, said):
    with pytest.raises(DataError, match=said):
        pair_requests([answer("1", "a")], references)


def test_two_turns_are_no_pair():
    both = Answer(
        id="1", prompts=("a", "b"), responses=("c", "d"), num_tokens=(1, 1), stopped=(True, True)
    )
    known = {"1": Reference(id="1", prompts=None, responses=("x", "y"))}
    with pytest.raises(DataError, match="question 1: has 2 turns"):
        pair_requests([both], known)
