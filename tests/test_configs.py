"""Every YAML that we ship or test with is valid, and there are some."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from samples import ROOT

from wit.config import Study
from wit.errors import ConfigError
from wit.evaluation.catalogue import resolve_benchmark
from wit.loading import load_runtime, load_study
from wit.objectives import objectives

STUDIES = sorted(
    {*(ROOT / "configs" / "studies").rglob("*.yaml"), *(ROOT / "tests" / "studies").rglob("*.yaml")}
)
RUNTIMES = sorted((ROOT / "configs" / "runtimes").rglob("*.yaml"))
BENCHMARKS = sorted((ROOT / "configs" / "benchmarks").rglob("*.yaml"))
PAPER = [path for path in STUDIES if path.stem.startswith("paper-")]

# arXiv 2507.07817, section 3: learning rates of SFT by model, epochs of SFT by data set.
LEARNING_RATES = {
    "llama-3.2-1b": 2e-5,
    "gemma-2-2b": 2e-5,
    "llama-3.2-3b": 2e-5,
    "mistral-7b": 5e-6,
    "llama-3-8b": 2e-5,
}
EPOCHS = {"tulu-v2": 1, "alpaca-cleaned": 2, "lima": 5}
AXIS = (0, 0.2, 0.4, 0.6, 0.8, 1)
SFT = {
    "examples_per_step": 64,
    "weight_decay": 0.1,
    "decay_norms": True,  # as in the script; the paper does not say
    "schedule": "cosine",
    "warmup_fraction": 0.01,
    "max_grad_norm": 0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "normaliser": "nonzero_tokens",
    "loss": "nll",
    "adapter": None,
    "precision": "bfloat16",
}
DPO = {
    "learning_rate": 5e-7,
    "examples_per_step": 32,
    "num_epochs": 2,
    "weight_decay": 0,
    "warmup_fraction": 0.1,
}


def test_every_yaml_is_a_study_a_runtime_or_a_benchmark() -> None:
    found = {*(ROOT / "configs").rglob("*.y*ml"), *(ROOT / "tests" / "studies").rglob("*.y*ml")}
    assert found == {*STUDIES, *RUNTIMES, *BENCHMARKS}
    assert len(STUDIES) >= 2
    assert len(RUNTIMES) >= 2
    assert BENCHMARKS


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_valid_and_bears_the_name_of_its_file(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    assert study.cells


@pytest.mark.parametrize("path", RUNTIMES, ids=lambda path: path.stem)
def test_a_runtime_is_valid_and_keeps_artifacts_in_the_checkout(path: Path) -> None:
    assert load_runtime(path).artifact_root == ROOT / "artifacts"


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_bears_the_name_of_its_file_and_takes_none_of_lm_evals(path: Path) -> None:
    found = resolve_benchmark(path.stem, path)
    assert f"group: {path.stem}\n" in path.read_text(encoding="utf-8")
    assert found.yaml_path == path
    with pytest.raises(ConfigError, match="is unknown"):
        resolve_benchmark(path.stem)


@pytest.fixture(scope="module")
def paper() -> dict[str, Study]:
    return {path.stem: load_study(path) for path in PAPER}


def test_the_papers_settings_are_all_there(paper: dict[str, Study]) -> None:
    settings = product(LEARNING_RATES, EPOCHS)
    assert set(paper) == {f"paper-{model}-{data}" for model, data in settings}


def test_the_papers_525_runs_are_all_there_and_each_is_there_once(paper: dict[str, Study]) -> None:
    runs = {
        (
            study.base.model_dump_json(),
            study.instructions.model_dump_json(),
            study.sft.model_dump_json(),
            cell.model_dump_json(),
        )
        for study in paper.values()
        for cell in study.cells
    }
    assert len(runs) == sum(len(study.cells) for study in paper.values()) == 525


@pytest.mark.parametrize("data", EPOCHS)
@pytest.mark.parametrize("model", LEARNING_RATES)
def test_a_setting_has_the_papers_grid_and_hyper_parameters(
    paper: dict[str, Study], model: str, data: str
) -> None:
    study = paper[f"paper-{model}-{data}"]
    grid = {(w.prompt, w.response) for w in study.weights}
    assert grid == set(product(AXIS, AXIS)) - {(0, 0)}
    assert all(str(w) == f"p{w.prompt:g}-r{w.response:g}" for w in study.weights)  # no finer ones
    assert len(objectives(study)) == 21
    assert study.seeds == (23,)
    assert study.base.template == "plain"
    assert study.instructions.max_tokens == 4096
    by_setting = {"learning_rate": LEARNING_RATES[model], "num_epochs": EPOCHS[data]}
    for knobs, table in ((study.sft, {**SFT, **by_setting}), (study.dpo, DPO)):
        assert {name: getattr(knobs, name) for name in table} == table
    assert {b.name: b.num_fewshot for b in study.benchmarks} == {
        "mmlu_flan_generative": 0,
        "bbh_zeroshot": 0,
        "ifeval": 0,
    }


def test_settings_differ_in_model_and_data_only(paper: dict[str, Study]) -> None:
    def rest(study: Study) -> dict[str, Any]:
        values = study.model_dump(exclude={"name": True, "base": True, "instructions": True})
        del values["sft"]["learning_rate"], values["sft"]["num_epochs"]
        return values

    first, *others = map(rest, paper.values())
    assert all(other == first for other in others)
    for model in LEARNING_RATES:
        bases = {paper[f"paper-{model}-{data}"].base for data in EPOCHS}
        assert len(bases) == 1
    for data in EPOCHS:
        rows = [paper[f"paper-{model}-{data}"].instructions for model in LEARNING_RATES]
        assert rows.count(rows[0]) == len(rows)
