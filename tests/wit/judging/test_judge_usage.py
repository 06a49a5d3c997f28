"""What a judge's answers cost, in however many attempts; and who gave them."""

import logging

import pytest
from judge_server import Body, JudgeServer, Reaction, always, judge_at, served_judge

from wit.judging.cache import ReplyCache
from wit.judging.client import ask_all
from wit.judging.errors import JudgeDownError
from wit.judging.prompts import JudgeRequest
from wit.judging.usage import Usage

PRICES = {"usd_per_million_prompt_tokens": 2, "usd_per_million_completion_tokens": 8}
REQUESTS = [JudgeRequest(f"question {n}", "p@1", "Judge.", f"text {n}") for n in range(6)]
EACH = 100 * 2e-6 + 10 * 8e-6  # USD; the server tells 100 and 10 tokens of every answer


def ask(server: JudgeServer, cache: ReplyCache, num: int, **changes: object) -> Usage:
    knobs = {"max_retries": 0, "max_concurrent_requests": 1, **PRICES, **changes}
    return ask_all(REQUESTS[:num], judge_at(server, cache, **knobs))[1]


def dies_after(num: int):
    def behaviour(_: Body, number: int) -> Reaction:
        return Reaction() if number < num else Reaction(status=503, body="{}")

    return behaviour


def total_usd(usage: Usage) -> float:
    assert usage.usd is not None
    assert usage.cached_usd is not None
    return usage.usd + usage.cached_usd


@pytest.mark.parametrize("num_before", [0, 1, 4, 6])
def test_attempts_add_up_to_what_one_would_have_cost(server, cache, num_before):
    server.behaviour = dies_after(num_before)
    if num_before < 6:
        with pytest.raises(JudgeDownError) as caught:
            ask(server, cache, 6)
        assert caught.value.usage is not None
        assert caught.value.usage.usd == pytest.approx(num_before * EACH)
    else:
        ask(server, cache, 6)
    server.behaviour = always(Reaction())
    usage = ask(server, cache, 6)
    assert (usage.num_cached, usage.num_answered) == (num_before, 6 - num_before)
    assert usage.num_cached_prompt_tokens == 100 * num_before
    assert usage.num_cached_completion_tokens == 10 * num_before
    assert usage.num_prompt_tokens + usage.num_cached_prompt_tokens == 6 * 100
    assert usage.cached_usd == pytest.approx(num_before * EACH)
    assert total_usd(usage) == pytest.approx(6 * EACH)


def test_an_answer_that_was_there_costs_what_it_cost_then(server, cache):
    ask(server, cache, 3)
    usage = ask(server, cache, 6, **{name: 10 * usd for name, usd in PRICES.items()})
    assert usage.cached_usd == pytest.approx(3 * EACH)
    assert usage.usd == pytest.approx(3 * 10 * EACH)


def test_a_price_that_was_not_known_then_is_not_known_now(server, cache):
    ask(server, cache, 1, **dict.fromkeys(PRICES))
    usage = ask(server, cache, 2)
    assert (usage.cached_usd, usage.usd) == (None, pytest.approx(EACH))
    assert ask(server, ReplyCache(cache.folder / "none"), 2, **dict.fromkeys(PRICES)).usd is None


def test_estimated_tokens_stay_marked_in_the_cache(server, cache):
    server.behaviour = always(Reaction(has_usage=False))
    ask(server, cache, 1)
    assert ask(server, cache, 1).is_estimated


def test_a_name_stands_for_its_model_wherever_it_is_served_and_who_answered_is_told(
    server, cache, caplog
):
    """As of artifacts: where the judge is does not change what it says."""
    ask(server, cache, 2)
    with served_judge() as moved, caplog.at_level(logging.WARNING):
        usage = ask(moved, cache, 3)
        assert len(moved.asked) == 1
        assert usage.num_by_server == {server.url: 2, moved.url: 1}
        [warning] = [record.getMessage() for record in caplog.records]
        assert f"2 answers are kept that {server.url} gave, not {moved.url}" in warning
        caplog.clear()
        ask(moved, ReplyCache(cache.folder / "none"), 3)
        assert not caplog.records
