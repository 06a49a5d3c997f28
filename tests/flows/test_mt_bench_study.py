"""A whole study that is judged on all 80 questions of MT-Bench: from the flow to the table."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import wit
from flow_runs import ended, runtime_words
from judge_server import KEY, VARIABLE, Body, Reaction, served_judge
from samples import SHARED
from served_model import served_model
from tiny import write_tiny_study

from flows.study import run_study
from wit.builtin import BASE_DIR
from wit.forms import StudyRequest
from wit.judging.cache import Reply
from wit.judging.usage import Usage
from wit.judging.verdicts import read_rating
from wit.outcome import StudyOutcome

MT_BENCH = SHARED / "data" / "mt-bench"
QUESTIONS, REFERENCES = MT_BENCH / "question.jsonl", MT_BENCH / "reference_gpt-4.jsonl"
NUM_TURNS = 160  # 80 questions of two
NUM_MUTE = 4  # questions, both turns

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not QUESTIONS.exists(), reason=f"MT-Bench is not at {MT_BENCH}"),
]


def run(folder: Path, judge: dict[str, Any], *endpoint: str) -> StudyOutcome:
    """One cell on a tiny base; its three models answer, and are judged."""
    file = write_tiny_study(folder, "mt-bench")
    bench = {"name": "mt_bench", "kind": "ratings", "role": "report", "max_new_tokens": 8}
    judged = [{**bench, "path": str(QUESTIONS), "references": str(REFERENCES)}]
    study = yaml.safe_load(file.read_text()) | {"judge": judge, "judged": judged}
    file.write_text(yaml.safe_dump(study))
    words = [*runtime_words(folder / "root"), *(f"judge.{setting}" for setting in endpoint)]
    return ended(run_study, StudyRequest(study_file=str(file), runtime_settings=words))


def models_in(folder: Path) -> list[dict[str, Any]]:
    """As ``wit compare --json`` tells of them: the base, SFT and DPO."""
    uri = f"sqlite:///{folder / 'root'}/mlflow.db"
    said = wit("compare", "mt-bench", "--json", environment={"MLFLOW_TRACKING_URI": uri})
    assert said.returncode == 0, said.stderr
    cells = json.loads(said.stdout)
    cells = cells["cells"] if isinstance(cells, dict) else cells
    found = [model for cell in cells for model in cell["models"].values()]
    assert len(found) == 3
    return found


def test_all_questions_are_judged_and_the_table_has_them_with_intervals(
    prefect: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rated 7 and then 5; 3 and then 2 where there is a reference; four questions not at all."""
    monkeypatch.setenv(VARIABLE, KEY)
    rows = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    mute = [row["turns"][0] for row in rows if row["category"] == "writing"][:NUM_MUTE]

    def verdict(body: Body, _: int) -> Reaction:
        user = body["messages"][-1]["content"]
        if any(prompt in user for prompt in mute):
            return Reaction("I would rather not say.")
        is_second, is_known = "Conversation with User" in user, "of Reference Answer" in user
        return Reaction(f"Rating: [[{(3, 2)[is_second] if is_known else (7, 5)[is_second]}]]")

    with served_judge() as server:
        server.behaviour = verdict
        place = f"base_url={server.url}", f"key_variable={VARIABLE}"
        outcome = run(tmp_path, {"model": "judge"}, *place)
        again = run(tmp_path, {"model": "judge"}, *place)
    assert not outcome.failures
    assert {stage.status for stage in again.stages} == {"reused"}
    usages = [
        Usage.model_validate_json(file.read_text())
        for file in (tmp_path / "root" / "evaluation").glob("*/usage.json")
    ]
    assert [usage.num_requests for usage in usages] == [NUM_TURNS] * 3
    assert sum(usage.num_answered for usage in usages) == len(server.asked)
    assert len({asked.user for asked in server.asked}) == len(server.asked), "nothing twice"

    # 46 questions of 7 and 5, 30 of 3 and 2; turns of one question do not count as two.
    num, total = 2 * (46 + 30), 46 * 12 + 30 * 5
    mean = total / num
    squares = 46 * (12 - 2 * mean) ** 2 + 30 * (5 - 2 * mean) ** 2
    stderr = math.sqrt(76 / 75 * squares) / num
    for model in models_in(tmp_path):
        assert model["benchmarks"]["mt_bench"] == pytest.approx(mean)
        assert model["half_widths"]["mt_bench"] == pytest.approx(1.96 * stderr, rel=0.03)
        parts = {n.removeprefix("mt_bench/"): v for n, v in model["diagnostics"].items()}
        assert parts["unparsable_share"] == 2 * NUM_MUTE / NUM_TURNS
        assert (parts["rating of math"], parts["rating of stem"]) == (2.5, 6)
        assert parts["rating of turn 1"] == pytest.approx((46 * 7 + 30 * 3) / 76)


def test_a_real_server_with_a_model_that_cannot_judge_gives_no_score_and_costs_nothing_else(
    prefect: None, tmp_path: Path
) -> None:
    """The embedded model behind ``transformers serve``."""
    with served_model(BASE_DIR, tmp_path / "log") as url:
        knobs = ("key_variable=null", "max_concurrent_requests=2", "timeout_seconds=60")
        judge = {"model": str(BASE_DIR), "max_tokens": 24}
        outcome = run(tmp_path, judge, f"base_url={url}", *knobs)
    replies = [
        Reply.model_validate(json.loads(file.read_text())["reply"])
        for file in (tmp_path / "root" / "judge-replies").rglob("*.json")
    ]
    assert NUM_TURNS <= len(replies) <= 3 * NUM_TURNS
    assert not [reply for reply in replies if read_rating(reply.text) is not None]
    said = {
        "requests": len(replies),
        "prompt tokens": sum(reply.num_prompt_tokens for reply in replies),
        "completion tokens": sum(reply.num_completion_tokens for reply in replies),
    }
    print(said)  # noqa: T201  for who measures: pytest -s
    assert len(outcome.failures) == 3
    for failure in outcome.failures:
        assert f"{NUM_TURNS} of {NUM_TURNS} responses" in failure.message
    for model in models_in(tmp_path):
        assert "mt_bench" not in model["benchmarks"], "missing, and not zero"
        assert "mt_bench" not in model["half_widths"]
        assert 0 <= model["benchmarks"]["wit_choice"] <= 1
        assert {"nll_response", "preference_accuracy"} <= set(model["diagnostics"])
        assert any("mt_bench" in failed for failed in model["failed"])
