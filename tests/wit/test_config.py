"""Recipes, studies and runtimes as typed values."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from wit.config import (
    Benchmark,
    DPOKnobs,
    DPORecipe,
    EvaluationRecipe,
    InstructionsRecipe,
    LocatedInput,
    PreferencesRecipe,
    Recipe,
    Runtime,
    SFTKnobs,
    SFTRecipe,
    Study,
    TokenizerRecipe,
    TrainingKnobs,
)

STUDY: dict[str, Any] = {
    "name": "small",
    "base": {"path": "base"},
    "instructions": {"path": "rows.jsonl"},
    "preferences": {"path": "pairs.jsonl"},
    "weights": ["instruction-tuning", {"prompt": 1, "response": 1}],
    "seeds": [3, 1],
    "benchmarks": [{"name": "seen", "role": "select"}],
}
STAGES = (
    TokenizerRecipe,
    InstructionsRecipe,
    PreferencesRecipe,
    SFTRecipe,
    DPORecipe,
    EvaluationRecipe,
)


def test_every_stage_has_a_name_and_a_version_of_its_own() -> None:
    names = [recipe.stage.partition("@") for recipe in STAGES]
    assert len({name for name, _, _ in names}) == len(STAGES)
    assert all(version.isdecimal() for _, _, version in names)


@pytest.mark.parametrize("kind", [Study, Runtime, Benchmark, *STAGES])
def test_settings_are_frozen_and_strict(kind: Any) -> None:
    assert kind.model_config["frozen"]
    assert kind.model_config["extra"] == "forbid"
    with pytest.raises(ValidationError, match="no_such_knob"):
        kind.model_validate({"no_such_knob": 1})


def test_a_frozen_study_cannot_be_changed() -> None:
    study = Study.model_validate(STUDY)
    with pytest.raises(ValidationError, match="frozen"):
        study.name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_cells_are_all_pairs_with_seeds_outermost() -> None:
    study = Study.model_validate(STUDY)
    assert [str(cell) for cell in study.cells] == ["p0-r1-s3", "p1-r1-s3", "p0-r1-s1", "p1-r1-s1"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [SFTKnobs, DPOKnobs])
def test_no_knob_is_nan_or_infinite(kind: type[TrainingKnobs], value: float) -> None:
    floats = [name for name, default in kind().model_dump().items() if isinstance(default, float)]
    assert "learning_rate" in floats
    for name in floats:
        with pytest.raises(ValidationError, match=name):
            kind.model_validate({name: value})


def test_what_the_paper_trains_with_is_the_default() -> None:
    sft, dpo = SFTKnobs(), DPOKnobs()
    assert (sft.learning_rate, sft.num_epochs, sft.examples_per_step) == (2e-5, 2, 64)
    assert (sft.weight_decay, sft.schedule, sft.max_grad_norm) == (0.1, "cosine", 0)
    assert (dpo.learning_rate, dpo.beta, dpo.schedule) == (5e-7, 0.1, "linear")


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"repo": "org/name"},
        {"repo": "org/name", "revision": "main"},
        {"repo": "org/name", "revision": "A" * 40},
        {"path": "a", "repo": "org/name", "revision": "a" * 40},
        {"path": "a", "revision": "a" * 40},
    ],
)
def test_an_input_is_in_exactly_one_pinned_place(place: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        LocatedInput.model_validate(place)


def test_what_says_where_is_not_identity_and_the_rest_is() -> None:
    for recipe in (InstructionsRecipe(path="here"), PreferencesRecipe(path="here")):
        assert set(type(recipe).model_fields) - set(recipe.identity()) == {"path"}
        assert recipe.identity() == recipe.model_copy(update={"path": "there"}).identity()
    assert TokenizerRecipe(template="alpaca").identity() == {}
    pinned = InstructionsRecipe(repo="org/name", revision="a" * 40).identity()
    assert (pinned["repo"], pinned["revision"]) == ("org/name", "a" * 40)


def test_only_these_knobs_are_left_out_of_identities() -> None:
    left_out: dict[type[Recipe], frozenset[str]] = {r: r.not_identity for r in STAGES}
    assert left_out == {
        TokenizerRecipe: {"template"},
        InstructionsRecipe: {"path"},
        PreferencesRecipe: {"path"},
        SFTRecipe: frozenset(),
        DPORecipe: frozenset(),
        EvaluationRecipe: frozenset(),
    }
