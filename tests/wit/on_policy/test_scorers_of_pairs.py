"""Pairs by every scorer, made as a study makes them, of a policy that throws a coin."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from coins import HEADS, TAILS, coin, token_of
from judge_server import KEY, VARIABLE, Body, JudgeServer, Reaction, served_judge
from reward_models import known_reward_model, score_of_number
from samples import write_jsonl
from tiny import write_tiny_study

from wit.artifacts import Artifact
from wit.builtin import BASE_DIR
from wit.config import Runtime
from wit.data.splits import TRAIN, read_table
from wit.errors import ConfigError
from wit.judge_cost import judge_cost
from wit.judging.prompts import judge_prompts
from wit.loading import load_study
from wit.on_policy.pairs import RESPONSES_FILE
from wit.plan import make_plan
from wit.records import MODEL
from wit.stages import make_artifact
from wit.tokenizers import Tokenizer, load_tokenizer

DRAWN = {"num_responses": 4, "max_new_tokens": 3, "max_prompts": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scorers")
    known_reward_model(folder / "rewards")
    on_policy = {
        "matched": {"scorer": "exact_match"},
        "rewarded": {"scorer": "reward_model", "reward_model": {"path": str(folder / "rewards")}},
        "judged": {"scorer": "judge"},
    }
    alignments = {name: {"on_policy": DRAWN | knobs} for name, knobs in on_policy.items()}
    sides = [(HEADS, TAILS) if number % 3 else (TAILS, HEADS) for number in range(32)]
    rows = [
        {"prompt": f"Throw coin {number}.", "chosen": chosen, "rejected": rejected}
        for number, (chosen, rejected) in enumerate(sides)
    ]
    pairs = {"path": str(write_jsonl(folder / "pairs.jsonl", rows))}
    write_tiny_study(
        folder, "scorers", alignments=alignments, judge={"model": "judge"}, preferences=pairs
    )
    return folder


@pytest.fixture(scope="module")
def judge() -> Iterator[JudgeServer]:
    with served_judge() as server:
        server.behaviour = for_tails
        yield server


def for_tails(body: Body, _: int) -> Reaction:
    """It likes tails better."""
    asked = body["messages"][-1]["content"]
    rating = 8 if f"Assistant's Answer]\n{TAILS}\n" in asked else 3
    return Reaction(text=f"Rating: [[{rating}]]")


@pytest.fixture
def runtime(folder: Path, judge: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv(VARIABLE, KEY)
    endpoint: Any = {"base_url": judge.url, "key_variable": VARIABLE}
    return Runtime(artifact_root=folder / "artifacts", device="cpu", judge=endpoint)


def pairs_of(folder: Path, runtime: Runtime, tokenizer: Tokenizer, name: str) -> Artifact:
    """Of an alignment, ready to be made: the coin is in the place of the SFT model."""
    plan = make_plan(load_study(folder / "scorers.yaml"), runtime)
    [cell] = plan.cells
    for artifact in (plan.tokenizer, plan.items, plan.instructions, plan.preferences):
        make_artifact(artifact, runtime)
    if not cell.sft.exists():
        with cell.sft.lock(), cell.sft.writing() as out:
            coin(tokenizer).save_pretrained(out / MODEL)
            tokenizer.save_pretrained(out / MODEL)
    [aligned] = (one for one in cell.aligned if one.alignment == name)
    return aligned.made[0]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(BASE_DIR)


def test_a_reward_model_ranks_by_its_scores(
    folder: Path, runtime: Runtime, tokenizer: Tokenizer
) -> None:
    pairs = pairs_of(folder, runtime, tokenizer, "rewarded")
    make_artifact(pairs, runtime)
    scores = {side: score_of_number(token_of(tokenizer, side)) for side in (HEADS, TAILS)}
    best = max(scores, key=lambda side: scores[side])
    rows = read_table(pairs.path, TRAIN).to_pylist()
    assert rows
    assert {row["chosen_ids"][0] for row in rows} == {token_of(tokenizer, best)}
    drawn = pq.read_table(pairs.path / RESPONSES_FILE).to_pylist()
    assert {one["text"]: one["score"] for one in drawn} == scores


def test_a_judge_ranks_by_its_ratings(
    folder: Path, runtime: Runtime, tokenizer: Tokenizer, judge: JudgeServer
) -> None:
    pairs = pairs_of(folder, runtime, tokenizer, "judged")
    make_artifact(pairs, runtime)
    rows = read_table(pairs.path, TRAIN).to_pylist()
    assert rows
    assert {row["chosen_ids"][0] for row in rows} == {token_of(tokenizer, TAILS)}
    usage = json.loads((pairs.path / "usage.json").read_text())
    assert usage["num_answered"] == len(judge.asked) <= 2 * 12, "equal responses are asked once"
    with pytest.raises(ConfigError, match="judge"):
        make_artifact(
            pairs.model_copy(update={"root": folder / "nowhere"}),
            runtime.model_copy(update={"judge": None}),
        )


def test_a_plan_says_what_the_judge_costs_at_most(folder: Path, runtime: Runtime) -> None:
    elsewhere = runtime.model_copy(update={"artifact_root": folder / "unmade"})
    plan = make_plan(load_study(folder / "scorers.yaml"), elsewhere)
    cost = judge_cost(plan, runtime, num_rows=30)
    assert cost is not None
    assert cost.num_requests == 4 * 12
    shortest = len(judge_prompts()["single-v1"].user) / 4 + 3
    assert 4 * 12 * shortest < cost.num_prompt_tokens < 4 * 12 * (shortest + 40)
    more = judge_cost(plan, runtime, num_rows=5)
    assert more is not None
    assert more.num_requests == 4 * 5


def test_exact_match_asks_what_the_chosen_response_says(
    folder: Path, runtime: Runtime, tokenizer: Tokenizer
) -> None:
    pairs = pairs_of(folder, runtime, tokenizer, "matched")
    make_artifact(pairs, runtime)
    asked = read_table(pairs.parents["preferences"].path, TRAIN).to_pylist()
    right = {row["row"]: row["chosen_ids"] for row in asked}
    rows = read_table(pairs.path, TRAIN).to_pylist()
    assert {row["chosen_ids"][0] for row in rows} == {
        token_of(tokenizer, s) for s in (HEADS, TAILS)
    }
    assert all(row["chosen_ids"] == right[row["row"]] != row["rejected_ids"] for row in rows)
