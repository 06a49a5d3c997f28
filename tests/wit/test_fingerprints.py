"""What changes which fingerprint: every knob of a study, and every knob of a runtime."""

import copy
from pathlib import Path
from typing import Any

import pytest
from planned_study import (
    DPO,
    EVERYTHING,
    INSTRUCTIONS,
    ITEMS,
    JUDGED,
    NOTHING,
    PREFERENCES,
    REFERENCE,
    TEXT,
    TUNED,
    changed,
    evaluations,
    fingerprints,
    inputs_in,
    mixture_in,
    plan_of,
    put,
    study_in,
)
from pydantic import BaseModel

from wit.config import Runtime, Study
from wit.evaluation_recipes import Benchmark, JudgedPrompts, Prompts, Sensitivity
from wit.judging.settings import JudgeModel
from wit.recipes import TextRecipe
from wit.weights import TokenWeights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return inputs_in(tmp_path)


# Of some objectives; tested with these.
OF_OBJECTIVES = {
    "dpo.label_smoothing": ("robust-dpo", 0.2),
    "dpo.gamma_beta_ratio": ("simpo", 0.2),
    "dpo.desirable_weight": ("kto", 0.2),
    "dpo.undesirable_weight": ("kto", 0.2),
}


def training_knobs(name: str, remade: set[str]) -> list[tuple[str, Any, set[str]]]:
    values: dict[str, Any] = {
        "learning_rate": 1e-3,
        "num_epochs": 5,
        "examples_per_step": 7,
        "weight_decay": 0.3,
        "schedule": "constant",
        "warmup_fraction": 0.4,
        "max_grad_norm": 0.7,
        "adam_beta1": 0.8,
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-6,
    }
    return [(f"{name}.{knob}", value, remade) for knob, value in values.items()]


def data_knobs(name: str, remade: set[str]) -> list[tuple[str, Any, set[str]]]:
    values: dict[str, Any] = {
        "subset": "main",
        "split": "test",
        "columns": {"prompt": "q"},
        "max_tokens": 77,
        "held_out_fraction": 0.3,
        "max_rows": 5,
        "near_duplicates": 0.8,
        "overlap": "remove",
    }
    return [(f"{name}.{knob}", value, remade) for knob, value in values.items()]


FINER_ROLES = ("system", "template", "boilerplate", "stop")
KNOBS: list[tuple[str, Any, set[str]]] = [
    ("name", "other", NOTHING),
    ("dedupe", "rays", NOTHING),
    ("base.template", "tulu", EVERYTHING),
    *data_knobs("instructions", INSTRUCTIONS),
    ("instructions.turns", "last", INSTRUCTIONS),
    *data_knobs("preferences", PREFERENCES),
    ("preferences.min_margin", 0.5, PREFERENCES),
    ("weights.0", {"prompt": 0.2, "response": 1}, TUNED),
    ("weights.0.prompt", 0.3, TUNED),
    ("weights.0.response", 0.3, TUNED),
    *[(f"weights.0.{role}", 0.3, TUNED) for role in FINER_ROLES],
    ("seeds.0", 1, TUNED),
    *training_knobs("sft", TUNED),
    ("sft.precision", "bfloat16", TUNED),
    ("sft.normaliser", "weight_sum", TUNED),
    ("sft.loss", "dft", TUNED),
    ("sft.decay_norms", True, TUNED),
    ("sft.adapter", {"rank": 4}, TUNED),
    *training_knobs("dpo", DPO),
    ("dpo.precision", "bfloat16", DPO | REFERENCE),
    ("dpo.objective", "ipo", DPO),
    ("dpo.beta", 0.7, DPO),
    ("dpo.loss_weights", {"dpo": 1.0, "sft": 0.2}, DPO),
    ("dpo.adapter", {"rank": 4}, DPO),
    ("dpo.on_policy", {}, DPO | REFERENCE),  # its knobs: see test_on_policy_plan.py
    ("benchmarks.0.role", "report", NOTHING),
    ("benchmarks.0.num_fewshot", 3, evaluations("seen")),
    ("benchmarks.0.limit", 9, evaluations("seen") | ITEMS),
    ("benchmarks.0.revision", "a" * 40, evaluations("seen") | ITEMS),
    ("benchmarks.0.system", "You are brief.", evaluations("seen")),
    ("text.subset", "main", TEXT),
    ("text.split", "test", TEXT),
    ("text.columns", {"text": "q"}, TEXT),
    ("text.max_rows", 5, TEXT),
    ("text.max_tokens", 77, TEXT),
    ("sensitivity.kinds", ["template"], evaluations("sensitivity")),
    ("sensitivity.num_variants", 3, evaluations("sensitivity")),
    ("sensitivity.seed", 3, evaluations("sensitivity")),
    ("sensitivity.max_new_tokens", 3, evaluations("sensitivity")),
    ("sensitivity.num_prompts", 3, evaluations("sensitivity")),
    ("samples.max_new_tokens", 3, evaluations("responses")),
    ("samples.num_prompts", 3, evaluations("responses")),
    ("judge.model", "other", evaluations("opinion")),
    ("judge.temperature", 0.5, evaluations("opinion")),
    ("judge.max_tokens", 3, evaluations("opinion")),
    ("judge.seed", 3, evaluations("opinion")),
    ("judged.0.kind", "pairs", evaluations("opinion")),
    ("judged.0.role", "select", NOTHING),
    ("judged.0.max_new_tokens", 3, evaluations(*JUDGED)),
    ("judged.0.num_prompts", 3, evaluations(*JUDGED)),
]
# Where something is; what it is has tests of its own below.
PLACES = {
    *[
        f"{name}.{key}"
        for name in ("base", "instructions", "preferences", "text")
        for key in ("path", "repo", "revision")
    ],
    "instructions.sources",
    "preferences.sources",
    "weights.0.sources",
    "benchmarks.0.name",
    "benchmarks.0.path",
    "benchmarks.0.data",
    "sensitivity.path",
    "samples.path",
    "judged.0.name",
    "judged.0.path",
    "judged.0.references",
}


@pytest.mark.parametrize(("knob", "value", "remade"), KNOBS, ids=[knob for knob, _, _ in KNOBS])
def test_a_knob_remakes_its_stage_and_all_below_and_nothing_else(
    folder: Path, knob: str, value: Any, remade: set[str]
) -> None:
    values = study_in(folder)
    if knob == "benchmarks.0.role":
        put(values, "benchmarks.1.role", "select")
    before = fingerprints(plan_of(values))
    put(values, knob, value)
    assert changed(before, fingerprints(plan_of(values))) == remade


NESTED: dict[str, type[BaseModel]] = {
    "weights": TokenWeights,
    "benchmarks": Benchmark,
    "text": TextRecipe,
    "sensitivity": Sensitivity,
    "samples": Prompts,
    "judge": JudgeModel,
    "judged": JudgedPrompts,
}


def test_no_knob_is_missing_from_the_table() -> None:
    def knobs(kind: type[BaseModel], prefix: str) -> set[str]:
        found: set[str] = set()
        for name, field in kind.model_fields.items():
            nested: Any = NESTED.get(name, field.annotation)
            is_list = name in ("weights", "benchmarks", "seeds", "judged")
            place = f"{prefix}{name}" + (".0" if is_list else "")
            if isinstance(nested, type) and issubclass(nested, BaseModel):
                found |= knobs(nested, f"{place}.")
            else:
                found.add(place)
        return found

    assert knobs(Study, "") == {knob for knob, _, _ in KNOBS if knob != "weights.0"} | {
        *PLACES,
        *OF_OBJECTIVES,
        "alignments",  # see test_alignments.py
        "tunings",  # see test_tunings.py
        "search",  # of weights, which it names: see test_search_plan.py
    }


@pytest.mark.parametrize("knob", OF_OBJECTIVES)
def test_a_knob_of_an_objective_remakes_the_alignment_and_nothing_else(
    folder: Path, knob: str
) -> None:
    objective, value = OF_OBJECTIVES[knob]
    values = study_in(folder) | {"dpo": {"objective": objective}}
    before = fingerprints(plan_of(values))
    put(values, knob, value)
    assert changed(before, fingerprints(plan_of(values))) == DPO


def test_objectives_betas_and_seeds_of_one_sft_model_share_its_reference(folder: Path) -> None:
    def references(**dpo: Any) -> set[str]:
        plan = plan_of(study_in(folder) | {"dpo": dpo})
        return {artifact.fingerprint for artifact in plan.cells[0].references}

    of_dpo = references()
    assert len(of_dpo) == 1
    for name in ("ipo", "cdpo", "robust-dpo", "dpo-norm", "sppo-hard", "apo-zero", "apo-down"):
        assert references(objective=name, beta=0.3) == of_dpo, name
    assert references(objective="kto") > of_dpo
    for name in ("simpo", "cpo", "orpo"):
        assert references(objective=name) == set(), name


RUNTIME: dict[str, Any] = {
    "artifact_root": "/elsewhere",
    "tracking_uri": "http://server:5000",
    "device": "cpu",
    "num_workers": 3,
    "threads_per_worker": 3,
    "micro_batch_size": 3,
    "evaluation_batch_size": 3,
    "data_workers": 3,
    "packing": True,
    "packed_tokens": 3,
    "attention": "eager",
    "gradient_checkpointing": True,
    "num_processes": 3,
    "cells_at_once": 3,
    "sharding": "fsdp",
    "checkpoint_seconds": 3.0,
    "stage_timeout_seconds": 3.0,
    "execution": "deployments",
    "judge": {"base_url": "http://127.0.0.1:9/v1"},
    "artifact_store": Path(__file__).parent.as_uri(),  # it must be there
}


@pytest.mark.parametrize(
    ("knob", "value", "remade"),
    [
        ("instructions.sources.one.share", 2, INSTRUCTIONS),
        ("instructions.sources.one.max_rows", 2, INSTRUCTIONS),
        ("instructions.sources.one.columns", {"prompt": "q"}, INSTRUCTIONS),
        ("instructions.sources.one.split", "test", INSTRUCTIONS),
        ("instructions.sources.one.subset", "main", INSTRUCTIONS),
        ("weights.0.sources", {"one": {"prompt": 0.5, "response": 1}}, TUNED),
    ],
)
def test_a_knob_of_a_source_remakes_what_its_rows_go_into(
    folder: Path, knob: str, value: Any, remade: set[str]
) -> None:
    values = mixture_in(folder)
    before = fingerprints(plan_of(values))
    put(values, knob, value)
    assert changed(before, fingerprints(plan_of(values))) == remade


@pytest.mark.parametrize("knob", Runtime.model_fields)
def test_no_knob_of_a_runtime_changes_any_fingerprint(folder: Path, knob: str) -> None:
    values = study_in(folder)
    others = {"num_processes": 3} if knob == "sharding" else {}  # one alone has nothing to shard
    put(values, "sft.adapter", {"tokens": "none"})  # else no cells go together
    runtime = Runtime.model_validate({**others, knob: RUNTIME[knob]})
    assert runtime != Runtime.model_validate(others)
    assert fingerprints(plan_of(values, runtime)) == fingerprints(plan_of(values))


@pytest.mark.parametrize(
    ("addition", "value"),
    [
        ("weights", {"prompt": 1, "response": 1}),
        ("weights", {"prompt": 0, "response": 1, "stop": 0}),
        ("seeds", 7),
    ],
)
def test_more_cells_leave_those_that_were_there(folder: Path, addition: str, value: Any) -> None:
    values = study_in(folder)
    before = fingerprints(plan_of(values))
    values[addition] = [value, *values[addition]]
    plan = plan_of(values)
    assert fingerprints(plan, cell=1) == before
    other = fingerprints(plan, cell=0)
    assert changed(before, other) == TUNED


def test_one_benchmark_more_is_measured_and_nothing_else(folder: Path) -> None:
    values = study_in(folder)
    after = fingerprints(plan_of(values))
    values["benchmarks"].pop()
    before = fingerprints(plan_of(values))
    assert changed(before, after) == ITEMS
    assert after.keys() - before.keys() == evaluations("unseen")


def test_without_text_the_base_has_nothing_to_forget(folder: Path) -> None:
    values = study_in(folder)
    before = fingerprints(plan_of(values))
    del values["text"]
    after = fingerprints(plan_of(values))
    assert before.keys() - after.keys() == evaluations("forgetting", of=("base",))
    assert {name for name in after if before[name] != after[name]} == (
        evaluations("forgetting", of=("sft", "dpo"))
    )


@pytest.mark.parametrize("name", ["instructions", "preferences"])
def test_another_benchmark_remakes_rows_from_which_its_items_are_removed(
    folder: Path, name: str
) -> None:
    values = study_in(folder)
    values[name]["overlap"] = "remove"
    before = fingerprints(plan_of(values))
    fewshot = copy.deepcopy(values)
    put(fewshot, "benchmarks.0.num_fewshot", 3)
    remade = changed(before, fingerprints(plan_of(fewshot)))
    assert remade == evaluations("seen"), "the items are the same"
    put(values, "benchmarks.0.limit", 9)
    below = INSTRUCTIONS if name == "instructions" else PREFERENCES
    assert changed(before, fingerprints(plan_of(values))) == evaluations("seen") | ITEMS | below


def test_cells_differ_from_one_another_in_every_stage_of_theirs(folder: Path) -> None:
    values = study_in(folder)
    values |= {"seeds": [0, 1], "weights": ["instruction-tuning", "continual-pretraining"]}
    plan = plan_of(values)
    own = [artifact.fingerprint for artifact, cell in plan.artifacts() if cell]
    assert len(set(own)) == len(own) == 4 * (3 + 2 * 9)
    shared = [artifact.fingerprint for artifact, cell in plan.artifacts() if not cell]
    assert len(set(shared)) == len(shared) == 5 + 8
