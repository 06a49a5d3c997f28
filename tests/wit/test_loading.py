"""Studies and runtimes in YAML, and overrides: what is understood."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from study_file import STUDY, line_of

from wit.config import Runtime, Study
from wit.errors import InputError
from wit.loading import load_runtime, load_study


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def test_a_study_is_read_with_its_defaults(file: Path) -> None:
    study = load_study(file)
    assert [str(cell) for cell in study.cells] == [
        "p0-r1-s0",
        "p0.2-r1-s0",
        "p0-r1-s1",
        "p0.2-r1-s1",
    ]
    assert study.sft.learning_rate == 1e-3
    assert study.sft.num_epochs == 2
    assert study.instructions.max_tokens == 64


def test_relative_paths_are_meant_from_the_file_that_names_them(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    study = load_study(file)
    here = file.parent
    assert study.base.path == str(here / "models" / "base")
    assert study.base.template == str(here / "templates" / "ours.jinja")
    assert study.instructions.path == str(here / "rows.jsonl")
    assert study.preferences.path == "/data/pairs.jsonl"
    assert study.benchmarks[0].path == str(here / "seen.yaml")


def test_overridden_paths_are_meant_from_where_one_stands(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("DATA", "/mnt/data")
    overrides = [
        "base={path: m, template: alpaca}",
        "instructions.path=a.csv",
        "preferences.path=$DATA/p.csv",
    ]
    study = load_study(file, overrides)
    assert study.base.path == str(tmp_path / "elsewhere" / "m")
    assert study.base.template == "alpaca"
    assert study.instructions.path == str(tmp_path / "elsewhere" / "a.csv")
    assert study.preferences.path == "/mnt/data/p.csv"


def test_builtin_and_the_home_folder_are_known(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    study = load_study(file, ["base.path=builtin", "instructions.path=~/rows.jsonl"])
    assert study.base.path == "builtin"
    assert study.instructions.path == "/home/somebody/rows.jsonl"


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("sft.num_epochs=7", lambda s: s.sft.num_epochs == 7),
        ("sft={num_epochs: 7}", lambda s: (s.sft.num_epochs, s.sft.learning_rate) == (7, 2e-5)),
        ("dpo.beta=0.5", lambda s: s.dpo.beta == 0.5),  # dpo is not in the file
        ("seeds=[5]", lambda s: s.seeds == (5,)),
        ("seeds.1=9", lambda s: s.seeds == (0, 9)),
        ("weights.1.prompt=0.4", lambda s: str(s.weights[1]) == "p0.4-r1"),
        ("weights=[continual-pretraining]", lambda s: str(s.weights[0]) == "p1-r1"),
        ("benchmarks.0.limit=3", lambda s: s.benchmarks[0].limit == 3),
        ("instructions.columns={prompt: q}", lambda s: s.instructions.columns == {"prompt": "q"}),
    ],
)
def test_overrides_reach_any_depth(file: Path, override: str, found: Any) -> None:
    assert found(load_study(file, [override]))


@pytest.mark.parametrize(
    ("short", "long", "override"),
    [
        ("sft: {adapter: lora}", "sft: {adapter: {method: lora}}", "sft.adapter.rank=8"),
        ("sft: {adapter: mora}", "sft: {adapter: {method: mora}}", "sft.adapter.rank=8"),
        ("sft: {adapter: vera}", "sft: {adapter: {method: vera}}", "sft.adapter.config.r=8"),
        ("sft: {adapter: none}", "sft: {}", "sft.adapter.rank=8"),
        ("sft: {adapter: }", "sft: {}", "sft.adapter.rank=8"),
        ("sft: ", "sft: {}", "sft.num_epochs=8"),
        ("dpo: {adapter: lora}", "dpo: {adapter: {method: lora}}", "dpo.adapter.rank=8"),
        (
            "tunings: {a: , b: {adapter: mora}}",
            "tunings: {a: {}, b: {adapter: {method: mora}}}",
            "tunings.b.adapter.type=sharing",
        ),
        ("tunings: {a: }", "tunings: {a: {}}", "tunings.a.num_epochs=9"),
        ("alignments: {a: }", "alignments: {a: {}}", "alignments.a.adapter.rank=8"),
        (
            "weights: [instruction-modelling]",
            "weights: [{prompt: 1, response: 1, template: 0, boilerplate: 0}]",
            "weights.0.prompt=0.5",
        ),
    ],
)
def test_in_a_short_form_is_set_what_is_set_in_the_long_one(
    tmp_path: Path, short: str, long: str, override: str
) -> None:
    files = tmp_path / "short.yaml", tmp_path / "long.yaml"
    for file, text in zip(files, (short, long), strict=True):
        file.write_text(yaml.safe_dump(yaml.safe_load(STUDY) | yaml.safe_load(text)))
    study = load_study(files[1], [override])
    assert load_study(files[0], [override]) == study
    assert load_study(files[1]) != study


def test_a_name_stands_for_the_same_weights_after_an_override_as_before(file: Path) -> None:
    named = "weights=[continual-pretraining, instruction-modelling]"
    study = load_study(file, [named, "weights.0.prompt=0.5"])
    assert str(study.weights[0]) == "p0.5-r1"
    assert str(load_study(file, [named]).weights[0]) == "p1-r1"


def test_what_an_alias_repeats_is_set_in_one_place_only(file: Path) -> None:
    adapters = "tunings:\n  a: {adapter: &its {rank: 2}}\n  b: {adapter: *its, num_epochs: 9}\n"
    file.write_text(STUDY + adapters)
    found = load_study(file, ["tunings.a.adapter.rank=8"]).tunings
    assert [knobs.adapter.rank for knobs in found.values() if knobs.adapter] == [8, 2]


def test_a_complaint_of_a_short_form_quotes_the_override(file: Path) -> None:
    file.write_text(STUDY.replace("sft:\n", "sft:\n  adapter: lora\n"))
    with pytest.raises(InputError, match=r"^--set sft\.adapter\.rnk=8: sft\.adapter\.rnk: unknown"):
        load_study(file, ["sft.adapter.rnk=8"])
    file.write_text(STUDY.replace("sft:\n", "sft:\n  adapter: lore\n"))
    with pytest.raises(InputError) as caught:
        load_study(file, ["sft.adapter.rank=8"])
    place = f"{file}:{line_of(file, 'lore')}"
    assert str(caught.value).startswith(f"{place}: sft.adapter.method = 'lore': Input should be")


def test_the_first_equals_sign_ends_the_key(file: Path) -> None:
    assert load_study(file, ["instructions.columns={prompt: a=b}"]).instructions.columns == {
        "prompt": "a=b"
    }


def test_the_last_override_has_the_last_word(file: Path) -> None:
    assert load_study(file, ["dpo.beta=0.5", "dpo.beta=0.7"]).dpo.beta == 0.7


def test_a_grid_is_written_out_without_its_origin(file: Path) -> None:
    axis = [round(0.2 * i, 1) for i in range(6)]
    study = load_study(file, [f"weights={{prompt: {axis}, response: {axis}}}"])
    assert len(study.weights) == 35
    assert len(study.cells) == 70


def test_where_keys_stand_is_no_part_of_a_study(file: Path, tmp_path: Path) -> None:
    study = load_study(file)
    assert study.places.of(("sft", "learning_rate")) == f"{file}:{line_of(file, 'learning_rate')}"
    assert study.places.of(("sft", "num_epochs")) == f"{file}:{line_of(file, 'sft:')}"
    assert study.places.of(("dpo", "beta")) is None
    moved = tmp_path / "moved.yaml"
    moved.write_text("\n\n" + STUDY)
    assert load_study(moved) == study
    assert load_study(moved).places.of(("name",)) == f"{moved}:3"
    assert "places" not in str(study.model_dump())
    assert Study.model_validate(study.model_dump()) == study
    again = pickle.loads(pickle.dumps(study))
    assert again == study
    assert again.places.of(("name",)) == f"{file}:1"


# --- runtime ------------------------------------------------------------------------------------


def test_without_a_file_a_runtime_has_defaults() -> None:
    assert load_runtime(None) == Runtime()
    assert load_runtime(None, ["num_workers=3"]).num_workers == 3


def test_the_artifact_root_is_meant_from_the_runtimes_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    file = tmp_path / "configs" / "here.yaml"
    file.write_text(yaml.safe_dump({"artifact_root": "../out", "device": "cpu"}))
    monkeypatch.chdir("/")
    assert load_runtime(file).artifact_root == tmp_path / "out"
    assert load_runtime(file, ["artifact_root=mine"]).artifact_root == Path("/mine")


def test_a_wrong_runtime_is_refused_like_a_wrong_study(tmp_path: Path) -> None:
    file = tmp_path / "gpu.yaml"
    file.write_text("device: gpu\nnum_worker: 2\n")
    with pytest.raises(InputError) as caught:
        load_runtime(file)
    first, second = str(caught.value).splitlines()
    assert first == f"{file}:1: device = 'gpu': Input should be 'auto', 'cpu' or 'cuda'"
    assert second.startswith(f"{file}:2: num_worker: unknown key")
    assert second.endswith("Did you mean 'num_workers'?")
