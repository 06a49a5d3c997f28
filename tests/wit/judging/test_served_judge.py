"""The embedded model as judge, behind ``transformers serve``: a real server and a poor judge."""

from collections.abc import Iterator

import pytest
from served_model import served_model
from test_judge_questions import MT_BENCH, needs_mt_bench

from wit.builtin import BASE_DIR
from wit.generation.questions import read_questions
from wit.judging.cache import ReplyCache
from wit.judging.client import Judge
from wit.judging.cost import longest_answers
from wit.judging.errors import JudgeError, UnparsableError
from wit.judging.pairwise import compare, win_rate
from wit.judging.questions import Answer, Reference, read_references
from wit.judging.rating import mean_rating, rate
from wit.judging.settings import JudgeEndpoint, JudgeModel

JUDGE = JudgeModel(model=str(BASE_DIR), max_tokens=24)
ANSWER = Answer(
    id="1",
    category="writing",
    prompts=("What is big?", "And small?"),
    responses=("A house.", "A mouse."),
    num_tokens=(3, 3),
    stopped=(True, True),
)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JudgeEndpoint]:
    log = tmp_path_factory.mktemp("served") / "log"
    with served_model(BASE_DIR, log) as url:
        yield JudgeEndpoint(
            base_url=url, key_variable=None, max_concurrent_requests=2, timeout_seconds=60
        )


def test_a_real_server_answers_what_the_protocol_says(endpoint, cache):
    rows, usage = rate([ANSWER], {}, Judge(JUDGE, endpoint, cache, {}))
    assert [row.turn for row in rows] == [1, 2]
    assert usage.num_answered == 2
    assert not usage.is_estimated
    for row in rows:
        assert 0 < row.num_completion_tokens <= JUDGE.max_tokens
        assert row.num_prompt_tokens > 50
        assert row.text or row.num_completion_tokens == 1
    again, usage = rate([ANSWER], {}, Judge(JUDGE, endpoint, cache, {}))
    assert usage.num_answered == 0
    assert [row.text for row in again] == [row.text for row in rows]


def test_temperature_0_gives_the_same_answer_twice(endpoint, tmp_path):
    first, second = (
        rate([ANSWER], {}, Judge(JUDGE, endpoint, ReplyCache(tmp_path / name), {})).rows
        for name in "ab"
    )
    assert [row.text for row in first] == [row.text for row in second]


def test_a_judge_that_cannot_judge_gives_no_score(endpoint, cache):
    rows, _ = rate([ANSWER], {}, Judge(JUDGE, endpoint, cache, {}))
    assert [row.rating for row in rows] == [None, None]
    with pytest.raises(UnparsableError, match="2 of 2 responses"):
        mean_rating(rows)
    single = Answer(
        id="1", prompts=("What?",), responses=("This.",), num_tokens=(2,), stopped=(True,)
    )
    known = {"1": Reference(id="1", prompts=("What?",), responses=("That.",))}
    pairs, _ = compare([single], known, Judge(JUDGE, endpoint, cache, {}))
    with pytest.raises(UnparsableError, match="1 of 1 pairs"):
        win_rate(pairs)


def test_a_model_that_the_server_does_not_have_is_an_error_of_the_judge(endpoint, cache):
    other = JUDGE.model_copy(update={"model": "none/such"})
    with pytest.raises(JudgeError, match="judge none/such at http"):
        rate([ANSWER], {}, Judge(other, endpoint, cache, {}))


@pytest.mark.slow
@needs_mt_bench
@pytest.mark.timeout(1200)
def test_all_of_mt_bench_can_be_judged(endpoint: JudgeEndpoint, cache: ReplyCache) -> None:
    questions = read_questions(MT_BENCH / "question.jsonl")
    references = read_references(MT_BENCH / "reference_gpt-4.jsonl")
    answers = longest_answers(questions, 1)
    rows, usage = rate(answers, references, Judge(JUDGE, endpoint, cache, {}))
    assert len(rows) == 160
    assert usage.num_answered == usage.num_requests
    # 160 of 160 without a rating, when this was written: the model has learned no such thing.
    with pytest.raises(UnparsableError, match="of 160 responses"):
        mean_rating(rows)
