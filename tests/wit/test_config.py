"""Recipes, studies and runtimes as typed values."""

import json
import math
import re
from typing import Any

import pytest
from pydantic import ValidationError

from wit.alignment_recipes import DPOKnobs, DPORecipe
from wit.config import Runtime, Study
from wit.evaluation_recipes import (
    AlignmentEvaluation,
    Benchmark,
    BenchmarkEvaluation,
    ForgettingEvaluation,
    ItemsRecipe,
    LikelihoodEvaluation,
    OverlapRecipe,
)
from wit.recipes import (
    DataRecipe,
    InstructionsRecipe,
    LocatedInput,
    PreferencesRecipe,
    Recipe,
    SFTKnobs,
    SFTRecipe,
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
    ItemsRecipe,
    OverlapRecipe,
    BenchmarkEvaluation,
    AlignmentEvaluation,
    LikelihoodEvaluation,
    ForgettingEvaluation,
)


def test_every_stage_has_a_name_and_a_version_of_its_own() -> None:
    names = [re.split("[@-]", recipe.stage) for recipe in STAGES]
    assert len({tuple(parts[:-1]) for parts in names}) == len(STAGES)
    assert all(parts[-1].isdecimal() for parts in names)


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
    assert (sft.normaliser, sft.loss, sft.adapter) == ("nonzero_tokens", "nll", None)
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
    for recipe in (
        InstructionsRecipe(path="here"),
        PreferencesRecipe(path="here", min_margin=1),
    ):
        assert set(type(recipe).model_fields) - set(recipe.identity()) == {"path"}
        assert recipe.identity() == recipe.model_copy(update={"path": "there"}).identity()
    assert TokenizerRecipe(template="alpaca").identity() == {}
    pinned = InstructionsRecipe(repo="org/name", revision="a" * 40).identity()
    assert (pinned["repo"], pinned["revision"]) == ("org/name", "a" * 40)


def test_only_these_knobs_are_left_out_of_identities() -> None:
    left_out: dict[type[Recipe], frozenset[str]] = {r: r.not_identity for r in STAGES}
    assert {kind: knobs for kind, knobs in left_out.items() if knobs} == {
        TokenizerRecipe: {"template"}
    }


@pytest.mark.parametrize("kind", [InstructionsRecipe, PreferencesRecipe])
def test_rows_of_a_mixture_count_by_their_content_and_its_knobs_by_their_values(
    kind: type[DataRecipe],
) -> None:
    def identity(**of_a: Any) -> dict[str, Any]:
        sources = {"a": {"path": "here", **of_a}, "b": {"repo": "org/b", "revision": "b" * 40}}
        return kind.model_validate({"sources": sources}).identity()

    assert identity(path="there") == identity()
    assert "path" not in identity()["sources"]["a"]
    assert identity()["sources"]["b"]["revision"] == "b" * 40
    for knob in ({"max_rows": 3}, {"columns": {"prompt": "ask"}}):
        assert identity(**knob) != identity()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "either 'path'"),
        ({"path": "here"}, "either 'sources' or 'path'"),
        ({"repo": "org/a", "revision": "a" * 40}, "either 'sources' or 'repo' and 'revision'"),
        ({"split": "test"}, "either 'sources' or 'split'"),
        ({"columns": {"prompt": "ask"}}, "either 'sources' or 'columns'"),
    ],
)
def test_a_mixture_has_its_places_in_its_sources(given: dict[str, Any], says: str) -> None:
    sources = {"a": {"path": "a"}} if given else {}
    with pytest.raises(ValidationError, match=says):
        InstructionsRecipe.model_validate({"sources": sources, **given})


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ({"a": {"path": "a", "share": 1}, "b": {"path": "b"}}, "none has; without: b"),
        ({"a": {"path": "a", "share": 0}}, "greater than 0"),
        ({"a": {}}, "give either 'path'"),
        ({"a": {"path": "a", "max_tokens": 3}}, "max_tokens"),
        ({"a b": {"path": "a"}}, "pattern"),
    ],
)
def test_a_source_of_a_mixture_that_makes_no_sense_is_refused(
    sources: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        InstructionsRecipe.model_validate({"sources": sources})


def test_the_order_in_which_sources_are_written_changes_nothing() -> None:
    a, b = {"path": "a.jsonl"}, {"path": "b.jsonl"}
    one, other = (
        InstructionsRecipe(sources=sources) for sources in ({"a": a, "b": b}, {"b": b, "a": a})
    )
    assert list(one.by_source()) == list(other.by_source()) == ["a", "b"]


def test_a_single_place_is_one_source_without_a_name() -> None:
    alone = InstructionsRecipe(path="here", max_rows=3)
    assert list(alone.by_source()) == [""]
    assert (alone.by_source()[""].path, alone.by_source()[""].max_rows) == ("here", 3)
    sources = {"b": {"path": "x", "share": 2}, "a": {"path": "y", "share": 1}}
    mixture = InstructionsRecipe.model_validate({"sources": sources, "max_rows": 9})
    assert {name: s.path for name, s in mixture.by_source().items()} == {"b": "x", "a": "y"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"normaliser": "tokens"},
        {"loss": "dpo"},
        {"precision": "int8"},
        {"adapter": {"rank": 0}},
        {"adapter": {"rank": 8.0}},
        {"adapter": {"rank": "8"}},
        {"adapter": {"dropout": 1}},
        {"adapter": {"method": "loha", "config": {"module_dropout": 0.1}}},
        {"adapter": {"modules": "lm_head"}},
        {"max_grad_norm": -1},
    ],
)
def test_knobs_of_a_training_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    [name] = wrong
    with pytest.raises(ValidationError, match=name):
        SFTKnobs.model_validate(wrong)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"text": {"path": "text.jsonl"}, "samples": {"path": "builtin"}},
        {"judge": {"model": "a judge", "temperature": None, "seed": None}},
        {"sft": {"adapter": {"rank": 4}}, "weights": [{"prompt": 1, "response": 1, "stop": 0}]},
    ],
    ids=str,
)
def test_what_a_study_states_is_the_same_study(given: dict[str, Any]) -> None:
    """A model may know no temperature: null is not what is left out."""
    study = Study.model_validate(STUDY | given)
    stated = json.loads(json.dumps(study.stated()))
    assert Study.model_validate(stated) == study
    assert "null" not in json.dumps({key: stated[key] for key in stated if key != "judge"})


def test_what_a_runtime_states_is_the_same_runtime() -> None:
    judge = {"base_url": "http://127.0.0.1:1/v1", "key_variable": None}
    for runtime in (Runtime(), Runtime.model_validate({"judge": judge, "num_workers": 3})):
        assert Runtime.model_validate(json.loads(json.dumps(runtime.stated()))) == runtime
