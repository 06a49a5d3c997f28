"""Several ways of SFT in one study: what they share, what each is, and what is refused."""

import io
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import assume, given
from planned_study import fingerprints, inputs_in, plan_of, study_in
from pydantic import ValidationError
from rich.console import Console
from samples import ROOT

from wit.alignment_recipes import DPOKnobs
from wit.compatibility import check_together
from wit.config import Cell, Runtime, Study
from wit.display import plan_as_json, show_plan
from wit.errors import ConfigError
from wit.estimate import estimate
from wit.forms import CellRequest
from wit.lineage.cells import cell_columns
from wit.lineage.studies import _version_of
from wit.loading import load_study
from wit.recipes import SFTKnobs
from wit.tuning_grid import curves_of, tuning_id
from wit.weights import TokenWeights

LORA = {"method": "lora", "rank": 4}
NAMED: dict[str, Any] = {
    "full": {"num_epochs": [1, 4]},
    "lora": {"adapter": LORA, "num_epochs": [4, 1]},
    "mora": {"adapter": "mora", "learning_rate": 1e-3},
}
NAMES = ["full-e1", "full-e4", "lora-e4", "lora-e1", "mora"]
NAMES_OF_USERS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,9}", fullmatch=True)
SFT = {"learning_rate": 3e-4, "num_epochs": 3, "weight_decay": 0.0, "max_grad_norm": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inputs_in(tmp_path_factory.mktemp("inputs"))


def values(folder: Path, **tunings: Any) -> dict[str, Any]:
    pairs = [{"prompt": 0, "response": 1}, {"prompt": 0.2, "response": 1}]
    more = {"weights": pairs, "seeds": [0, 1], "sft": SFT, "tunings": tunings}
    return study_in(folder) | more


def test_a_tuning_has_what_sft_says_then_its_own(folder: Path) -> None:
    found = Study.model_validate(values(folder, **NAMED)).tuned_by
    assert [*found] == NAMES
    assert [knobs.num_epochs for knobs in found.values()] == [1, 4, 4, 1, 3]
    rates = [3e-4, 3e-4, 3e-3, 3e-3, 1e-3]  # that of an adapter is ten times as high
    assert [knobs.learning_rate for knobs in found.values()] == rates
    assert {(knobs.weight_decay, knobs.max_grad_norm) for knobs in found.values()} == {(0.0, 0.5)}


def test_a_tuning_without_the_adapter_of_sft_learns_at_a_tenth(folder: Path) -> None:
    adapted = SFT | {"adapter": LORA}
    study = values(folder, same={}, none={"adapter": None}) | {"sft": adapted}
    found = Study.model_validate(study).tunings
    assert [knobs.learning_rate for knobs in found.values()] == [3e-4, 3e-5]
    assert found["same"] == Study.model_validate(study).sft
    assert found["none"].adapter is None


def test_each_makes_what_a_study_of_it_alone_would_make(folder: Path) -> None:
    """And shares what it would share with it: data, and what is measured on the base."""
    together = plan_of(values(folder, **NAMED))
    assert len(together.cells) == 2 * 2 * len(NAMES)
    places = {str(one.cell): place for place, one in enumerate(together.cells)}
    for name, knobs in together.study.tunings.items():
        alone = plan_of(values(folder) | {"sft": knobs.model_dump(mode="json")})
        for place, one in enumerate(alone.cells):
            there = places[f"{one.cell}@{name}"]
            assert fingerprints(together, there) == fingerprints(alone, place)


def test_a_study_without_tunings_has_no_name_for_its_own(folder: Path) -> None:
    study = Study.model_validate(values(folder))
    assert study.tuned_by == {None: study.sft}
    assert [str(cell) for cell in study.cells][:2] == ["p0-r1-s0", "p0.2-r1-s0"]


@given(st.data())
def test_a_study_that_is_kept_and_read_again_is_the_same(data: st.DataObject) -> None:
    own = st.fixed_dictionaries(
        {},
        optional={
            "num_epochs": st.integers(1, 9),
            "learning_rate": st.sampled_from([1e-5, 1e-3]),
            "adapter": st.sampled_from([None, "none", "lora", LORA, {"method": "mora"}]),
        },
    )
    tunings = data.draw(st.dictionaries(st.sampled_from(["a", "b.c", "d-e1"]), own, max_size=3))
    base = {"name": "x", "base": {"path": "builtin"}, "instructions": {"path": "builtin"}}
    more = {"preferences": {"path": "builtin"}, "weights": ["instruction-tuning"]}
    scored = {"benchmarks": [{"name": "wit_seen", "role": "select"}]}
    try:
        study = Study.model_validate(base | more | scored | {"sft": SFT, "tunings": tunings})
    except ValidationError:  # two of them are equal
        assume(False)
        raise
    assert Study.model_validate(yaml.safe_load(yaml.safe_dump(study.stated()))) == study
    assert Study.model_validate_json(study.model_dump_json()) == study


@given(
    st.floats(0.001, 10),
    st.integers(0, 10**9),
    NAMES_OF_USERS,
)
def test_the_name_of_a_cell_says_what_it_is(prompt: float, seed: int, name: str) -> None:
    weights = TokenWeights(prompt=float(f"{prompt:g}"), response=1)
    for tuning in (None, name):
        cell = Cell(weights=weights, seed=seed, tuning=tuning)
        found = cell_columns(str(cell))
        assert (found["weights"], found["seed"], found["tuning"]) == (str(weights), seed, tuning)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tunings": {"a": {}, "b": {}}}, "'a' and 'b' have the same knobs"),
        ({"tunings": {"a": {"num_epochs": []}}}, "tunings.a.num_epochs names no number"),
        ({"tunings": {"a": {"num_epochs": [1, 1]}}}, "names 1 twice"),
        ({"tunings": {"a-e1": {}, "a": {"num_epochs": [1]}}}, "'a-e1' is there twice"),
        ({"tunings": {"a": {"num_epochs": [1, 0]}}}, "greater than 0"),
        ({"tunings": {"dpo": {"num_epochs": 9}}}, "'dpo' is a tuning and an alignment"),
        ({"tunings": {"a": 3}}, "dictionary"),
        (
            {"dpo": {"adapter": "continue"}, "tunings": {"a": {}, "b": {"adapter": "lora"}}},
            "'sft.adapter' is unset",
        ),
        (
            {"dedupe": "rays", "sft": {}, "tunings": {"a": {}, "b": {"max_grad_norm": 1}}},
            "set tunings.b.max_grad_norm=0",
        ),
        (
            {"weights": {"search": {"rays": 3, "budget": 2}}, "tunings": {"a": {}}},
            "a search is of one way of SFT",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(
    folder: Path, change: dict[str, Any], said: str
) -> None:
    study = {k: v for k, v in values(folder).items() if k != "seeds"} | change
    with pytest.raises(ValidationError) as error:
        Study.model_validate(study)
    assert said in str(error.value)


def test_a_wrong_sft_is_complained_of_once(tmp_path: Path, folder: Path) -> None:
    wrong = values(folder, **NAMED) | {"sft": {"learning_rate": -1}}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(wrong))
    with pytest.raises(ConfigError) as error:
        load_study(file)
    assert str(error.value).count("learning_rate") == 1


def test_a_runtime_that_one_of_them_cannot_have_is_refused_by_its_key(folder: Path) -> None:
    study = Study.model_validate(values(folder, full={}, dora={"adapter": LORA | {"dora": True}}))
    runtime = Runtime(device="cuda", num_processes=2, sharding="fsdp")
    with pytest.raises(ConfigError, match=r"tunings\.dora\.adapter = lora with dora"):
        check_together(study, runtime)
    half = Study.model_validate(values(folder, full={}, half={"precision": "float16"}))
    with pytest.raises(ConfigError, match=r"tunings\.half\.precision = float16"):
        check_together(half, Runtime(device="cpu"))


def test_other_names_are_another_study_in_mlflow(folder: Path) -> None:
    """What is measured stands under their names."""
    plans = [plan_of(values(folder, **{name: {"num_epochs": 7}})) for name in ("a", "b")]
    versions = [_version_of(plan.study, plan.whole) for plan in plans]
    assert fingerprints(plans[0]) == fingerprints(plans[1])
    assert versions[0] != versions[1]


def test_tunings_that_differ_in_epochs_alone_are_one_curve(folder: Path) -> None:
    found = Study.model_validate(values(folder, **NAMED)).tunings
    assert curves_of(found) == {
        "full": ["full-e1", "full-e4"],
        "lora": ["lora-e1", "lora-e4"],
        "mora": ["mora"],
    }


@given(st.integers(1, 99), st.sampled_from([None, "lora", "mora"]))
def test_the_identity_of_a_tuning_is_that_of_its_knobs(epochs: int, adapter: str | None) -> None:
    knobs = SFTKnobs.model_validate({"num_epochs": epochs, "adapter": adapter})
    again = SFTKnobs.model_validate(json.loads(knobs.model_dump_json()))
    assert tuning_id(again) == tuning_id(knobs)
    other = knobs.model_copy(update={"num_epochs": epochs + 1})
    assert tuning_id(other) != tuning_id(knobs)


def test_an_adapter_that_trains_no_tokens_is_what_it_was_before_there_was_that_knob() -> None:
    """So what was trained with it is found; and an alignment, which trains none, may say so."""
    for knobs in (SFTKnobs, DPOKnobs):
        identity = knobs.model_validate({"adapter": LORA | {"tokens": "none"}}).identity()
        assert "tokens" not in identity["adapter"]
    assert SFTKnobs.model_validate({"adapter": LORA}).identity()["adapter"]["tokens"] == "template"
    assert DPOKnobs.model_validate({"adapter": LORA}).identity() == identity


@pytest.fixture(scope="module")
def quick() -> Study:
    """On what the package ships, whose weights can be counted."""
    file = ROOT / "configs" / "studies" / "quickstart.yaml"
    named = {name: own for name, own in NAMED.items() if name != "mora"}
    weights = "weights=[{prompt: 0, response: 1}]"
    return load_study(file, [f"tunings={json.dumps(named)}", "seeds=[0]", weights])


def test_the_plan_counts_epochs_and_weights_of_each(quick: Study, tmp_path: Path) -> None:
    runtime = Runtime(artifact_root=tmp_path)
    plan = plan_of(quick.stated(), runtime)
    cost = estimate(plan, runtime)
    one = estimate(plan_of(quick.stated() | {"tunings": {}}, runtime), runtime)
    epochs = [1, 4, 4, 1]
    assert cost.sft_tokens == pytest.approx(sum(epochs) / 3 * one.sft_tokens, rel=1e-5)
    assert cost.trained_weights is not None
    assert one.trained_weights is not None
    assert cost.trained_weights["full-e1"] == one.trained_weights["sft"]
    assert 0 < cost.trained_weights["lora-e1"] < cost.trained_weights["full-e1"] / 10
    shown = io.StringIO()
    show_plan(Console(file=shown, width=200), plan, cost)
    assert "p0-r1-s0@lora-e4" in shown.getvalue()
    found = plan_as_json(plan, cost)
    assert found["tunings"] == ["full-e1", "full-e4", "lora-e4", "lora-e1"]
    assert found["num_cells"] == found["num_trained_cells"] == 4


def test_a_cell_of_the_form_is_of_one_tuning(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(values(folder, **NAMED)))
    one = CellRequest(study_file=str(file), tuning="lora-e1").load_study()
    assert [str(cell) for cell in one.cells] == ["p0.2-r1-s0@lora-e1"]
    assert "@" not in one.name
    first = CellRequest(study_file=str(file)).load_study()
    assert [cell.tuning for cell in first.cells] == ["full-e1"]
    with pytest.raises(ConfigError, match="no tuning 'lore'; it has full-e1"):
        CellRequest(study_file=str(file), tuning="lore").load_study()


def test_the_identity_of_a_tuning_is_what_it_was() -> None:
    """MLflow has it with every run; a new knob at its default is left out of ``identity``."""
    adapter = {"rank": 4}
    known = {"03fe83d6d36c": {}, "ee1acb337a5f": {"adapter": adapter}}
    known["300a82137fa2"] = {"adapter": adapter | {"tokens": "none"}}
    assert {tuning_id(SFTKnobs.model_validate(k)): k for k in known.values()} == known
