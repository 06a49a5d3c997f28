"""What no machine can do, or not this one, is refused before anything is made."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from commands import wit

from tasks.report import begin
from wit import machine
from wit.config import Runtime, Study
from wit.errors import BaseModelError, ConfigError, InputError
from wit.loading import load_runtime, load_study
from wit.machine import check_machine
from wit.plan import Plan, make_plan

FLASH = {"attention": "flash_attention_2"}
DEVICES = ("auto", "cuda", "cpu")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: x\nbase: {path: builtin}\ninstructions: {path: builtin}\n"
        "preferences: {path: builtin}\nweights: [instruction-tuning]\n"
        "sft:\n  precision: float32\n"
        "benchmarks: [{name: wit_cloze, role: select}]\n"
    )
    return file


def study_of(file: Path, **precisions: str) -> Study:
    return load_study(file, [f"{name}.precision={p}" for name, p in precisions.items()])


def check(study: Study, runtime: Runtime) -> Plan:
    plan = make_plan(study, runtime)
    check_machine(plan, runtime)
    return plan


def give_gpus(monkeypatch: pytest.MonkeyPatch, gpus: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))


def give_packages(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    hidden = {"flash_attn", "kernels"}

    def find(name: str) -> object:
        return name in names or None if name in hidden else find_spec(name)

    monkeypatch.setattr(machine, "find_spec", find)


@pytest.mark.parametrize("device", DEVICES)
def test_flash_attention_in_float32_is_refused_with_the_place_of_the_precision(
    file: Path, device: str
) -> None:
    runtime = Runtime.model_validate({**FLASH, "device": device})
    with pytest.raises(ConfigError) as caught:
        make_plan(study_of(file), runtime)
    says = "sft.precision = float32: flash_attention_2 needs bfloat16 or float16; set sft.precision"
    assert str(caught.value).startswith(f"{file}:7: {says}")
    with pytest.raises(ConfigError, match=r"^--set sft.precision=float32: sft.precision = float32"):
        make_plan(study_of(file, sft="float32"), runtime)


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ("qlora", "qlora"),
        ("osf", "osf"),
        ("{init: pissa}", "lora, pissa"),
        ("{dora: true}", "lora with dora"),
    ],
)
def test_adapters_of_which_no_weights_can_be_sharded_are_refused(
    file: Path, adapter: str, said: str
) -> None:
    """Else PEFT fails in the first training, in words of its own."""
    file.write_text(file.read_text().replace("precision: float32", f"adapter: {adapter}"))
    study = load_study(file, [])
    make_plan(study, Runtime(num_processes=2))
    with pytest.raises(ConfigError) as caught:
        make_plan(study, Runtime(num_processes=2, sharding="fsdp"))
    assert str(caught.value).startswith(f"{file}:7: sft.adapter = {said}: its weights cannot be")


def test_tokens_that_an_adapter_trains_cannot_be_sharded(file: Path) -> None:
    sharded = Runtime(num_processes=2, sharding="fsdp")
    file.write_text(file.read_text().replace("precision: float32", "adapter: {rslora: true}"))
    make_plan(load_study(file, []), Runtime(num_processes=2))
    with pytest.raises(ConfigError, match=r":7: sft\.adapter\.tokens = template: .* set none"):
        make_plan(load_study(file, []), sharded)
    make_plan(load_study(file, ["sft.adapter.tokens=none"]), sharded)


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        ("null", ":7: sft.adapter: none trains all weights"),
        ("{rslora: true}", ":7: sft.adapter: tokens = template trains .* set none"),
        ("{dora: true, tokens: none}", ":7: sft.adapter: dora takes"),
        ("miss", ":7: sft.adapter: miss is not computed"),
    ],
)
def test_cells_at_once_are_refused_where_none_can_be(file: Path, adapter: str, says: str) -> None:
    """They would be trained one by one, and nobody would know."""
    file.write_text(file.read_text().replace("precision: float32", f"adapter: {adapter}"))
    make_plan(load_study(file), Runtime())
    with pytest.raises(ConfigError, match=rf"{says}.*cells_at_once = 4; .*cells_at_once=1$"):
        make_plan(load_study(file), Runtime(cells_at_once=4))
    others = "tunings={a: {}, b: {adapter: {tokens: none}}}"
    make_plan(load_study(file, [others]), Runtime(cells_at_once=4))


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"num_processes": 2}, "not spread over ranks; .*cells_at_once=1 or num_processes=1"),
        ({"execution": "deployments"}, "a run of its own; .*cells_at_once=1 or execution=local"),
    ],
)
def test_cells_at_once_are_refused_with_what_keeps_them_apart(
    file: Path, knobs: dict[str, object], says: str
) -> None:
    study = load_study(file, ["sft.adapter={tokens: none}"])
    runtime = Runtime.model_validate({**knobs, "cells_at_once": 4})
    make_plan(study, runtime.model_copy(update={"cells_at_once": 1}))
    with pytest.raises(ConfigError, match=rf"^runtime cells_at_once = 4: .*{says}"):
        make_plan(study, runtime)
    searched = ["weights={search: {budget: 3}}", "sft.adapter={tokens: none}"]
    with pytest.raises(ConfigError, match=r"cells_at_once = 4: a search begins"):
        make_plan(load_study(file, searched), Runtime(cells_at_once=4))


def test_where_an_unset_precision_would_stand_is_said_without_a_line(file: Path) -> None:
    file.write_text(file.read_text().replace("sft:\n  precision: float32\n", ""))
    with pytest.raises(ConfigError, match=r"^sft.precision = float32: flash_attention_2 needs"):
        make_plan(study_of(file), Runtime.model_validate(FLASH))


@pytest.mark.parametrize(
    ("precisions", "knobs", "says"),
    [
        ({"sft": "float16"}, {}, "sft.precision = float16: needs a GPU"),
        ({"dpo": "float16"}, {}, "dpo.precision = float16: needs a GPU"),
        ({"sft": "bfloat16"}, FLASH, "runtime attention = flash_attention_2: needs a GPU"),
    ],
)
def test_what_needs_a_gpu_is_refused_on_a_cpu(
    file: Path,
    precisions: dict[str, str],
    knobs: dict[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = study_of(file, **precisions)
    with pytest.raises(ConfigError, match=says):
        make_plan(study, Runtime.model_validate({**knobs, "device": "cpu"}))
    give_packages(monkeypatch, "flash_attn")
    runtime = Runtime.model_validate(knobs)
    make_plan(study, runtime)  # for another machine
    give_gpus(monkeypatch, "")
    with pytest.raises(ConfigError, match=says):
        check(study, runtime)
    give_gpus(monkeypatch, "0")
    check(study, runtime)


def test_what_every_machine_can_do_is_accepted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_gpus(monkeypatch, "")
    give_packages(monkeypatch)
    for knobs in ({}, {"device": "cpu"}, {"num_processes": 2, "sharding": "fsdp"}):
        plan = check(study_of(file, sft="bfloat16"), Runtime.model_validate(knobs))
        assert plan.has_to_train, "a study without trainings would be accepted anyway"


def test_what_trainings_need_is_not_asked_for_once_all_are_there(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop plans, evaluates and reports what a cluster trained, without a GPU that is not."""
    give_gpus(monkeypatch, "")
    give_packages(monkeypatch)
    study = study_of(file, sft="float16", dpo="float16")
    cluster = {**FLASH, "num_processes": 4, "artifact_root": tmp_path}
    runtimes = [Runtime.model_validate({**cluster, "device": device}) for device in DEVICES]
    cell = make_plan(study, Runtime(artifact_root=tmp_path)).cells[0]
    for training in (cell.sft, cell.dpo):
        for runtime in runtimes:
            with pytest.raises(InputError):
                check(study, runtime)
        training.path.mkdir(parents=True)
    for runtime in runtimes:
        plan = make_plan(study, runtime)
        assert not plan.has_to_train
        if runtime.device == "cuda":
            with pytest.raises(BaseModelError, match="no GPU"):  # nor for evaluations
                check_machine(plan, runtime)
        else:
            check_machine(plan, runtime)
    for artifact, _ in plan.artifacts():
        artifact.path.mkdir(parents=True, exist_ok=True)
    check_machine(plan, runtimes[DEVICES.index("cuda")])


def test_flash_attention_needs_its_package(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_gpus(monkeypatch, "0")
    study, runtime = study_of(file, sft="bfloat16"), Runtime.model_validate(FLASH)
    give_packages(monkeypatch)
    with pytest.raises(ConfigError, match=r"flash_attn is not installed.*attention=auto"):
        check(study, runtime)
    give_packages(monkeypatch, "kernels")  # would fetch one from the hub
    with pytest.raises(ConfigError, match="flash_attn is not installed"):
        check(study, runtime)
    give_packages(monkeypatch, "flash_attn")
    check(study, runtime)


def test_every_process_of_a_training_needs_a_gpu_of_its_own(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_gpus(monkeypatch, "3,5")
    study = study_of(file)
    check(study, Runtime(num_processes=2, num_workers=4))
    check(study, Runtime(num_processes=3, device="cpu"))
    for device in ("auto", "cuda"):
        runtime = Runtime.model_validate({"num_processes": 3, "device": device})
        with pytest.raises(ConfigError, match=r"num_processes = 3.*there are 2.*num_processes=2"):
            check(study, runtime)


@pytest.mark.parametrize(
    ("precision", "knobs", "error", "says"),
    [
        ("float32", {"device": "cuda"}, BaseModelError, "use 'auto' or 'cpu'"),
        ("float16", {}, ConfigError, "sft.precision = float16: needs a GPU"),
    ],
)
def test_a_flow_refuses_before_its_first_stage(
    file: Path,
    tmp_path: Path,
    precision: str,
    knobs: dict[str, str],
    error: type[InputError],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give_gpus(monkeypatch, "")
    runtime = Runtime.model_validate({**knobs, "artifact_root": tmp_path / "root"})
    plan = make_plan(study_of(file, sft=precision), runtime)
    with pytest.raises(error, match=says):
        begin.fn(plan, runtime)
    assert not (tmp_path / "root").exists()


def test_one_process_cannot_be_sharded(tmp_path: Path) -> None:
    """It would train unsharded, and nobody would know."""
    file = tmp_path / "runtime.yaml"
    file.write_text("num_processes: 2\nsharding: fsdp\n")
    assert load_runtime(file).sharding == "fsdp"
    with pytest.raises(ConfigError, match=rf"^{file}:2: sharding = 'fsdp': there is one process"):
        load_runtime(file, ["num_processes=1"])
    with pytest.raises(ConfigError, match=r"set num_processes above 1, or sharding to none"):
        load_runtime(None, ["sharding=fsdp"])


@pytest.mark.parametrize("command", ["run", "plan"])
def test_the_command_line_exits_with_2_and_leaves_nothing(
    file: Path, tmp_path: Path, command: str
) -> None:
    runtime = ["attention=flash_attention_2", f"artifact_root={tmp_path / 'root'}"]
    options = [word for setting in runtime for word in ("--set-runtime", setting)]
    done = wit(command, file, *options)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {file}:7: sft.precision = float32: flash_attention_2 needs")
    assert not (tmp_path / "root").exists()


def test_cells_by_deployments_need_a_server_and_nothing_is_made_without(
    file: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    runtime = (f"artifact_root={root}", "execution=deployments", "device=cpu")
    options = [word for setting in runtime for word in ("--set-runtime", setting)]
    ended = wit("run", file, *options, environment={"PREFECT_API_URL": ""})
    assert ended.returncode == 2
    assert "PREFECT_API_URL is not set. 'wit up'" in ended.stderr
    assert not root.exists()
