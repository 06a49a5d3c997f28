"""An answer that is kept is whole, and is the answer to just that question."""

import json
import threading
from multiprocessing import get_context

import pytest

from wit.judging import cache as cache_module
from wit.judging.cache import Reply, ReplyCache, cache_key
from wit.judging.prompts import JudgeRequest
from wit.judging.settings import JudgeModel

REQUEST = JudgeRequest("question 1", "single-v1@0", "Judge.", "text")
MODEL = JudgeModel(model="judge", temperature=0.0, max_tokens=10, seed=0)
KEY = cache_key(REQUEST, MODEL)
REPLY = Reply(
    text="Because é ☃. Rating: [[7]]\n",
    finish_reason="stop",
    served_model=None,
    num_prompt_tokens=12,
    num_completion_tokens=5,
    is_estimated=False,
    server="http://host/v1",
    usd=None,
)


@pytest.mark.parametrize(
    "request_changes",
    [{"prompt_version": "single-v1@1"}, {"system": "Judge"}, {"user": "texts"}],
)
def test_another_question_has_another_key(request_changes):
    assert cache_key(REQUEST._replace(**request_changes), MODEL) != KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"temperature": 1.0},
        {"temperature": None},
        {"max_tokens": 11},
        {"seed": 1},
        {"seed": None},
    ],
)
def test_another_judge_has_another_key(changes):
    assert cache_key(REQUEST, MODEL.model_copy(update=changes)) != KEY


def test_system_and_user_cannot_be_taken_for_each_other():
    swapped = REQUEST._replace(system=REQUEST.user, user=REQUEST.system)
    assert cache_key(swapped, MODEL) != KEY


def test_another_version_of_what_is_kept_has_another_key(monkeypatch):
    monkeypatch.setattr(cache_module, "VERSION", cache_module.VERSION + 1)
    assert cache_key(REQUEST, MODEL) != KEY


def test_what_is_kept_changes_only_with_its_version():
    """Whoever changes the one raises the other, for every answer is paid for."""
    kept = (
        "text finish_reason served_model num_prompt_tokens num_completion_tokens is_estimated "
        "server usd"
    )
    assert {2: kept} == {cache_module.VERSION: " ".join(Reply.model_fields)}


def test_how_errors_call_a_question_is_not_in_its_key():
    assert cache_key(REQUEST._replace(label="other"), MODEL) == KEY


def test_an_answer_is_read_back_as_it_was_kept(cache):
    assert cache.get(KEY) is None
    cache.put(KEY, REPLY)
    assert cache.get(KEY) == REPLY
    assert cache.get(cache_key(REQUEST._replace(user="other"), MODEL)) is None
    assert [file.suffix for file in cache.folder.rglob("*") if file.is_file()] == [".json"]


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_a_file_that_was_cut_counts_as_absent_and_is_replaced(cache, part):
    cache.put(KEY, REPLY)
    [file] = cache.folder.rglob("*.json")
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    assert cache.get(KEY) is None
    cache.put(KEY, REPLY)
    assert cache.get(KEY) == REPLY


def test_any_changed_byte_counts_as_damage(cache):
    cache.put(KEY, REPLY)
    [file] = cache.folder.rglob("*.json")
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert cache.get(KEY) in (None, REPLY)  # in JSON, not every byte means something
    changed = content.replace(b"[[7]]", b"[[9]]")
    assert changed != content
    assert json.loads(changed)
    file.write_bytes(changed)
    assert cache.get(KEY) is None


def write_often(folder, times: int) -> None:
    cache = ReplyCache(folder)
    for _ in range(times):
        cache.put(KEY, REPLY)


def test_several_processes_and_threads_never_show_half_an_answer(cache):
    cache.put(KEY, REPLY)
    context = get_context("fork")
    writers = [context.Process(target=write_often, args=(cache.folder, 60)) for _ in range(2)]
    writers += [threading.Thread(target=write_often, args=(cache.folder, 60))]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert cache.get(KEY) == REPLY
    for writer in writers:
        writer.join()
    assert len([file for file in cache.folder.rglob("*") if file.is_file()]) == 1
