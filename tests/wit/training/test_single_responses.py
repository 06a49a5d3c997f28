"""KTO on responses that are good or bad, without a pair."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from aligned import align, recipe, references_of

from wit.builtin import DATA_DIR
from wit.config import Runtime
from wit.data.prepare import TRAIN, make_preferences, read_split
from wit.errors import ConfigError
from wit.loading import load_study
from wit.machine import check_machine
from wit.plan import make_plan
from wit.recipes import PreferencesRecipe
from wit.training.reference import with_reference

NUM_PAIRS = 48


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every pair as two responses, a good and a bad one."""
    lines = (DATA_DIR / "preferences.jsonl").read_text(encoding="utf-8").splitlines()[:NUM_PAIRS]
    rows: list[dict[str, Any]] = []
    for pair in map(json.loads, lines):
        for side in ("chosen", "rejected"):
            label = side == "chosen"
            rows.append({"prompt": pair["prompt"], "completion": pair[side], "label": label})
    path = tmp_path_factory.mktemp("single") / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def responses(file: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("responses")
    chosen = PreferencesRecipe(path=str(file), held_out_fraction=0)
    make_preferences(chosen, file, tokenizer_folder, folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    chosen = PreferencesRecipe(path="builtin", held_out_fraction=0)
    make_preferences(chosen, DATA_DIR / "preferences.jsonl", tokenizer_folder, folder)
    return folder


def test_good_responses_gain_and_bad_ones_lose(
    policy: Path, responses: Path, tmp_path: Path
) -> None:
    chosen = recipe(objective="kto", num_epochs=4, learning_rate=3e-3)
    figures, _ = align(tmp_path, policy, responses, chosen)
    assert figures[1]["loss"] == pytest.approx(0.5, abs=1e-4)
    steps = [step for step, logged in sorted(figures.items()) if "rewards/chosen" in logged]
    last = [figures[step] for step in steps[-len(steps) // 4 :]]
    means = {
        side: sum(logged[f"rewards/{side}"] for logged in last) / len(last)
        for side in ("chosen", "rejected")
    }
    assert means["chosen"] > means["rejected"]
    assert not any("rewards/margins" in logged for logged in last), "there are no pairs"


def test_a_response_has_the_reference_that_it_has_in_a_pair(
    policy: Path, responses: Path, pairs: Path, tmp_path: Path
) -> None:
    chosen = recipe(objective="dpo")
    [of_single] = references_of(tmp_path / "single", policy, responses, chosen)
    [of_pairs] = references_of(tmp_path / "pairs", policy, pairs, chosen)
    single = with_reference(read_split(responses, TRAIN), of_single, TRAIN).to_list()
    known = {
        (*row["prompt_ids"], *row[f"{side}_ids"]): row[f"{side}_reference_logp"]
        for row in with_reference(read_split(pairs, TRAIN), of_pairs, TRAIN).to_list()
        for side in ("chosen", "rejected")
    }
    assert len(single) > NUM_PAIRS
    for row in single:
        expected = known[(*row["prompt_ids"], *row["response_ids"])]
        assert row["response_reference_logp"] == pytest.approx(expected, rel=1e-5)


def test_splitting_a_step_of_single_responses_changes_nothing(
    policy: Path, responses: Path, tmp_path: Path
) -> None:
    """A micro-batch may have good responses only."""
    chosen = recipe(objective="kto", num_epochs=1, loss_weights={"kto": 1.0, "sft": 0.1})
    references = references_of(tmp_path, policy, responses, chosen)
    found = [
        align(
            tmp_path / str(size),
            policy,
            responses,
            chosen,
            references=references,
            micro_batch_size=size,
        ).figures
        for size in (8, 1)
    ]
    for step in range(1, max(found[0]) + 1):
        for name in ("loss", "kl", "nll/chosen"):
            if name in found[0][step]:
                expected = pytest.approx(found[0][step][name], rel=5e-3, abs=2e-4)
                assert found[1][step][name] == expected, (step, name)


def test_an_objective_of_pairs_is_refused_before_anything_is_made(
    base: Path, file: Path, tmp_path: Path
) -> None:
    study = {
        "name": "single",
        "base": {"path": str(base)},
        "instructions": {"path": "builtin"},
        "preferences": {"path": str(file)},
        "weights": ["instruction-tuning"],
        "benchmarks": [{"name": "wit_seen", "role": "select"}],
        "dpo": {"objective": "ipo"},
    }
    path, runtime = tmp_path / "study.yaml", Runtime(artifact_root=tmp_path / "root", device="cpu")
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"study\.yaml:\d+: dpo\.objective = ipo .*kto"):
        check_machine(make_plan(load_study(path, []), runtime), runtime)
    check_machine(make_plan(load_study(path, ["dpo.objective=kto"]), runtime), runtime)


def test_an_objective_of_pairs_is_refused_by_the_training_too(
    policy: Path, responses: Path, tmp_path: Path
) -> None:
    """The columns of a set on the hub are not known before."""
    with pytest.raises(ConfigError, match="learns from pairs"):
        align(tmp_path, policy, responses, recipe(), references=[])
