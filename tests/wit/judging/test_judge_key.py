"""The key is sent to the judge, and is nowhere else."""

import json
import logging
import pickle
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from judge_server import ENVIRON, KEY, VARIABLE, JudgeServer, Reaction, always, judge_at
from pydantic import ValidationError

from wit.errors import InputError
from wit.judging.cache import ReplyCache
from wit.judging.errors import JudgeError
from wit.judging.questions import Answer
from wit.judging.rating import rate
from wit.judging.settings import JudgeEndpoint, check_judge, without_key

ANSWER = Answer(id="1", prompts=("Why?",), responses=("So.",), num_tokens=(2,), stopped=(True,))
FORMS = (KEY, KEY[:12], KEY[-12:], quote(KEY, safe=""))  # as it is, in part, and as addresses


def judged(server: JudgeServer, cache: ReplyCache, **changes: object):
    return rate([ANSWER], {}, judge_at(server, cache, max_retries=1, **changes))


def said_by(error: BaseException) -> str:
    """All that an error can show: text, traceback, what it stems from, what a process sends."""
    lines = "".join(traceback.format_exception(error))
    whole = [lines, repr(error), str(vars(error)), repr(pickle.loads(pickle.dumps(error)))]
    return "".join(whole)


def links(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def assert_hidden(text: str) -> None:
    assert not [form for form in FORMS if form in text]


def kept(folder: Path) -> str:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return "".join(f"{file}\n{file.read_text()}\n" for file in files)


@pytest.mark.parametrize(
    "reaction",
    [
        Reaction(status=401, body=f'{{"error": {{"message": "bad key {KEY}"}}}}'),
        Reaction(status=401, body=f"you sent Bearer {KEY}"),
        Reaction(status=400, body="." * 285 + KEY),
        Reaction(status=403, body=f'{{"error": "{KEY.replace("/", chr(92) + "/")}"}}'),
        Reaction(status=404, body=f"nothing at ?key={quote(KEY, safe='')}"),
        Reaction(status=429, body=KEY),
        Reaction(status=500, body=KEY),
        Reaction(body=f"<html>{KEY}</html>"),
        Reaction(cut=True),
        Reaction(seconds=0.4),
    ],
    ids=[
        "401",
        "401 text",
        "at the cut",
        "escaped",
        "404",
        "429",
        "500",
        "nonsense",
        "cut",
        "slow",
    ],
)
def test_no_error_and_no_log_holds_the_key(server, cache, tmp_path, caplog, capfd, reaction):
    server.behaviour = always(reaction)
    with caplog.at_level(logging.DEBUG), pytest.raises(JudgeError) as caught:
        judged(server, cache, timeout_seconds=0.2)
    for error in links(caught.value):
        assert_hidden(said_by(error))
        assert type(error).__module__.startswith("wit."), "the library's errors hold the request"
    assert caplog.records, "the library logs at this level"
    assert_hidden(caplog.text + "".join(str(vars(record)) for record in caplog.records))
    assert_hidden("".join(capfd.readouterr()))
    assert_hidden(kept(tmp_path))


def test_a_judge_that_says_the_key_is_not_quoted(server, cache, tmp_path, caplog):
    server.behaviour = always(Reaction(text=f"{KEY}: [[7]]"))
    with caplog.at_level(logging.DEBUG):
        rows, usage = judged(server, cache)
    assert server.asked[0].headers["authorization"].endswith(KEY)
    assert rows[0].rating == 7
    assert_hidden(kept(tmp_path) + rows[0].model_dump_json() + usage.model_dump_json())
    assert kept(tmp_path)
    assert_hidden(caplog.text)


def test_nor_is_a_server_that_calls_its_model_so(server, cache, tmp_path):
    body = {"choices": [{"message": {"content": "[[7]]"}, "finish_reason": KEY}], "model": KEY}
    server.behaviour = always(Reaction(body=json.dumps(body)))
    rows, _ = judged(server, cache)
    assert rows[0].rating == 7
    assert_hidden(kept(tmp_path) + rows[0].model_dump_json())


def test_settings_name_the_variable_only(server):
    endpoint = server.endpoint()
    shown = repr(endpoint) + endpoint.model_dump_json()
    assert VARIABLE in shown
    assert_hidden(shown)


@pytest.mark.parametrize(
    "knobs",
    [
        {"base_url": f"https://user:{quote(KEY, safe='')}@host/v1"},
        {"base_url": f"https://host/v1?key={quote(KEY, safe='')}"},
        {"base_url": "https://host/v1", "key_variable": KEY},
    ],
)
def test_settings_refuse_a_key_and_do_not_show_it(knobs):
    with pytest.raises(ValidationError) as caught:
        JudgeEndpoint.model_validate(knobs)
    assert_hidden(str(caught.value) + repr(caught.value))


def test_a_key_that_is_no_secret_may_occur_in_words():
    assert without_key("none: [[5]]", "5") == "none: [[5]]"
    assert without_key(f"a {KEY} b", KEY) == "a [key] b"
    assert without_key("as it is", None) == "as it is"


def test_a_key_out_of_a_block_is_sent_to_workers_and_shown_nowhere(server, cache):
    endpoint = server.endpoint(key_variable=None, key_secret="judge-key").with_key(f"{KEY}\n")
    sent = pickle.loads(pickle.dumps(endpoint))
    rate([ANSWER], {}, judge_at(server, cache)._replace(endpoint=sent, environ={}))
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    shown = f"{sent!r}{sent}{sent.model_dump()}{sent.model_dump_json()}{vars(sent)}"
    assert "judge-key" in shown
    assert_hidden(shown)
    assert JudgeEndpoint.model_validate(sent.model_dump()).key_secret == "judge-key"


def test_a_key_has_one_place():
    place = {"base_url": "https://host/v1", "key_secret": "judge-key"}
    found = JudgeEndpoint.model_validate(place)
    assert "judge-key" in str(found.key_place)
    assert JudgeEndpoint.model_validate(found.model_dump()) == found
    with pytest.raises(ValidationError, match="not both"):
        JudgeEndpoint.model_validate({**place, "key_variable": VARIABLE})


@pytest.mark.parametrize(("key", "says"), [("", "is empty"), (f"Bearer {KEY}", "holds blanks")])
def test_a_block_without_a_key_is_the_users_mistake(key, says):
    endpoint = JudgeEndpoint(base_url="https://host/v1", key_secret="judge-key")
    with pytest.raises(InputError, match="judge-key has not been read"):
        check_judge(endpoint, ENVIRON)
    with pytest.raises(InputError, match=f"secret/judge-key {says}") as complaint:
        check_judge(endpoint.with_key(key), ENVIRON)
    assert_hidden(str(complaint.value))
