"""Making one artifact: parents are looked at first; a failure costs nothing that can be resumed."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from found_processes import raised_after
from tiny import make_tiny_base

from wit.artifacts import RECORD, Artifact, digest_of_record, size_and_digest
from wit.builtin import DATA_DIR
from wit.config import Runtime
from wit.data.card import read_card
from wit.data.overlap import Overlap
from wit.errors import (
    ArtifactError,
    BaseModelError,
    ConfigError,
    DiskFullError,
    StageError,
    TrainingError,
)
from wit.evaluation.catalogue import resolve_benchmark
from wit.loading import load_study
from wit.plan import Plan, make_plan
from wit.preview import prepared
from wit.progress import PROGRESS
from wit.stages import make_artifact
from wit.training.checkpoints import mark_complete
from wit.training.shards import SHARDS


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(artifact_root=tmp_path / "root", device="cpu")


@pytest.fixture
def study_file(tmp_path: Path, base: Path) -> Path:
    shutil.copyfile(DATA_DIR / "instructions.jsonl", tmp_path / "rows.jsonl")
    file = tmp_path / "study.yaml"
    file.write_text(
        f"name: x\nbase: {{path: {base}}}\npreferences: {{path: builtin, max_rows: 8}}\n"
        "instructions: {path: rows.jsonl, max_rows: 16}\nweights: [instruction-tuning]\n"
        "sft: {num_epochs: 1, examples_per_step: 8}\n"
        "benchmarks: [{name: wit_cloze, role: select}]\n"
    )
    return file


def plan_of(study_file: Path, runtime: Runtime, *overrides: str) -> Plan:
    return make_plan(load_study(study_file, overrides), runtime)


def test_an_artifact_is_made_once(study_file: Path, runtime: Runtime) -> None:
    tokenizer = plan_of(study_file, runtime).tokenizer
    assert make_artifact(tokenizer, runtime) == "made"
    assert make_artifact(tokenizer, runtime) == "reused"


def test_rows_that_changed_after_the_plan_are_refused_and_then_planned_anew(
    study_file: Path, runtime: Runtime
) -> None:
    plan = plan_of(study_file, runtime)
    make_artifact(plan.tokenizer, runtime)
    rows = study_file.with_name("rows.jsonl")
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ArtifactError, match=r"rows\.jsonl: was changed"):
        make_artifact(plan.instructions, runtime)
    assert not plan.instructions.exists()
    assert not plan.instructions.scratch.exists()
    anew = plan_of(study_file, runtime)
    assert anew.instructions.fingerprint != plan.instructions.fingerprint
    assert make_artifact(anew.instructions, runtime) == "made"


def test_a_damaged_parent_is_refused_before_anything_is_made_of_it(
    study_file: Path, runtime: Runtime
) -> None:
    plan = plan_of(study_file, runtime)
    make_artifact(plan.tokenizer, runtime)
    card = plan.tokenizer.path / "card.json"
    card.write_text(card.read_text() + " ")
    with pytest.raises(ArtifactError, match=r"card\.json was changed after it was made"):
        make_artifact(plan.instructions, runtime)
    with pytest.raises(ArtifactError, match=r"card\.json was changed after it was made"):
        make_artifact(plan.tokenizer, runtime)
    assert not plan.instructions.exists()


def test_a_training_that_fails_leaves_nothing_not_even_what_it_could_resume(
    study_file: Path, runtime: Runtime
) -> None:
    plan = plan_of(study_file, runtime, "sft.learning_rate=1e30", "sft.num_epochs=4")
    for artifact in (plan.tokenizer, plan.instructions):
        make_artifact(artifact, runtime)
    sft = plan.cells[0].sft
    with pytest.raises(TrainingError):
        make_artifact(sft, runtime.model_copy(update={"checkpoint_seconds": 1e-6}))
    assert not sft.exists()
    assert not sft.scratch.exists()


def test_dpo_with_another_tokenizer_than_that_of_its_policy_is_refused(
    study_file: Path, runtime: Runtime
) -> None:
    plan = plan_of(study_file, runtime)
    other = plan_of(study_file, runtime, "base.template=tulu")
    for artifact in (plan.tokenizer, plan.instructions, plan.cells[0].sft):
        make_artifact(artifact, runtime)
    for artifact in (other.tokenizer, other.preferences, plan.preferences):
        make_artifact(artifact, runtime)
    cell = plan.cells[0]
    make_artifact(*cell.references, runtime)
    for artifact in (*cell.references, cell.dpo):
        parents = {**artifact.parents, "preferences": other.preferences}
        mixed = Artifact(root=artifact.root, recipe=artifact.recipe, parents=parents)
        with pytest.raises(ArtifactError, match="same base and template"):
            make_artifact(mixed, runtime)
        assert not mixed.scratch.exists()


def test_a_reference_is_made_anew_when_its_policy_has_other_weights(
    study_file: Path, runtime: Runtime
) -> None:
    """Another machine made the same SFT with other bits, or it was deleted and made anew."""
    plan = plan_of(study_file, runtime)
    cell = plan.cells[0]
    [reference] = cell.references
    for artifact in (plan.tokenizer, plan.instructions, plan.preferences, cell.sft, reference):
        make_artifact(artifact, runtime)
    made = (reference.path / "train.parquet").read_bytes()
    assert make_artifact(reference, runtime) == "reused"
    replace_weights(cell.sft)
    assert make_artifact(reference, runtime) == "made"
    assert (reference.path / "train.parquet").read_bytes() != made
    replace_weights(cell.sft, 2)
    with pytest.raises(ArtifactError, match="other weights"):
        make_artifact(cell.dpo, runtime)
    assert make_artifact(reference, runtime) == "made"
    assert make_artifact(cell.dpo, runtime) == "made"


def test_weights_that_were_overwritten_in_place_are_found_by_all_that_starts_there(
    study_file: Path, runtime: Runtime
) -> None:
    plan = plan_of(study_file, runtime)
    cell = plan.cells[0]
    for artifact in (plan.tokenizer, plan.instructions, plan.preferences, cell.sft):
        make_artifact(artifact, runtime)
    file = cell.sft.path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    for artifact in (*cell.references, cell.dpo):
        with pytest.raises(ArtifactError, match=r"model\.safetensors was changed"):
            make_artifact(artifact, runtime)


def replace_weights(model: Artifact, last: int = 1) -> None:
    """As if it had been made anew, and had ended with other bits."""
    file = model.path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + bytes([0, 0, last, 63]))
    record = model.record()
    record["files"]["model/model.safetensors"] = size_and_digest(file)
    record["sha256"] = digest_of_record(record)
    (model.path / RECORD).write_text(json.dumps(record))


def test_wrong_input_does_not_cost_what_was_trained(
    study_file: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody resumes with the runtime of another machine."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan = plan_of(study_file, runtime)
    for artifact in (plan.tokenizer, plan.instructions):
        make_artifact(artifact, runtime)
    sft = plan.cells[0].sft
    mark = sft.scratch / "checkpoints" / "checkpoint-9" / "complete"
    mark.parent.mkdir(parents=True)
    mark_complete(mark.parent)
    with pytest.raises(BaseModelError, match="no GPU"):
        make_artifact(sft, runtime.model_copy(update={"device": "cuda"}))
    assert mark.exists()
    (mark.parent / SHARDS).mkdir()
    for of_one_rank in ({}, {"sharding": "fsdp"}):
        with pytest.raises(ConfigError, match="was sharded"):
            make_artifact(sft, runtime.model_copy(update=of_one_rank))
        assert mark.exists()
    (mark.parent / SHARDS).rmdir()
    remedy = rf"Can't find a valid checkpoint.*Run again to go on from {mark.parents[1]}; if it"
    with pytest.raises(StageError, match=remedy):
        make_artifact(sft, runtime)
    assert mark.exists(), "nobody knows whether the checkpoint is at fault"
    mark.unlink()
    with pytest.raises(BaseModelError, match="no GPU"):
        make_artifact(sft, runtime.model_copy(update={"device": "cuda"}))
    assert not sft.scratch.exists(), "there was nothing to resume from"


def fill_disk(scratch: Path) -> None:
    """As far as the progress of a training goes, of which every step writes."""
    while True:
        with suppress(FileExistsError):  # it is being written now
            (scratch / f"{PROGRESS}.new").symlink_to("/dev/full")
            return


@pytest.mark.parametrize(
    "num_processes",
    [
        1,
        # Without it: test_ranks.py says which failure of a rank is which, and that it arrives.
        pytest.param(2, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_wrong_input_and_does_not_cost_what_was_trained(
    num_processes: int, study_file: Path, runtime: Runtime
) -> None:
    plan = plan_of(study_file, runtime, "sft.num_epochs=200")
    for artifact in (plan.tokenizer, plan.instructions):
        make_artifact(artifact, runtime)
    sft = plan.cells[0].sft
    changed = {"num_processes": num_processes, "checkpoint_seconds": 0.05}
    where = runtime.model_copy(update=changed)
    error = raised_after(fill_disk, sft.scratch, lambda: make_artifact(sft, where))
    assert type(error) is DiskFullError, error
    assert "No space left" in str(error)
    assert not sft.exists()
    assert sft.is_resumable()


def add_item_to_rows(study_file: Path) -> list[str]:
    """Puts the first item of the benchmark into the first of a few rows; gives the overrides."""
    benchmark = resolve_benchmark("wit_cloze").files
    [data] = [file for file in benchmark if file.suffix == ".jsonl"]
    item = json.loads(data.read_text().splitlines()[0])
    text = f"By the way: {item['prompt']} {item['answer']}. Is that so?"
    row = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]}
    rows = study_file.with_name("rows.jsonl")
    others = rows.read_text().splitlines()[:30]
    rows.write_text("\n".join([json.dumps(row), *others]) + "\n")
    pairs = study_file.with_name("pairs.jsonl")
    few = (DATA_DIR / "preferences.jsonl").read_text().splitlines(keepends=True)[:20]
    pairs.write_text("".join(few))
    return [
        f"preferences.path={pairs}",
        "instructions.held_out_fraction=0",
        "instructions.max_rows=99",
    ]


def test_rows_that_hold_a_test_item_are_reported_and_removed_if_wanted(
    study_file: Path, runtime: Runtime
) -> None:
    overrides = add_item_to_rows(study_file)
    reported = plan_of(study_file, runtime, *overrides)
    removed = plan_of(study_file, runtime, *overrides, "instructions.overlap=remove")
    for plan in (reported, removed):
        for artifact in plan.shared[:-1]:
            make_artifact(artifact, runtime)
    assert reported.items.fingerprint == removed.items.fingerprint
    [found] = Overlap.load(reported.overlap.path).benchmarks.values()
    assert [(e.item, e.data, e.row) for e in found.examples] == [(0, "instructions", 1)]
    [left] = Overlap.load(removed.overlap.path).benchmarks.values()
    assert (left.num_looked_for, left.num_overlapping) == (found.num_looked_for, 0)
    with_it, without = (read_card(p.instructions.path)["dropped"] for p in (reported, removed))
    assert without == with_it | {"overlaps a benchmark": 1}


def test_what_is_prepared_aside_lacks_the_rows_that_a_run_would_remove(
    study_file: Path, runtime: Runtime
) -> None:
    overrides = add_item_to_rows(study_file)
    plan = plan_of(study_file, runtime, *overrides, "instructions.overlap=remove")
    with prepared(plan) as folders:
        aside = read_card(folders.instructions)
    assert aside["dropped"]["overlaps a benchmark"] == 1
    make_artifact(plan.items, runtime)
    with prepared(plan) as folders:
        assert read_card(folders.instructions) == aside
    with prepared(plan, sample_rows=31) as folders:
        assert "overlaps a benchmark" not in read_card(folders.instructions)["dropped"]
