"""What changes which fingerprint: every knob of a study, and every knob of a runtime."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel
from safetensors.torch import save_file
from samples import ROOT, embedded_tokenizer, save_tokenizer, write_jsonl

from wit.artifacts import Source
from wit.config import Runtime, Study
from wit.errors import ArtifactError, BaseModelError, ConfigError, DataError, InputError
from wit.loading import load_study
from wit.plan import Plan, make_plan
from wit.recipes import Benchmark
from wit.weights import TokenWeights

REVISION, OTHER_REVISION = "a" * 40, "b" * 40

# Groups of stages; an evaluation covers all that is measured on held-out rows too.
SFT, DPO = {"sft", "sft_evaluation"}, {"dpo", "dpo_evaluation"}
EVALUATIONS = {"base_evaluation", "sft_evaluation", "dpo_evaluation"}
MODELS = {"base_evaluation"} | SFT | DPO
ITEMS = {"items", "overlap"}
INSTRUCTIONS = {"instructions", "overlap"} | MODELS
PREFERENCES = {"preferences", "overlap", "dpo"} | EVALUATIONS
EVERYTHING = {"tokenizer", "instructions", "preferences", "overlap"} | MODELS  # but the items
NOTHING: set[str] = set()


@pytest.fixture(scope="session")
def tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(embedded_tokenizer(), tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def folder(tmp_path: Path, tokenizer_files: Path) -> Path:
    """A base, rows, pairs and a benchmark; nothing here is ever trained."""
    base = tmp_path / "base"
    shutil.copytree(tokenizer_files, base)
    save_file({"weight": torch.zeros(2)}, base / "model.safetensors")
    (base / "config.json").write_text('{"hidden_size": 8}')
    (base / "generation_config.json").write_text('{"eos_token_id": 2}')
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "response": "b", "q": "c"}])
    write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    write_jsonl(tmp_path / "items.jsonl", [{"question": "a", "answer": "b"}])
    benchmark = {
        "task": "seen",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
    }
    for name in ("seen", "unseen"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**benchmark, "task": name}))
    (tmp_path / "other.jinja").write_text("{{ messages[0]['content'] }}")
    return tmp_path


def study_in(folder: Path) -> dict[str, Any]:
    return {
        "name": "small",
        "base": {"path": str(folder / "base"), "template": "own"},
        "instructions": {"path": str(folder / "rows.jsonl")},
        "preferences": {"path": str(folder / "pairs.jsonl")},
        "weights": [{"prompt": 0, "response": 1}],
        "seeds": [0],
        "sft": {},
        "dpo": {},
        "benchmarks": [
            {"name": "seen", "role": "select", "path": str(folder / "seen.yaml")},
            {"name": "unseen", "role": "report", "path": str(folder / "unseen.yaml")},
        ],
    }


def plan_of(values: dict[str, Any], runtime: Runtime | None = None) -> Plan:
    return make_plan(Study.model_validate(values), runtime or Runtime())


def fingerprints(plan: Plan, cell: int = 0) -> dict[str, str]:
    found = {artifact.stage: artifact.fingerprint for artifact in plan.shared}
    found["base_evaluation"] = found.pop("evaluation")
    for stage in ("sft", "sft_evaluation", "dpo", "dpo_evaluation"):
        found[stage] = getattr(plan.cells[cell], stage).fingerprint
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {stage for stage in before if before[stage] != after[stage]}


def put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *holders, last = dotted.split(".")
    for key in holders:
        values = values[int(key) if key.isdecimal() else key]  # pyright: ignore
    values[int(last) if last.isdecimal() else last] = value  # pyright: ignore


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
        "precision": "bfloat16",
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
    ("base.template", "tulu", EVERYTHING),
    *data_knobs("instructions", INSTRUCTIONS),
    ("instructions.turns", "last", INSTRUCTIONS),
    *data_knobs("preferences", PREFERENCES),
    ("weights.0", {"prompt": 0.2, "response": 1}, SFT | DPO),
    ("weights.0.prompt", 0.3, SFT | DPO),
    ("weights.0.response", 0.3, SFT | DPO),
    *[(f"weights.0.{role}", 0.3, SFT | DPO) for role in FINER_ROLES],
    ("seeds.0", 1, SFT | DPO),
    *training_knobs("sft", SFT | DPO),
    ("sft.normaliser", "weight_sum", SFT | DPO),
    ("sft.loss", "dft", SFT | DPO),
    ("sft.decay_norms", True, SFT | DPO),
    ("sft.lora", {"rank": 4}, SFT | DPO),
    *training_knobs("dpo", DPO),
    ("dpo.beta", 0.7, DPO),
    ("benchmarks.0.role", "report", NOTHING),
    ("benchmarks.0.num_fewshot", 3, EVALUATIONS),
    ("benchmarks.0.limit", 9, EVALUATIONS | ITEMS),
]
# Where something is; what it is has tests of its own below.
PLACES = {
    *[
        f"{name}.{key}"
        for name in ("base", "instructions", "preferences")
        for key in ("path", "repo", "revision")
    ],
    "instructions.sources",
    "preferences.sources",
    "weights.0.sources",
    "benchmarks.0.name",
    "benchmarks.0.path",
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


def test_no_knob_is_missing_from_the_table() -> None:
    def knobs(kind: type[BaseModel], prefix: str) -> set[str]:
        found: set[str] = set()
        for name, field in kind.model_fields.items():
            items = {"weights": TokenWeights, "benchmarks": Benchmark}
            nested: Any = items.get(name, field.annotation)
            is_list = name in ("weights", "benchmarks", "seeds")
            place = f"{prefix}{name}" + (".0" if is_list else "")
            if isinstance(nested, type) and issubclass(nested, BaseModel):
                found |= knobs(nested, f"{place}.")
            else:
                found.add(place)
        return found

    assert knobs(Study, "") == {knob for knob, _, _ in KNOBS if knob != "weights.0"} | PLACES


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
    "sharding": "fsdp",
    "checkpoint_seconds": 3.0,
}


def mixture_in(folder: Path) -> dict[str, Any]:
    """Instructions from two files of different rows."""
    write_jsonl(folder / "more.jsonl", [{"prompt": "d", "response": "e", "q": "f"}])
    places = {"one": folder / "rows.jsonl", "two": folder / "more.jsonl"}
    sources = {name: {"path": str(path), "share": 1} for name, path in places.items()}
    return study_in(folder) | {"instructions": {"sources": sources}}


@pytest.mark.parametrize(
    ("knob", "value", "remade"),
    [
        ("instructions.sources.one.share", 2, INSTRUCTIONS),
        ("instructions.sources.one.max_rows", 2, INSTRUCTIONS),
        ("instructions.sources.one.columns", {"prompt": "q"}, INSTRUCTIONS),
        ("instructions.sources.one.split", "test", INSTRUCTIONS),
        ("instructions.sources.one.subset", "main", INSTRUCTIONS),
        ("weights.0.sources", {"one": {"prompt": 0.5, "response": 1}}, SFT | DPO),
    ],
)
def test_a_knob_of_a_source_remakes_what_its_rows_go_into(
    folder: Path, knob: str, value: Any, remade: set[str]
) -> None:
    values = mixture_in(folder)
    before = fingerprints(plan_of(values))
    put(values, knob, value)
    assert changed(before, fingerprints(plan_of(values))) == remade


def test_the_files_of_a_mixture_count_by_their_content_and_by_their_source(folder: Path) -> None:
    values = mixture_in(folder)
    before = fingerprints(plan_of(values))
    (folder / "more.jsonl").rename(folder / "moved.jsonl")
    put(values, "instructions.sources.two.path", str(folder / "moved.jsonl"))
    assert fingerprints(plan_of(values)) == before
    append("moved.jsonl", "\n")(folder)
    assert changed(before, fingerprints(plan_of(values))) == INSTRUCTIONS
    put(values, "instructions.sources.two.path", str(folder / "rows.jsonl"))
    put(values, "instructions.sources.one.path", str(folder / "moved.jsonl"))
    assert changed(before, fingerprints(plan_of(values))) == INSTRUCTIONS


@pytest.mark.parametrize("knob", Runtime.model_fields)
def test_no_knob_of_a_runtime_changes_any_fingerprint(folder: Path, knob: str) -> None:
    values = study_in(folder)
    others = {"num_processes": 3} if knob == "sharding" else {}  # one alone has nothing to shard
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
    assert changed(before, other) == SFT | DPO


def test_another_benchmark_remakes_evaluations_only(folder: Path) -> None:
    values = study_in(folder)
    before = fingerprints(plan_of(values))
    values["benchmarks"].pop()
    assert changed(before, fingerprints(plan_of(values))) == EVALUATIONS | ITEMS


@pytest.mark.parametrize("name", ["instructions", "preferences"])
def test_another_benchmark_remakes_rows_from_which_its_items_are_removed(
    folder: Path, name: str
) -> None:
    values = study_in(folder)
    values[name]["overlap"] = "remove"
    before = fingerprints(plan_of(values))
    fewshot = copy.deepcopy(values)
    put(fewshot, "benchmarks.0.num_fewshot", 3)
    assert changed(before, fingerprints(plan_of(fewshot))) == EVALUATIONS, "the items are the same"
    values["benchmarks"].pop()
    below = INSTRUCTIONS if name == "instructions" else PREFERENCES
    assert changed(before, fingerprints(plan_of(values))) == EVALUATIONS | ITEMS | below


def test_cells_differ_from_one_another_in_every_stage_of_theirs(folder: Path) -> None:
    values = study_in(folder)
    values |= {"seeds": [0, 1], "weights": ["instruction-tuning", "continual-pretraining"]}
    plan = plan_of(values)
    own = [artifact.fingerprint for artifact, cell in plan.artifacts() if cell]
    assert len(set(own)) == len(own) == 4 * 4
    shared = [artifact.fingerprint for artifact, cell in plan.artifacts() if not cell]
    assert len(set(shared)) == len(shared) == 6


# --- files count by what they hold ----------------------------------------------------------------

Edit = Callable[[Path], object]


def append(name: str, text: str = " ") -> Edit:
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text)


CONTENTS: list[tuple[str, Edit, set[str]]] = [
    ("rows", append("rows.jsonl", "\n"), INSTRUCTIONS),
    ("pairs", append("pairs.jsonl", "\n"), PREFERENCES),
    ("benchmark", append("seen.yaml", "\n# more"), EVALUATIONS | ITEMS),
    ("benchmark items", append("items.jsonl", "\n"), EVALUATIONS | ITEMS),
    (
        "weights of the base",
        lambda f: save_file({"weight": torch.ones(2)}, f / "base" / "model.safetensors"),
        MODELS,
    ),
    (
        "another shard",
        lambda f: save_file({"more": torch.ones(2)}, f / "base" / "more.safetensors"),
        MODELS,
    ),
    ("config of the base", append("base/config.json"), MODELS),
    ("generation config", append("base/generation_config.json"), MODELS),
    ("tokenizer", append("base/tokenizer.json"), EVERYTHING),
    ("tokenizer config", append("base/tokenizer_config.json"), EVERYTHING),
    ("chat template", append("base/chat_template.jinja"), EVERYTHING),
    ("read me", lambda f: (f / "base" / "README.md").write_text("hello"), NOTHING),
    ("other weights", lambda f: (f / "base" / "pytorch_model.bin").write_bytes(b"x"), NOTHING),
]


@pytest.mark.parametrize(
    ("edit", "remade"), [row[1:] for row in CONTENTS], ids=[row[0] for row in CONTENTS]
)
def test_an_edited_file_of_the_same_name_remakes_what_reads_it(
    folder: Path, edit: Edit, remade: set[str]
) -> None:
    values = study_in(folder)
    before = fingerprints(plan_of(values))
    edit(folder)
    assert changed(before, fingerprints(plan_of(values))) == remade


def test_a_template_file_counts_by_its_content(folder: Path) -> None:
    values = study_in(folder)
    values["base"]["template"] = str(folder / "other.jinja")
    before = fingerprints(plan_of(values))
    (folder / "other.jinja").rename(folder / "renamed.jinja")
    values["base"]["template"] = str(folder / "renamed.jinja")
    assert fingerprints(plan_of(values)) == before
    (folder / "renamed.jinja").write_text("{{ messages[0]['content'] }}!")
    assert changed(before, fingerprints(plan_of(values))) == EVERYTHING


def test_files_that_were_moved_and_renamed_remake_nothing(folder: Path, tmp_path: Path) -> None:
    values = study_in(folder)
    before = fingerprints(plan_of(values))
    moved = tmp_path / "moved"
    moved.mkdir()
    (folder / "base").rename(moved / "model")
    (folder / "rows.jsonl").rename(moved / "instructions.jsonl")
    (folder / "pairs.jsonl").rename(moved / "preferences.jsonl")
    for name in ("seen.yaml", "unseen.yaml", "items.jsonl"):
        (folder / name).rename(moved / name)
    values["base"]["path"] = str(moved / "model")
    values["instructions"]["path"] = str(moved / "instructions.jsonl")
    values["preferences"]["path"] = str(moved / "preferences.jsonl")
    for benchmark in values["benchmarks"]:
        benchmark["path"] = str(moved / Path(benchmark["path"]).name)
    assert fingerprints(plan_of(values)) == before


@pytest.mark.parametrize(
    ("name", "remade"),
    [("base", EVERYTHING), ("instructions", INSTRUCTIONS), ("preferences", PREFERENCES)],
)
def test_what_lies_on_the_hub_counts_by_its_repository_and_commit(
    folder: Path, name: str, remade: set[str]
) -> None:
    values = study_in(folder)
    values[name] = {"repo": "org/name", "revision": REVISION}
    before = fingerprints(plan_of(values))
    for place in (
        {"repo": "org/name", "revision": OTHER_REVISION},
        {"repo": "org/other", "revision": REVISION},
    ):
        values[name] = place
        assert changed(before, fingerprints(plan_of(values))) == remade


# --- a plan ---------------------------------------------------------------------------------------


def test_a_plan_writes_nothing(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = plan_of(study_in(folder), Runtime(artifact_root=root))
    assert not root.exists()
    assert all(artifact.path.is_relative_to(root) for artifact, _ in plan.artifacts())


def test_every_artifact_comes_after_its_parents(folder: Path) -> None:
    seen: set[str] = set()
    for artifact, _ in plan_of(study_in(folder)).artifacts():
        for parent in artifact.parents.values():
            assert isinstance(parent, Source) or parent.fingerprint in seen
        seen.add(artifact.fingerprint)


def test_dpo_starts_at_its_own_sft_model(folder: Path) -> None:
    values = study_in(folder)
    values["seeds"] = [0, 1]
    for cell in plan_of(values).cells:
        assert cell.dpo.parents["policy"] is cell.sft
        assert cell.dpo_evaluation.parents["model"] is cell.dpo
        assert cell.sft_evaluation.parents["model"] is cell.sft
        assert cell.sft.recipe.model_dump()["seed"] == cell.cell.seed
        assert cell.dpo.recipe.model_dump()["seed"] == cell.cell.seed


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda f: (f / "rows.jsonl").unlink(), DataError, "instructions.path: "),
        (lambda f: (f / "pairs.jsonl").unlink(), DataError, "preferences.path: "),
        (lambda f: shutil.rmtree(f / "base"), BaseModelError, "no config.json"),
        (
            lambda f: (f / "base" / "model.safetensors").unlink(),
            BaseModelError,
            "no .safetensors weights",
        ),
        (
            lambda f: [file.unlink() for file in (f / "base").glob("*t*k*")],
            BaseModelError,
            "no tokenizer",
        ),
        (lambda f: (f / "seen.yaml").unlink(), ConfigError, "seen.yaml"),
        (lambda f: (f / "items.jsonl").unlink(), ConfigError, "items.jsonl"),
    ],
)
def test_what_is_missing_is_named_before_anything_starts(
    folder: Path, damage: Edit, error: type[InputError], says: str
) -> None:
    values = study_in(folder)
    damage(folder)
    with pytest.raises(error, match=says) as caught:
        plan_of(values)
    assert caught.value.exit_code == 2
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "error", "says"),
    [
        ("base.path", "/nowhere", BaseModelError, "/nowhere: is no Hugging Face model folder"),
        ("base.template", "nope", ConfigError, "'nope': no such template"),
        ("instructions.path", "/no/rows.jsonl", DataError, "/no/rows.jsonl: there is no such"),
        ("preferences.columns.promt", "a", ConfigError, "unknown name. Allowed here: chosen, "),
        ("benchmarks.1.name", "wit_sen", ConfigError, "benchmark 'wit_sen' is unknown"),
        ("benchmarks.0.path", "/no/b.yaml", ConfigError, "/no/b.yaml: the benchmark cannot be"),
    ],
)
def test_what_is_missing_or_unknown_is_named_with_the_place_of_its_key(
    folder: Path, key: str, value: str, error: type[InputError], says: str
) -> None:
    values = study_in(folder)
    del values["benchmarks"][1]["path"]
    values["benchmarks"][1]["name"] = "wit_seen"
    values["preferences"]["columns"] = {"prompt": "prompt"}
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(values))
    assert plan_of(values).study == make_plan(load_study(file), Runtime()).study
    with pytest.raises(error) as caught:
        make_plan(load_study(file, [f"{key}={value}"]), Runtime())
    assert str(caught.value).startswith(f"--set {key}={value}: {key}: {says}")
    put(values, key, value)
    file.write_text(yaml.safe_dump(values))
    lines = file.read_text().splitlines()
    [line] = [n for n, text in enumerate(lines, start=1) if text.endswith(f": {value}")]
    with pytest.raises(error) as caught:
        make_plan(load_study(file), Runtime())
    assert str(caught.value).startswith(f"{file}:{line}: {key}: {says}")
    with pytest.raises(error) as caught:
        plan_of(values)
    assert str(caught.value).startswith(f"{key}: {says}")


@pytest.mark.parametrize("template", ["no-such", "/nowhere/t.jinja"])
def test_an_unknown_template_is_refused_with_those_that_there_are(
    folder: Path, template: str
) -> None:
    values = study_in(folder)
    values["base"]["template"] = template
    with pytest.raises(ConfigError, match=r"allowed: own, alpaca, .*tulu.*, or a \.jinja file"):
        plan_of(values)


def test_a_template_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "other.jinja").write_bytes(b"\xff\xfe")
    values = study_in(folder)
    values["base"]["template"] = str(folder / "other.jinja")
    with pytest.raises(ConfigError, match=r"^base\.template: '\S+other.jinja': cannot be read"):
        plan_of(values)


def test_the_built_in_inputs_need_no_path(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: x\nbase: {path: builtin}\ninstructions: {path: builtin}\n"
        "preferences: {path: builtin}\nweights: [instruction-tuning]\n"
        "benchmarks: [{name: wit_seen, role: select}]\n"
    )
    plan = make_plan(load_study(file), Runtime())
    assert plan.instructions.parents["rows"].path.name == "instructions.jsonl"
    assert plan.preferences.parents["rows"].path.name == "preferences.jsonl"
    assert (plan.base.path / "config.json").is_file()


def test_a_root_that_cannot_be_written_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    study = load_study(ROOT / "configs/studies/quickstart.yaml")
    with pytest.raises(ArtifactError, match="--set-runtime artifact_root=DIR"):
        make_plan(study, Runtime(artifact_root=tmp_path / "file" / "root"))
    make_plan(study, Runtime(artifact_root=tmp_path / "new" / "root"))
    assert not (tmp_path / "new").exists()
