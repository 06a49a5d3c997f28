"""What the forms of the Prefect UI ask for, and what becomes of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from samples import ROOT

from tasks.requests import merged
from wit.config import Study
from wit.errors import ConfigError
from wit.form_fields import BenchmarkChoice, Weights
from wit.forms import (
    FIRST,
    CellRequest,
    EvaluationRequest,
    StudyRequest,
    study_names,
)
from wit.report_form import ReportRequest
from wit.settings import Settings

QUICKSTART = ROOT / "configs" / "studies" / "quickstart.yaml"
FORMS = [StudyRequest, CellRequest, EvaluationRequest, ReportRequest]
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers())
trees = st.recursive(
    st.dictionaries(st.sampled_from("abc"), leaves, min_size=1),
    lambda inner: st.dictionaries(st.sampled_from("abc"), leaves | inner, min_size=1),
)


def fields_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, field in part["properties"].items():
            yield f"{part['title']}.{name}", field


@pytest.mark.parametrize("form", FORMS)
def test_every_field_says_what_it_is(form: type[Settings]) -> None:
    for name, field in fields_of(form.model_json_schema()):
        assert field.get("title"), name
        assert str(field.get("description", "")).endswith("."), name
        # Prefect shows a box for JSON where a field may hold anything.
        assert field.get("type") != "object", name


@pytest.mark.parametrize("form", FORMS)
def test_a_form_needs_nothing(form: type[Settings]) -> None:
    assert form().model_fields_set == set()
    assert "required" not in form.model_json_schema()


def test_studies_are_offered_by_name() -> None:
    offered = StudyRequest.model_json_schema()["properties"]["study"]["enum"]
    assert offered == study_names()
    assert {file.stem for file in QUICKSTART.parent.glob("*.yaml")} == set(offered)


def test_an_empty_form_is_the_study_of_its_file() -> None:
    assert StudyRequest().load_study() == StudyRequest(study_file=str(QUICKSTART)).load_study()


def flat(value: Any, place: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            k: v for key, inner in value.items() for k, v in flat(inner, f"{place}.{key}").items()
        }
    return {place[1:]: json.dumps(value)}


def differing(study: Study) -> dict[str, str]:
    plain, other = (flat(s.model_dump(mode="json")) for s in (StudyRequest().load_study(), study))
    return {key: other[key] for key in other if other[key] != plain.get(key)}


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ({"seeds": [4, 2]}, {"seeds": "[4, 2]"}),
        ({"max_rows": 9}, {"instructions.max_rows": "9", "preferences.max_rows": "9"}),
        ({"sft_loss": "dft"}, {"sft.loss": '"dft"'}),
        ({"dpo_beta": 1e-5}, {"dpo.beta": "1e-05"}),
        (
            {"settings": ["sft.num_epochs=1", "name=mine"]},
            {"sft.num_epochs": "1", "name": '"mine"'},
        ),
        ({"settings": ["dpo.beta=0.3"], "dpo_beta": 0.2}, {"dpo.beta": "0.2"}),
    ],
)
def test_a_field_changes_its_keys_and_no_other(
    field: dict[str, Any], changed: dict[str, str]
) -> None:
    assert differing(StudyRequest(**field).load_study()) == changed


def test_weights_and_benchmarks_take_the_place_of_the_study_s() -> None:
    form = StudyRequest(
        weights=[Weights(prompt=0.3, response=0.7)],
        benchmarks=[BenchmarkChoice(name="wit_choice", role="select", limit=3)],
    )
    study = form.load_study()
    assert [str(cell) for cell in study.cells] == ["p0.3-r0.7-s0", "p0.3-r0.7-s1"]
    assert [(b.name, b.role, b.limit) for b in study.benchmarks] == [("wit_choice", "select", 3)]


def test_a_cell_is_a_study_of_its_own() -> None:
    study = CellRequest(weights=Weights(prompt=0.3, response=0.7), seed=5).load_study()
    assert [str(cell) for cell in study.cells] == ["p0.3-r0.7-s5"]
    assert study.name == "quickstart-p0.3-r0.7-s5"


def test_an_evaluation_takes_nobody_s_name() -> None:
    study = EvaluationRequest(models=["dpo"]).load_study()
    assert study.name == "quickstart-evaluation"
    assert study.model_copy(update={"name": "quickstart"}) == StudyRequest().load_study()


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (StudyRequest(study="quikstart"), "'quikstart' is no file of .*There are: .*quickstart"),
        (StudyRequest(study="../../etc/passwd"), "is no file of"),
        (
            StudyRequest(settings=["sft.num_epoch=3"]),
            r"^Other settings: sft.num_epoch=3: sft.num_epoch: .*num_epochs",
        ),
        (
            StudyRequest(weights=[Weights(prompt=0, response=0)]),
            "^Loss weights: weights.*nothing would be",
        ),
        (
            StudyRequest(benchmarks=[BenchmarkChoice(name="wit_seen")]),
            "^Benchmarks: .*role: select",
        ),
    ],
)
def test_what_no_form_can_check_is_one_clear_error(form: StudyRequest, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        form.load_study()


def test_a_wrong_runtime_names_its_field() -> None:
    form = StudyRequest(runtime_settings=["num_workers=0"])
    with pytest.raises(
        ConfigError, match=r"^Other runtime settings: num_workers=0: num_workers = 0"
    ):
        form.load_runtime()


def test_no_password_becomes_a_parameter_of_a_run() -> None:
    address = "tracking_uri=postgresql+psycopg2://me:hush@db/mlflow"
    with pytest.raises(ConfigError, match="set MLFLOW_TRACKING_URI in the environment") as refused:
        StudyRequest(runtime_settings=[address]).load_runtime()
    assert "hush" not in str(refused.value)
    plain = StudyRequest(runtime_settings=["tracking_uri=http://here:5000"]).load_runtime()
    assert plain.tracking_uri == "http://here:5000"


@pytest.mark.parametrize("form", FORMS)
def test_what_most_runs_change_stands_on_top(form: type[Settings]) -> None:
    properties = form.model_json_schema()["properties"]
    if form is ReportRequest:  # few fields, in their order
        assert all("position" not in field for field in properties.values())
        return
    shown = sorted(properties, key=lambda name: properties[name]["position"])
    first = [name for name in FIRST if name in properties]
    assert shown[: len(first)] == first
    assert [properties[name]["position"] for name in shown] == list(range(len(properties)))


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (StudyRequest(), "quickstart"),
        (StudyRequest(study_file="/a/mine.yaml"), "mine"),
        (StudyRequest(settings=["name=first", "sft.num_epochs=1", " name = second"]), "second"),
        (CellRequest(settings=["name=mine"]), "mine p0.2-r1-s0"),
    ],
)
def test_a_run_is_called_like_its_study(form: StudyRequest | CellRequest, name: str) -> None:
    assert form.label == name


def test_a_runtime_is_its_file_and_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "runtime.yaml"
    file.write_text("{artifact_root: root, device: cpu, num_workers: 2}")
    form = StudyRequest(
        runtime_file=str(file),
        runtime_settings=["num_workers=3"],
        device="cuda",
        execution="deployments",
    )
    runtime = form.load_runtime()
    assert runtime.artifact_root == tmp_path / "root"
    assert (runtime.num_workers, runtime.device) == (3, "cuda")
    assert runtime.execution == "deployments"
    assert StudyRequest(runtime_file=str(file)).load_runtime().execution == "local"
    assert StudyRequest(runtime_file="").load_runtime().device == "auto", "prefect.yaml's unset one"


@given(trees, trees)
def test_merged_all_the_way_down(base: dict[str, Any], given_values: dict[str, Any]) -> None:
    both = merged(base, given_values)
    assert merged(base, {}) == base
    assert merged({}, given_values) == given_values
    assert merged(both, given_values) == both
    before, after, found = flat(base), flat(given_values), flat(both)
    assert after.items() <= found.items()
    for place, value in before.items():
        is_replaced = any(
            place == other or place.startswith(f"{other}.") or other.startswith(f"{place}.")
            for other in after
        )
        assert is_replaced or found[place] == value


def test_deployments_start_with_what_their_forms_take() -> None:
    known = dict(zip(("study", "cell", "evaluation", "report"), FORMS, strict=True))
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        [(name, values)] = deployment["parameters"].items()
        assert name == "request"
        assert known[deployment["name"]](**values).model_fields_set == set(values)
