"""Sets of a study that a judge scores: from the plan to the table, with a judge that fails too."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import wit
from judge_server import ENVIRON, KEY, VARIABLE, JudgeServer, Reaction, always
from tiny import make_tiny_base

from wit.analysis.comparison import compare
from wit.config import Runtime, Study
from wit.errors import ConfigError, InputError, WitError
from wit.evaluation.results import EvaluationResult, Score
from wit.judge_cost import judge_cost
from wit.judging.errors import JudgeDownError, UnparsableError
from wit.lineage import start_study, table
from wit.loading import load_runtime
from wit.machine import check_machine, check_the_judge
from wit.plan import Plan, make_plan
from wit.stages import make_artifact

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 101, "category": "math", "turns": ["One and one?", "And two?"]},
]
REFERENCES = [{"question_id": 101, "choices": [{"turns": ["2", "4"]}]}]
PAIRS = [{"instruction": f"Say {word}.", "output": word} for word in ("red", "blue")]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    pairs = folder / "pairs.json"
    pairs.write_text(json.dumps(PAIRS))
    return {
        "name": "judged",
        "base": {"path": str(make_tiny_base(folder / "base"))},
        "instructions": {"path": "builtin", "max_rows": 24},
        "preferences": {"path": "builtin", "max_rows": 16},
        "weights": ["instruction-tuning"],
        "benchmarks": [{"name": "wit_choice", "role": "select", "limit": 4}],
        "judge": {"model": "judge"},
        "judged": [
            {
                "name": "bench",
                "kind": "ratings",
                "role": "report",
                "path": write(folder / "questions.jsonl", QUESTIONS),
                "references": write(folder / "references.jsonl", REFERENCES),
                "max_new_tokens": 8,
            },
            {
                "name": "pairs",
                "kind": "pairs",
                "role": "select",
                "path": str(pairs),
                "references": str(pairs),
                "max_new_tokens": 8,
            },
        ],
    }


@pytest.fixture
def runtime(tmp_path: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    place = {"artifact_root": tmp_path / "root", "device": "cpu", "threads_per_worker": 1}
    return Runtime.model_validate({**place, "judge": server.endpoint(max_retries=0)})


def make_base_s(plan: Plan, runtime: Runtime) -> dict[str, Score | WitError]:
    """What is measured on the base, by name; or why it is not."""
    run = start_study(plan.study, [a for a, _ in plan.artifacts()], uri_of(runtime))
    for artifact in plan.data:
        make_artifact(artifact, runtime, run)
    found: dict[str, Score | WitError] = {}
    for artifact in plan.base_evaluations:
        try:
            make_artifact(artifact, runtime, run)
        except WitError as error:
            found[artifact.recipe.measures] = error  # pyright: ignore[reportAttributeAccessIssue]
            assert not artifact.path.exists()
            assert not artifact.scratch.exists()
            continue
        found |= {s.benchmark: s for s in EvaluationResult.load(artifact.path).scores if s.is_main}
    return found


def uri_of(runtime: Runtime) -> str:
    return f"sqlite:///{runtime.artifact_root}/mlflow.db"


def judge(body: dict[str, Any], _: int) -> Reaction:
    is_rating = "[[rating]]" in json.dumps(body)
    ranking = "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"
    return Reaction("Good. Rating: [[8]]" if is_rating else ranking)


def test_a_judge_s_scores_stand_in_the_table_and_its_key_stands_nowhere(
    values: dict[str, Any], runtime: Runtime, server: JudgeServer
) -> None:
    server.behaviour = judge
    plan = make_plan(Study.model_validate(values), runtime)
    check_machine(plan, runtime)
    found = make_base_s(plan, runtime)
    rating, rate = found["bench"], found["pairs"]
    assert isinstance(rating, Score)
    assert isinstance(rate, Score)
    assert (rating.value, rating.num_items, rating.metric) == (8, 4, "rating")
    # Who always likes the first one best has no opinion: each order says the opposite.
    assert (rate.value, rate.num_items, rate.metric) == (0.5, 2, "win_rate")
    assert len(server.asked) == 4 + 2 * 2
    rows = table("judged", uri_of(runtime)).set_index("benchmark")
    assert rows.loc["bench", "score"] == 8
    assert list(rows.loc[["bench", "pairs"], "role"]) == ["report", "select"]
    for file in runtime.artifact_root.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    # Made again elsewhere, nobody is asked again.
    for artifact in plan.base_evaluations[-4:]:
        artifact.path.rename(artifact.path.with_name("gone" + artifact.fingerprint))
    make_base_s(plan, runtime)
    assert len(server.asked) == 4 + 2 * 2


def test_without_its_judge_all_else_is_measured_and_no_score_is_made_up(
    values: dict[str, Any], runtime: Runtime, server: JudgeServer
) -> None:
    server.behaviour = always(Reaction(status=503))
    plan = make_plan(Study.model_validate(values), runtime)
    found = make_base_s(plan, runtime)
    assert isinstance(found["wit_choice"], Score)
    for name in ("bench", "pairs"):
        assert isinstance(found[name], JudgeDownError)
    rows = table("judged", uri_of(runtime))
    assert not {"bench", "pairs"} & set(rows["benchmark"])
    failed = rows[rows["status"] == "failed"]
    assert sorted(error.split(":")[0] for error in failed["error"]) == ["bench base", "pairs base"]
    [base] = [cell for cell in compare(rows) if cell.cell == "base"]
    assert len(base.models["base"].failed) == 2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_judge_waits_for_the_responses(
    values: dict[str, Any], runtime: Runtime, server: JudgeServer, tmp_path: Path
) -> None:
    """Two workers would begin with both at once."""
    server.behaviour = judge
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps(values))
    assert runtime.judge is not None
    place = [f"artifact_root={runtime.artifact_root}", "device=cpu", "num_workers=2"]
    place += [f"judge.base_url={server.url}", f"judge.key_variable={VARIABLE}"]
    words = [word for setting in place for word in ("--set-runtime", setting)]
    ended = wit("run", study, *words, environment=ENVIRON)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert KEY not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "setting",
    [
        f"judge.key_variable={KEY}",
        f"judge.base_url=https://somebody:{KEY}@host/v1",
        f"judge.key={KEY}",
        f"judge={KEY}",
    ],
)
def test_a_key_in_the_wrong_place_is_not_shown(setting: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as complaint:
        load_runtime(None, [setting])
    assert KEY not in str(complaint.value)
    key, _, value = setting.partition("=")
    file = tmp_path / "runtime.yaml"
    inner = {key.partition(".")[2]: value} if "." in key else value
    file.write_text(json.dumps({"judge": inner}))
    with pytest.raises(ConfigError, match=r"runtime\.yaml:1: judge") as complaint:
        load_runtime(file)
    assert KEY not in str(complaint.value)


def test_verdicts_that_cannot_be_read_are_no_score(
    values: dict[str, Any], runtime: Runtime, server: JudgeServer
) -> None:
    server.behaviour = always(Reaction("It is what it is."))
    found = make_base_s(make_plan(Study.model_validate(values), runtime), runtime)
    for name in ("bench", "pairs"):
        assert isinstance(found[name], UnparsableError)


def test_what_a_judge_needs_is_asked_for_before_anything_is_trained(
    values: dict[str, Any], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(Study.model_validate(values), runtime)
    nowhere = runtime.model_copy(update={"judge": None})
    with pytest.raises(ConfigError, match=r"judge\.base_url"):
        check_the_judge(plan, nowhere)
    for name in ENVIRON:
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match=next(iter(ENVIRON))):
        check_the_judge(plan, runtime)
    without = Study.model_validate({**values, "judged": []})
    check_the_judge(make_plan(without, nowhere), nowhere)


def test_a_plan_says_what_the_judge_costs_at_most(
    values: dict[str, Any], runtime: Runtime, server: JudgeServer
) -> None:
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 2.0}
    priced = runtime.model_copy(update={"judge": server.endpoint(**prices)})
    server.behaviour = judge
    plan = make_plan(Study.model_validate(values), priced)
    before = judge_cost(plan, priced, 1)
    assert before is not None
    # Of the base, the SFT and the DPO model: four ratings, and two pairs in both orders.
    assert before.num_requests == 3 * (4 + 2 * 2)
    assert before.max_completion_tokens == before.num_requests * 2048
    tokens = before.num_prompt_tokens + 2 * before.max_completion_tokens
    assert before.max_usd == pytest.approx(tokens / 1e6)
    make_base_s(plan, priced)
    after = judge_cost(plan, priced, 1)
    assert after is not None
    assert after.num_requests == 2 * (4 + 2 * 2)
    asked = sum(len(request.user) for request in server.asked)
    assert asked / 4 <= before.num_prompt_tokens / 3, "at most"
    assert judge_cost(plan, runtime, 1).max_usd is None  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"judge": None}, "'judged' needs 'judge'"),
        ({"judged": [{"name": "wit_choice", "kind": "ratings"}]}, "is the name of a benchmark"),
        ({"judged": [{"name": "a", "kind": "pairs", "references": None}]}, "need 'references'"),
    ],
)
def test_what_a_study_says_of_a_judge_wrongly(
    values: dict[str, Any], change: dict[str, Any], says: str
) -> None:
    if change.get("judged"):
        change = {"judged": [values["judged"][0] | change["judged"][0]]}
    with pytest.raises(ValueError, match=says):
        Study.model_validate({**values, **change})
