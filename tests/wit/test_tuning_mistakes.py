"""What is wrong in one of several ways of SFT is said once, by the key that the user wrote."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from wit.compatibility import check_together
from wit.config import Runtime, Study
from wit.errors import ConfigError
from wit.loading import load_study

STUDY = {
    "name": "small",
    "base": {"path": "builtin"},
    "instructions": {"path": "builtin"},
    "preferences": {"path": "builtin"},
    "weights": ["instruction-tuning"],
    "benchmarks": [{"name": "wit_seen", "role": "select"}],
}
LORA = {"method": "lora", "rank": 2}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "study.yaml"


def write(file: Path, own: dict[str, Any], **more: Any) -> None:
    """A study with a tuning ``lora-2``, each of whose keys has a line of its own."""
    text = yaml.safe_dump(STUDY | more | {"tunings": {"full": {}, "lora-2": own}}, sort_keys=False)
    file.write_text(text)


def complaints(file: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_study(file, overrides)
    return str(caught.value).splitlines()


def place_of(file: Path, text: str) -> str:
    [number] = [n for n, line in enumerate(file.read_text().splitlines(), 1) if text in line]
    return f"{file}:{number}"


@pytest.mark.parametrize(
    ("own", "line", "said"),
    [
        ({"adapter": {"method": "lora", "rnk": 2}}, "rnk", "adapter.rnk: unknown key"),
        ({"adapter": {"method": "lora", "rank": 0}}, "rank: 0", "adapter.rank = 0: Input should"),
        ({"adapter": {"method": "mora", "dora": True}}, "adapter:", "adapter: 'dora' is no knob"),
        ({"adapter": "continue"}, "continue", "adapter = 'continue': before SFT there is no"),
        ({"schedule": "cosin"}, "cosin", "schedule = 'cosin': Input should be 'cosine'"),
    ],
)
@pytest.mark.parametrize("epochs", [{}, {"num_epochs": [4]}, {"num_epochs": [1, 2, 4, 8]}])
def test_it_is_said_once_however_many_numbers_of_epochs_there_are(
    file: Path, own: dict[str, Any], line: str, said: str, epochs: dict[str, Any]
) -> None:
    write(file, own | epochs)
    [found] = complaints(file)
    assert found.startswith(f"{place_of(file, line)}: tunings.lora-2.{said}")


def test_all_that_is_wrong_in_it_is_said(file: Path) -> None:
    write(file, {"adapter": {"rank": 0, "rnk": 1}, "num_epochs": [1, 2], "lerning_rate": 1})
    keys = [found.split(": ")[1].split(" = ")[0] for found in complaints(file, "seeds=[x]")]
    own = ("adapter.rank", "adapter.rnk", "lerning_rate")
    assert sorted(keys) == ["seeds.0", *(f"tunings.lora-2.{key}" for key in own)]


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "x", "1 or 2", None, [1], {"a": 1}])
def test_a_number_of_epochs_is_named_by_its_place_in_the_list(file: Path, wrong: Any) -> None:
    write(file, {"adapter": LORA, "num_epochs": [1, wrong, 4]})
    [found] = complaints(file)
    number = int(place_of(file, "num_epochs").rpartition(":")[2]) + 2
    assert found.startswith(f"{file}:{number}: tunings.lora-2.num_epochs.1")
    assert "Input should be" in found


def test_every_wrong_number_of_epochs_is_named(file: Path) -> None:
    write(file, {"num_epochs": [0, 1, -1]})
    keys = [found.split(": ")[1] for found in complaints(file)]
    assert keys == ["tunings.lora-2.num_epochs.0 = 0", "tunings.lora-2.num_epochs.2 = -1"]
    write(file, {"num_epochs": [2, 2]})
    [found] = complaints(file)
    assert "tunings.lora-2.num_epochs names 2 twice; once is enough" in found


def test_an_override_of_it_is_quoted(file: Path) -> None:
    write(file, {"adapter": LORA, "num_epochs": [1, 2]})
    for override, key in (("adapter.rank=0", "adapter.rank"), ("num_epochs.1=0", "num_epochs.1")):
        given = f"tunings.lora-2.{override}"
        [found] = complaints(file, given)
        assert found.startswith(f"--set {given}: tunings.lora-2.{key} = 0: ")


def test_one_of_a_list_of_epochs_cannot_be_overridden_and_what_can_is_named(file: Path) -> None:
    write(file, {"adapter": LORA, "num_epochs": [1, 2]})
    [found] = complaints(file, "tunings.lora-2-e1.schedule=linear")
    assert "'tunings.lora-2.num_epochs' stands for one of that name" in found
    assert load_study(file, ["tunings.lora-2.schedule=linear"])


def test_a_name_that_cannot_be_one_is_said_once(file: Path) -> None:
    text = yaml.safe_dump(STUDY | {"tunings": {"lora 2": {"num_epochs": [1, 2]}}})
    file.write_text(text)
    [found] = complaints(file)
    assert found.startswith(f"{place_of(file, 'lora 2')}: tunings.lora 2 = 'lora 2-e1': write at")


def test_a_wrong_name_is_said_beside_what_is_wrong_under_it(file: Path) -> None:
    for named in ("tunings", "alignments"):
        file.write_text(yaml.safe_dump(STUDY | {named: {"a b": {"num_epochs": 0}}}))
        assert len(complaints(file)) == 2


def test_a_wrong_sft_is_all_that_is_said(file: Path) -> None:
    """And not that a list is no number, nor that tunings are alike that differ by what it says."""
    wrong = {"learning_rate": -1, "num_epochs": 3}
    write(file, {"num_epochs": [1, 2]}, sft=wrong)
    [found] = complaints(file)
    assert f"{place_of(file, '-1')}: sft.learning_rate = -1: " in found


def test_what_does_not_go_together_is_said_of_the_key_that_can_be_set(file: Path) -> None:
    epochs = {"num_epochs": [1, 4]}
    write(file, {"max_grad_norm": 1.0} | epochs, dedupe="rays")
    [found] = complaints(file)
    assert "set tunings.lora-2.max_grad_norm=0, tunings.lora-2.normaliser=weight_sum" in found
    assert load_study(file, ["tunings.lora-2.max_grad_norm=0"])
    adapted = {"sft": {"adapter": LORA}, "dpo": {"adapter": "continue"}}
    write(file, {"adapter": "none"} | epochs, **adapted)
    [found] = complaints(file)
    assert "and 'tunings.lora-2.adapter' is unset" in found
    write(file, {"adapter": LORA | {"dora": True}} | epochs)
    runtime = Runtime(device="cuda", num_processes=2, sharding="fsdp")
    with pytest.raises(ConfigError) as caught:
        check_together(load_study(file), runtime)
    said = f"{place_of(file, 'adapter:')}: tunings.lora-2.adapter = lora with dora"
    assert str(caught.value).startswith(said)


def test_a_study_that_is_kept_knows_its_tunings_by_the_names_they_have(file: Path) -> None:
    write(file, {"adapter": LORA, "num_epochs": [1, 2]})
    study = load_study(file)
    assert study.key_of_sft("lora-2-e2", "adapter") == ("tunings", "lora-2", "adapter")
    again = Study.model_validate(study.stated())
    assert again == study
    assert again.key_of_sft("lora-2-e2", "adapter") == ("tunings", "lora-2-e2", "adapter")
