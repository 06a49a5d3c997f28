"""The card of a model that was aligned: by which objective, in how many rounds, on which pairs."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from wit.alignment_recipes import DPORecipe
from wit.artifacts import RECORD, Artifact, Source
from wit.config import Study
from wit.evaluation.results import EvaluationResult, Score
from wit.evaluation_recipes import AlignmentEvaluation
from wit.export import known_roles
from wit.model_card import model_card
from wit.on_policy.recipes import OnPolicyKnobs, PairsRecipe
from wit.outcome import save_study
from wit.recipes import InstructionsRecipe, PreferencesRecipe, SFTRecipe, TokenizerRecipe
from wit.records import Kept
from wit.weights import TokenWeights

IPO = {"objective": "ipo", "beta": 0.2}
USUAL, OURS = ({"prompt": prompt, "response": 1.0} for prompt in (0.0, 0.5))


class Made(NamedTuple):
    """Two SFT models, each aligned with A and with B, and once more with IPO on A."""

    preferences: dict[str, Artifact]
    sft: Artifact
    aligned: dict[str, Artifact]
    again: Artifact
    usual_again: Artifact
    usual_sft: Artifact


@pytest.fixture
def made(tmp_path: Path) -> Made:
    base = Source(kind="model", fingerprint="ba5eba5eba5e", location="/models/base")
    rows = Source(kind="rows", fingerprint="f" * 12, location="rows.jsonl")

    def artifact(recipe, **parents) -> Artifact:
        made = Artifact(root=tmp_path, recipe=recipe, parents=parents)
        with made.writing():
            pass
        return made

    tokenizer = artifact(TokenizerRecipe(), base=base)
    on_rows = {"tokenizer": tokenizer, "rows": rows}
    instructions = artifact(InstructionsRecipe(path="builtin"), **on_rows)
    preferences = {
        name: artifact(PreferencesRecipe(path="builtin", max_rows=number), **on_rows)
        for number, name in enumerate("AB", 1)
    }

    def tuned(weights: dict[str, float]) -> tuple[Artifact, dict[str, Artifact], Artifact]:
        recipe = SFTRecipe(weights=TokenWeights.model_validate(weights), seed=0)
        sft = artifact(recipe, base=base, instructions=instructions)
        aligned = {
            name: artifact(DPORecipe(seed=0), policy=sft, preferences=pairs)
            for name, pairs in preferences.items()
        }
        ipo = DPORecipe.model_validate({**IPO, "seed": 0})
        again = artifact(ipo, policy=aligned["A"], preferences=preferences["A"])
        for beta in (0.4, 0.5, 0.6):  # others beside it
            other = ipo.model_copy(update={"beta": beta})
            artifact(other, policy=aligned["A"], preferences=preferences["A"])
        return sft, aligned, again

    usual, _, usual_again = tuned(USUAL)
    return Made(preferences, *tuned(OURS), usual_again, usual)


def measure(model: Artifact, preferences: Artifact, margin: float, day: int) -> None:
    on: dict[str, Artifact | Source] = {"model": model, "preferences": preferences}
    evaluation = Artifact(root=model.root, recipe=AlignmentEvaluation(), parents=on)
    score = Score(
        benchmark="logp_margin",
        metric="log-probability",
        value=margin,
        stderr=0.5,
        num_items=10,
        higher_is_better=True,
        is_main=True,
    )
    with evaluation.writing() as out:
        EvaluationResult(scores=(score,), runs={}).save(out)
    change_record(evaluation, ("made", "at"), f"2026-01-0{day}T00:00:00+00:00")


def change_record(artifact: Artifact, key: tuple[str, str], value: object) -> None:
    file = artifact.path / RECORD
    record = json.loads(file.read_text())
    record[key[0]][key[1]] = value
    file.write_text(json.dumps(record))


def card_of(artifact: Artifact) -> str:
    return model_card(Kept.at(artifact.path))


def cells_of(card: str, first: str) -> list[str]:
    [line] = [line for line in card.splitlines() if line.startswith(f"| {first}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("newer", ["A", "B"])
def test_a_model_stands_beside_its_sft_model_on_its_own_pairs(made: Made, newer: str) -> None:
    """Two studies share the SFT model; each measured it on its own pairs."""
    margins = {"A": 1.0, "B": 2.0}
    for name, margin in margins.items():
        day = 2 if name == newer else 1
        measure(made.sft, made.preferences[name], margin, day)
        measure(made.aligned[name], made.preferences[name], 10 * margin, day)
        other = "A" if name == "B" else "B"
        measure(made.aligned[name], made.preferences[other], 99.0, 3)
    for name, margin in margins.items():
        _, *shown = cells_of(card_of(made.aligned[name]), "logp margin")
        assert [float(cell.split()[0]) for cell in shown] == [10 * margin, margin]
    _, own = cells_of(card_of(made.sft), "logp margin")
    assert float(own.split()[0]) == margins[newer]


def test_pairs_that_a_model_was_not_aligned_with_are_those_it_was_measured_on(made: Made) -> None:
    measure(made.aligned["A"], made.preferences["B"], 10.0, 1)
    measure(made.sft, made.preferences["B"], 1.0, 1)
    _, *shown = cells_of(card_of(made.aligned["A"]), "logp margin")
    assert [float(cell.split()[0]) for cell in shown] == [10.0, 1.0]


def test_a_card_says_the_objective(made: Made) -> None:
    assert "then aligned with preferences (DPO, beta 0.1). Seed 0." in card_of(made.aligned["A"])
    change_record(made.aligned["A"], ("recipe", "objective"), "of tomorrow")
    assert "with preferences (see its recipe below)." in card_of(made.aligned["A"])
    assert "aligned" not in card_of(made.sft)


def test_a_model_that_was_aligned_twice_has_the_card_of_both(made: Made) -> None:
    pairs = made.preferences["A"]
    for margin, model in enumerate((made.again, made.sft, made.usual_again)):
        measure(model, pairs, float(margin), 1)
    card = card_of(made.again)
    assert f"# dpo p0.5-r1-s0 ({made.again.fingerprint})" in card
    assert "aligned with preferences (DPO, beta 0.1; then IPO, beta 0.2)" in card
    assert cells_of(card, "prompt") == ["prompt", "0.5"]
    assert cells_of(card, "beta") == ["beta", "", "0.1", "0.2"]
    assert "| | SFT | DPO 1 | DPO 2 |" in card
    assert card.count("### Preferences") == 1
    assert "| this model | SFT before it | instruction tuning (0, 1), same seed |" in card
    _, *shown = cells_of(card, "logp margin")
    assert [float(cell.split()[0]) for cell in shown] == [0.0, 1.0, 2.0]


def on_policy(made: Made, sft: Artifact, rounds: int) -> Artifact:
    """The last of some rounds on pairs of the policy's own."""
    knobs = OnPolicyKnobs(num_responses=4)
    policy, preferences = sft, made.preferences["A"]
    for number in range(1, rounds + 1):
        recipe = PairsRecipe.of(knobs, number, 0, None)
        pairs = Artifact(
            root=sft.root, recipe=recipe, parents={"policy": policy, "preferences": preferences}
        )
        own = DPORecipe(on_policy=knobs.model_copy(update={"rounds": number}), seed=0)
        policy = Artifact(
            root=sft.root, recipe=own, parents={"policy": policy, "preferences": pairs}
        )
        for artifact in (pairs, policy):
            if not artifact.exists():
                with artifact.writing():
                    pass
    return policy


def test_rounds_on_policy_stand_beside_those_of_other_weights(made: Made) -> None:
    """Their pairs are others, of the same prompts."""
    pairs = made.preferences["A"]
    ours, usual = on_policy(made, made.sft, 2), on_policy(made, made.usual_sft, 2)
    for margin, model in enumerate((ours, made.sft, usual)):
        measure(model, pairs, float(margin), 1)
    measure(made.sft, made.preferences["B"], 99.0, 2)
    card = card_of(ours)
    assert "| this model | SFT before it | instruction tuning (0, 1), same seed |" in card
    _, *shown = cells_of(card, "logp margin")
    assert [float(cell.split()[0]) for cell in shown] == [0.0, 1.0, 2.0]
    assert card.count("### Preferences") == 2
    assert "aligned with preferences (DPO, beta 0.1, on policy in 2 rounds). Seed" in card
    said = f"of 4 responses of its own to each prompt of `{pairs.fingerprint}` the best and the"
    assert f"* round 1: {said}" in card
    assert f"* round 2: {said}" in card


def test_every_round_belongs_to_the_study(made: Made) -> None:
    knobs = {"on_policy": {"num_responses": 4, "rounds": 2}}
    save_study(study_of(dpo=knobs), made.sft.root / "studies" / "study", "0" * 12)
    for rounds, roles in ((1, ["wit_choice"]), (2, ["wit_choice"]), (3, [])):
        model = on_policy(made, made.sft, rounds)
        assert [*known_roles(Kept.at(model.path))] == roles


def study_of(**more: object) -> Study:
    values = {
        "name": "study",
        "base": {"path": "builtin"},
        "instructions": {"path": "builtin"},
        "preferences": {"path": "builtin"},
        "weights": [OURS],
        "benchmarks": [{"name": "wit_choice", "role": "select"}],
    }
    return Study.model_validate(values | more)


def test_a_model_belongs_to_a_study_of_its_alignment_whichever_round_it_is_of(made: Made) -> None:
    root = made.sft.root
    save_study(study_of(dpo=IPO), root / "studies" / "study", "0" * 12)
    assert known_roles(Kept.at(made.again.path)) == {"wit_choice": "select"}
    assert known_roles(Kept.at(made.aligned["A"].path)) == {}
    assert known_roles(Kept.at(made.sft.path)) == {"wit_choice": "select"}


@pytest.mark.parametrize(("stage", "knob"), [("dpo", "gamma_beta_ratio"), ("sft", "decay_norms")])
def test_a_record_without_a_knob_that_came_later_is_known(
    made: Made, stage: str, knob: str
) -> None:
    """It has what is the default today."""
    model = made.aligned["A"]
    file = (model if stage == "dpo" else made.sft).path / RECORD
    record = json.loads(file.read_text())
    del record["recipe"][knob]
    file.write_text(json.dumps(record))
    save_study(study_of(), model.root / "studies" / "study", "0" * 12)
    assert known_roles(Kept.at(model.path)) == {"wit_choice": "select"}
