"""What a judge will cost is told before, and is what it comes to."""

import pytest
from judge_server import ENVIRON, Reaction, always

from wit.generation.questions import Question
from wit.judging.client import Judge, ask_all, quarter_of_characters
from wit.judging.cost import estimate_cost, longest_answers
from wit.judging.prompts import JudgeRequest
from wit.judging.rating import rating_requests
from wit.judging.settings import JudgeEndpoint, JudgeModel

MODEL = JudgeModel(model="judge", max_tokens=50)
PRICES = {"usd_per_million_prompt_tokens": 3, "usd_per_million_completion_tokens": 15}
REQUESTS = [JudgeRequest(f"question {n}", "p@1", "12345678", "x" * 40 + str(n)) for n in range(4)]


def test_the_estimate_is_added_up_by_the_rule():
    endpoint = JudgeEndpoint.model_validate({"base_url": "http://host/v1", **PRICES})
    found = estimate_cost([*REQUESTS, REQUESTS[0]], MODEL, endpoint)
    assert (found.num_requests, found.num_cached) == (4, 0)
    assert found.num_prompt_tokens == 4 * (2 + 11)  # 8 and 41 characters
    assert found.max_completion_tokens == 4 * 50
    assert found.max_usd == pytest.approx((52 * 3 + 200 * 15) / 1e6)
    counted = estimate_cost(REQUESTS, MODEL, endpoint, count_tokens=len, rule="characters")
    assert counted.num_prompt_tokens == 4 * 49
    assert counted.rule == "characters"


def test_without_prices_there_is_no_money():
    found = estimate_cost(REQUESTS, MODEL, JudgeEndpoint(base_url="http://host/v1"))
    assert found.max_usd is None


def test_one_price_alone_is_refused():
    with pytest.raises(ValueError, match="both prices"):
        JudgeEndpoint(base_url="http://host/v1", usd_per_million_prompt_tokens=1)


def test_what_it_comes_to_is_within_the_estimate_and_then_nothing_is_left(server, cache):
    server.behaviour = always(Reaction(text="y" * 200, has_usage=False))
    endpoint = server.endpoint(**PRICES)
    before = estimate_cost(REQUESTS, MODEL, endpoint, cache)
    _, usage = ask_all(REQUESTS, Judge(MODEL, endpoint, cache, ENVIRON))
    assert usage.num_prompt_tokens == before.num_prompt_tokens
    assert usage.num_completion_tokens == before.max_completion_tokens
    assert usage.usd == pytest.approx(before.max_usd)
    after = estimate_cost(REQUESTS, MODEL, endpoint, cache)
    assert (after.num_requests, after.num_cached) == (4, 4)
    assert (after.num_prompt_tokens, after.max_completion_tokens, after.max_usd) == (0, 0, 0)


def test_answers_of_full_length_stand_for_those_that_are_not_there_yet():
    question = Question(id="1", category=None, prompts=("Why?", "Who?"))
    [answer] = longest_answers([question], 100)
    assert [quarter_of_characters(response) for response in answer.responses] == [100, 100]
    endpoint = JudgeEndpoint(base_url="http://host/v1")
    found = estimate_cost(rating_requests([answer], {}), MODEL, endpoint)
    # the first turn shows one response, the second both
    assert found.num_prompt_tokens > 300
