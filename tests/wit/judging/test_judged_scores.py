"""The scores of a judged set: what has no verdict is counted in one of them, and in no other."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from judge_server import KEY, VARIABLE, Body, JudgeServer, Reaction

from wit.config import Runtime
from wit.evaluation.judged import JUDGEMENTS_FILE, judge_responses
from wit.evaluation.results import EvaluationResult, Score
from wit.evaluation_recipes import JudgeEvaluation
from wit.judging.errors import UnparsableError
from wit.judging.settings import JudgeModel
from wit.judging.usage import USAGE_FILE, Usage
from wit.lineage.outcome import evaluation_metrics

NUM = 20


@pytest.fixture
def runtime(tmp_path: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv(VARIABLE, KEY)
    judge = server.endpoint(max_retries=0)
    return Runtime(artifact_root=tmp_path / "root", judge=judge)


def scores_of(kind: str, folder: Path, runtime: Runtime, turns: int = 1) -> dict[str, Score]:
    """Of twenty questions, by metric."""
    once = [
        {"prompts": f"Say {n}.", "responses": f"It is {n}.", "num_tokens": 3, "stopped": True}
        for n in range(NUM)
    ]
    answers = [
        {"id": str(n), "category": None} | {name: [value] * turns for name, value in said.items()}
        for n, said in enumerate(once)
    ]
    responses, references = folder / "responses.jsonl", folder / "references.jsonl"
    responses.write_text("".join(json.dumps(row) + "\n" for row in answers))
    known = [
        {"id": row["id"], "instruction": row["prompts"][0], "output": "No."} for row in answers
    ]
    references.write_text("".join(json.dumps(row) + "\n" for row in known))
    values = {"name": "set", "kind": kind, "judge": JudgeModel(model="judge")}
    recipe = JudgeEvaluation.model_validate(values)
    found = judge_responses(recipe, responses, references, folder, runtime)
    return {score.metric: score for score in found}


def says_nothing_of(*numbers: int):
    def behaviour(body: Body, _: int) -> Reaction:
        said = json.dumps(body)
        if any(f"Say {number}." in said for number in numbers):
            return Reaction("I like it.")
        ranking = "[{'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 1}]"
        return Reaction("[[7]]" if "[[rating]]" in said else ranking)

    return behaviour


@pytest.mark.parametrize(("kind", "main"), [("ratings", "rating"), ("pairs", "win_rate")])
@pytest.mark.parametrize("mute", [(), (3,), (3, 4)])
def test_the_share_without_a_verdict_is_a_score_of_its_own(
    kind: str, main: str, mute: tuple[int, ...], tmp_path: Path, server: JudgeServer, runtime
) -> None:
    server.behaviour = says_nothing_of(*mute)
    scores = scores_of(kind, tmp_path, runtime)
    share = scores["unparsable_share"]
    assert (share.value, share.num_items) == (len(mute) / NUM, NUM)
    assert not share.is_main
    assert not share.higher_is_better
    assert scores[main].is_main
    assert scores[main].num_items == NUM - len(mute)
    assert scores[main].value == (7 if kind == "ratings" else 0.5), "the others alone"
    metrics = evaluation_metrics(EvaluationResult(scores=tuple(scores.values())))
    assert metrics["set/unparsable_share"] == len(mute) / NUM, "as MLflow has it"


def test_turns_that_lack_a_verdict_together_tell_no_more_of_the_share_than_one(
    tmp_path: Path, server: JudgeServer, runtime: Runtime
) -> None:
    server.behaviour = says_nothing_of(3, 4)
    one, both = (
        scores_of("ratings", tmp_path, runtime, turns)["unparsable_share"] for turns in (1, 2)
    )
    assert (one.num_items, both.num_items) == (NUM, 2 * NUM)
    assert one.value == both.value == 0.1
    assert one.stderr == pytest.approx((0.1 * 0.9 / (NUM - 1)) ** 0.5)
    assert both.stderr == pytest.approx(one.stderr)


def test_too_many_without_a_verdict_are_no_score_and_all_that_was_said_is_written(
    tmp_path: Path, server: JudgeServer, runtime: Runtime
) -> None:
    server.behaviour = says_nothing_of(3, 4, 5)
    with pytest.raises(UnparsableError, match="3 of 20 responses"):
        scores_of("ratings", tmp_path, runtime)
    rows = pq.read_table(tmp_path / JUDGEMENTS_FILE).to_pylist()
    assert [row["text"] for row in rows].count("I like it.") == 3
    assert {row["server"] for row in rows} == {server.url}
    usage = Usage.model_validate_json((tmp_path / USAGE_FILE).read_text())
    assert (usage.num_answered, usage.num_by_server) == (NUM, {server.url: NUM})
