"""A judge that is slow, busy, broken or gone: what is asked, how often, and what is said of it."""

import socket
import time

import pytest
from judge_server import (
    ENVIRON,
    VARIABLE,
    Body,
    JudgeServer,
    Reaction,
    always,
    at_first,
    judge_at,
)

from wit.errors import InputError
from wit.judging.cache import ReplyCache
from wit.judging.client import Answered, Judge, ask_all
from wit.judging.errors import JudgeDownError, JudgeError
from wit.judging.prompts import JudgeRequest
from wit.judging.settings import JudgeEndpoint, JudgeModel, check_judge
from wit.judging.usage import Usage


def requests(num: int) -> list[JudgeRequest]:
    return [JudgeRequest(f"question {n}", "p@1", "Judge.", f"text {n}") for n in range(num)]


def ask(
    server: JudgeServer, cache: ReplyCache, num: int = 1, **changes: object
) -> tuple[list[Answered], Usage]:
    return ask_all(requests(num), judge_at(server, cache, **changes))


def echo(body: Body, number: int) -> Reaction:
    return Reaction(text=f"said of {body['messages'][-1]['content']}", seconds=0.03)


def test_answers_come_in_the_order_of_the_requests_and_equal_ones_are_asked_once(server, cache):
    server.behaviour = echo
    asked = [*requests(6), *requests(3)]
    answered, usage = ask_all(asked, judge_at(server, cache))
    assert [a.reply.text for a in answered] == [f"said of {request.user}" for request in asked]
    assert len(server.asked) == usage.num_requests == usage.num_answered == 6


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_requests_are_open_than_allowed(server, cache, limit):
    server.behaviour = echo
    ask(server, cache, 12, max_concurrent_requests=limit)
    assert server.most_open == limit


def test_what_is_sent_is_what_the_settings_say(server, cache):
    model = JudgeModel(model="m", temperature=0.5, max_tokens=77, seed=3)
    ask_all(requests(1), judge_at(server, cache)._replace(model=model))
    [first] = server.asked
    assert first.body == {
        "model": "m",
        "temperature": 0.5,
        "max_tokens": 77,
        "seed": 3,
        "messages": [
            {"role": "system", "content": "Judge."},
            {"role": "user", "content": "text 0"},
        ],
    }
    bare = JudgeModel(model="m", temperature=None, max_tokens=77, seed=None)
    judge = judge_at(server, cache, limit_parameter="max_completion_tokens")
    ask_all(requests(1), judge._replace(model=bare))
    assert {*server.asked[1].body} == {"model", "messages", "max_completion_tokens"}


def test_retry_after_is_waited_for(server, cache):
    busy = Reaction(status=429, headers={"Retry-After": "1"}, body="{}")
    server.behaviour = at_first(busy)
    _, usage = ask(server, cache)
    first, second = server.asked
    assert second.at - first.at >= 1  # without it, half a second
    assert usage.num_retries == 1


def test_an_hour_is_not_waited_for(server, cache):
    server.behaviour = always(Reaction(status=429, headers={"Retry-After": "3600"}, body="{}"))
    with pytest.raises(JudgeDownError, match=r"status 429.*wait 3600 s.*Lower max_con") as caught:
        ask(server, cache)
    assert len(server.asked) == 1
    assert caught.value.may_pass


@pytest.mark.parametrize(
    "trouble",
    [
        Reaction(status=500, body="oops"),
        Reaction(status=503, body="{}"),
        Reaction(cut=True),
        Reaction(is_silent_cut=True),
        Reaction(seconds=1.0),
    ],
    ids=["500", "503", "cut", "cut without a word", "too slow"],
)
def test_what_passes_is_tried_again(server, cache, trouble):
    server.behaviour = at_first(trouble)
    answered, usage = ask(server, cache, 3, timeout_seconds=0.6)
    assert [a.reply.text for a in answered] == ["Rating: [[5]]"] * 3
    assert len(server.asked) == 4
    assert (usage.num_retries, usage.num_failed, usage.num_answered) == (1, 0, 3)


def test_pauses_between_attempts_grow(server, cache):
    server.behaviour = at_first(Reaction(status=500, body="{}"), times=2)
    ask(server, cache)
    first, second, third = (asked.at for asked in server.asked)
    # half a second and then one, each less by up to a quarter; a busy machine adds to both
    assert second - first > 0.35
    assert third - second > 0.7


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_not_tried_again_and_says_what_to_do(server, cache, status):
    server.behaviour = always(Reaction(status=status, body='{"error": "no such thing"}'))
    with pytest.raises(JudgeError, match="no such thing") as caught:
        ask(server, cache)
    said = str(caught.value)
    assert len(server.asked) == 1
    assert f"judge judge at {server.url}" in said
    assert str(status) in said
    remedy = {400: "context", 401: VARIABLE, 403: VARIABLE, 404: "'model'", 422: "context"}
    assert remedy[status] in said
    assert not caught.value.may_pass


def test_html_is_no_answer_and_is_not_asked_for_forever(server, cache):
    server.behaviour = always(Reaction(body="<html>Welcome</html>"))
    with pytest.raises(JudgeError, match=r"no chat completion: '<html>Welcome.*base_url"):
        ask(server, cache)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "body", ["[]", '{"choices": []}', '{"error": "busy"}', '{"choices": [{"message": 5}]}']
)
def test_json_that_is_no_completion_is_no_answer(server, cache, body):
    server.behaviour = always(Reaction(body=body))
    with pytest.raises(JudgeError, match="no chat completion"):
        ask(server, cache)
    assert not list(cache.folder.rglob("*.json"))


def test_an_answer_without_text_is_an_empty_one(server, cache):
    body = '{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}'
    server.behaviour = always(Reaction(body=body))
    [answered], _ = ask(server, cache)
    assert (answered.reply.text, answered.reply.finish_reason) == ("", "content_filter")


def test_a_judge_that_is_not_there_is_one_error_after_bounded_time(server, cache):
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{place.getsockname()[1]}/v1"
        start = time.monotonic()
        with pytest.raises(JudgeDownError, match=r"cannot be reached.*0 of 20") as caught:
            ask(server, cache, 20, base_url=url, max_retries=1)
    assert time.monotonic() - start < 5
    usage = caught.value.usage
    assert usage is not None
    assert usage.num_answered == 0
    assert usage.num_failed >= 1
    assert caught.value.may_pass


def test_a_server_that_sends_a_letter_now_and_then_is_not_waited_for(server, cache):
    server.behaviour = always(Reaction(drip_seconds=0.1))
    start = time.monotonic()
    with pytest.raises(JudgeDownError, match=r"no whole answer within 0\.5 s"):
        ask(server, cache, timeout_seconds=0.5, max_retries=0)
    assert time.monotonic() - start < 3


def test_the_next_run_goes_on_where_the_judge_went_down(server, cache):
    def dies(body: Body, number: int) -> Reaction:
        return Reaction() if number < 5 else Reaction(status=503, body="{}")

    server.behaviour = dies
    with pytest.raises(JudgeDownError, match=r"5 of 9 requests are answered") as caught:
        ask(server, cache, 9, max_retries=0, max_concurrent_requests=1)
    assert caught.value.usage is not None
    assert caught.value.usage.num_answered == 5
    server.asked.clear()
    answered, usage = ask(server, cache, 9)
    assert len(server.asked) == 4
    assert (usage.num_cached, usage.num_answered) == (5, 4)
    assert [a.is_cached for a in answered] == [True] * 5 + [False] * 4
    again, usage = ask(server, cache, 9)
    assert len(server.asked) == 4
    assert (usage.num_cached, usage.num_answered, usage.num_prompt_tokens) == (9, 0, 0)
    assert [a.reply for a in again] == [a.reply for a in answered]


def test_the_first_failure_ends_the_others(server, cache):
    def hangs(body: Body, number: int) -> Reaction:
        refused = body["messages"][-1]["content"] == "text 0"
        return Reaction(status=400, body="{}") if refused else Reaction(seconds=5)

    server.behaviour = hangs
    start = time.monotonic()
    with pytest.raises(JudgeError, match="refuses question 0"):
        ask(server, cache, 8)
    assert time.monotonic() - start < 4


def test_tokens_and_money_are_added_up(server, cache):
    prices = {"usd_per_million_prompt_tokens": 2, "usd_per_million_completion_tokens": 8}
    _, usage = ask(server, cache, 5, **prices)
    assert (usage.num_prompt_tokens, usage.num_completion_tokens) == (500, 50)
    assert usage.usd == pytest.approx(500 * 2e-6 + 50 * 8e-6)
    assert not usage.is_estimated
    assert ask(server, ReplyCache(cache.folder / "other"))[1].usd is None


def test_tokens_that_the_server_does_not_tell_are_estimated_and_marked(server, cache):
    server.behaviour = always(Reaction(text="x" * 41, has_usage=False))
    [answered], usage = ask(server, cache)
    assert usage.is_estimated
    assert answered.reply.is_estimated
    # "Judge." has 6 characters, "text 0" too
    assert (usage.num_prompt_tokens, usage.num_completion_tokens) == (2 + 2, 11)


def test_a_server_without_key_gets_none(server, cache, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-this-server")
    for nothing in (None, ""):
        endpoint = server.endpoint(key_variable=nothing)
        check_judge(endpoint, {})
        model = JudgeModel(model=f"judge {nothing}")
        ask_all(requests(1), Judge(model, endpoint, cache, {"OPENAI_API_KEY": "not-for-this"}))
    assert len(server.asked) == 2
    assert not any("authorization" in asked.headers for asked in server.asked)


def test_the_key_goes_where_it_belongs(server, cache):
    ask(server, cache)
    assert server.asked[0].headers["authorization"] == f"Bearer {ENVIRON[VARIABLE]}"


@pytest.mark.parametrize(
    ("environ", "said"),
    [({}, "is not set"), ({VARIABLE: " "}, "is empty"), ({VARIABLE: "sk-a\nb"}, "line breaks")],
)
def test_a_key_that_is_not_there_is_the_users_mistake(server, cache, environ, said):
    with pytest.raises(InputError, match=f"{VARIABLE}.*{said}") as caught:
        check_judge(server.endpoint(), environ)
    assert "sk-a" not in str(caught.value)
    with pytest.raises(InputError):
        ask_all(requests(1), judge_at(server, cache)._replace(environ=environ))
    assert not server.asked


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://host/v1", "http://", "http://host:99999/v1"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="write an address such as"):
        JudgeEndpoint(base_url=url)
