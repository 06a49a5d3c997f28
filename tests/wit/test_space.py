"""Room on the disk, asked for before a stage writes; and how much a stage takes at most."""

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from samples import ROOT
from tiny import make_tiny_base

from wit.adapter_recipes import AdapterKnobs
from wit.artifacts import CHECKPOINTS, COMPLETE, Artifact
from wit.config import Runtime
from wit.errors import ArtifactError, DiskFullError
from wit.files import free_bytes, size_text
from wit.housekeeping.contents import measure
from wit.loading import load_study
from wit.plan import Plan, make_plan
from wit.space import check_space, peak_bytes
from wit.stages import make_artifact
from wit.training.checkpoints import is_complete

UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
NOBODY = "http://127.0.0.1:9"  # MLflow's database would take room too


@given(st.integers(0, 10**14))
def test_a_size_is_said_in_the_unit_in_which_it_is_read_best(num_bytes: int) -> None:
    number, unit = size_text(num_bytes).split()
    assert float(number) * UNITS[unit] == pytest.approx(num_bytes, rel=0.051)
    assert float(number) >= 1 or num_bytes == 0
    assert float(number) <= 1000 or unit == "GB"


@pytest.mark.parametrize("file", sorted((ROOT / "wit").rglob("*.py")), ids=lambda file: file.name)
def test_sizes_are_written_by_one_function(file: Path) -> None:
    written = re.search(r"\{[^{}]*\} ?[kMG]B\b", file.read_text(encoding="utf-8"))
    assert written is None or "bench" in file.parts, f"{written}: wit.files.size_text says it"


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    base = make_tiny_base(folder / "base")
    file = folder / "study.yaml"
    file.write_text(
        f"name: x\nbase: {{path: {base}}}\npreferences: {{path: builtin}}\n"
        "instructions: {path: builtin}\nweights: [instruction-tuning]\n"
        "sft: {num_epochs: 1, examples_per_step: 32}\ndpo: {examples_per_step: 64}\n"
        "benchmarks: [{name: wit_cloze, role: select}]\n"
    )
    return file


def runtime_in(root: Path) -> Runtime:
    return Runtime(artifact_root=root, device="cpu", tracking_uri=NOBODY, checkpoint_seconds=1e-6)


def planned(study_file: Path, root: Path, *overrides: str) -> Plan:
    return make_plan(load_study(study_file, overrides), runtime_in(root))


def mount(disk: Path, num_bytes: int, *more: str) -> None:
    options = ",".join([*more, f"size={num_bytes}"])
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount(disk, 2**20)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_training_is_refused_before_it_writes_and_made_when_there_is_room(
    study_file: Path, disk: Path
) -> None:
    plan, runtime = planned(study_file, disk), runtime_in(disk)
    for artifact in (plan.tokenizer, plan.instructions):
        make_artifact(artifact, runtime)
    sft = plan.cells[0].sft
    wanted, free = peak_bytes(sft), free_bytes(disk)
    assert wanted is not None
    assert free is not None
    assert free < wanted < 8 * 2**20
    before = sorted(disk.rglob("*"))
    with pytest.raises(DiskFullError) as caught:
        make_artifact(sft, runtime)
    said = str(caught.value)
    assert f"needs {size_text(wanted)} more" in said
    assert f"{size_text(free)} are free" in said
    assert "'wit gc'" in said
    assert "artifact_root=DIR" in said
    assert isinstance(caught.value, ArtifactError)
    new = set(disk.rglob("*")) - set(before)
    assert {path.name for path in new if path.parent.name == "sft"} == {f".{sft.fingerprint}.lock"}
    mount(disk, 16 * 2**20, "remount")
    assert make_artifact(sft, runtime) == "made"


def test_what_an_attempt_has_written_is_not_asked_for_again(study_file: Path, disk: Path) -> None:
    sft = planned(study_file, disk).cells[0].sft
    wanted = peak_bytes(sft)
    assert wanted is not None
    mount(disk, wanted + 2**19, "remount")
    sft.path.parent.mkdir()
    check_space(sft)
    (disk / "other").write_bytes(bytes(wanted // 2))
    with pytest.raises(DiskFullError):
        check_space(sft)
    sft.scratch.mkdir()
    (disk / "other").rename(sft.scratch / "checkpoint")
    check_space(sft)


def test_a_stage_that_leaves_little_is_never_refused(study_file: Path, disk: Path) -> None:
    plan = planned(study_file, disk, "instructions.max_rows=16")
    (disk / "other").write_bytes(bytes(2**20 - 2**14))
    for artifact in (plan.tokenizer, plan.instructions, plan.items, *plan.base_evaluations):
        check_space(artifact)


def test_a_file_system_that_does_not_say_how_full_it_is_refuses_nothing(study_file: Path) -> None:
    assert shutil.disk_usage("/proc").free == 0
    assert free_bytes(Path("/proc")) is None
    check_space(
        planned(study_file, Path("/tmp")).cells[0].sft.model_copy(update={"root": Path("/proc")})
    )


def watched(artifact: Artifact, runtime: Runtime) -> tuple[int, int]:
    """The most bytes, and the most checkpoints, that were on the disk while it was made."""
    most_bytes = most_checkpoints = 0
    is_over = threading.Event()

    def watch() -> None:
        nonlocal most_bytes, most_checkpoints
        while not is_over.is_set():
            with suppress(FileNotFoundError):  # a checkpoint is being deleted
                most_bytes = max(most_bytes, measure(artifact.scratch)[0])
                folders = list(artifact.scratch.glob(f"{CHECKPOINTS}/checkpoint-*"))
                # One that is being deleted lies there without its mark, and for an instant.
                whole = [folder for folder in folders if (folder / COMPLETE).exists()]
                most_checkpoints = max(most_checkpoints, len(whole))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert make_artifact(artifact, runtime) == "made"
    finally:
        is_over.set()
        watcher.join()
    # What it left was there too, however quickly that went.
    return max(most_bytes, measure(artifact.path)[0]), most_checkpoints


def test_a_stage_takes_no_more_than_was_said_and_not_far_less(
    study_file: Path, tmp_path: Path
) -> None:
    few = [f"{data}.max_rows=96" for data in ("instructions", "preferences")]
    plan, runtime = planned(study_file, tmp_path), runtime_in(tmp_path)
    cell = planned(study_file, tmp_path, *few, "sft.num_epochs=2").cells[0]
    make_artifact(plan.tokenizer, runtime)
    for data in (cell.sft.parents["instructions"], cell.dpo.parents["preferences"]):
        assert isinstance(data, Artifact)
        make_artifact(data, runtime)
    seen = {}
    for artifact in (plan.instructions, plan.preferences, cell.sft, *cell.references, cell.dpo):
        if artifact.stage == "reference":
            make_artifact(artifact, runtime)
            continue
        said = peak_bytes(artifact)
        assert said is not None
        num_bytes, num_checkpoints = watched(artifact, runtime)
        seen[artifact.stage] = (num_bytes / said, num_bytes - said)
        assert num_checkpoints <= 2, "the new one is marked before the last one goes"
        assert not list(artifact.path.rglob("checkpoint*"))
    # Beside weights lie tokenizer, history and state: little beside a model of any real size.
    assert all(more < 2**19 for _, more in seen.values()), seen
    assert all(share > 0.3 for share, _ in seen.values()), seen


def test_what_is_trained_by_adapters_takes_little_beside_the_model(
    study_file: Path, tmp_path: Path
) -> None:
    sft = planned(study_file, tmp_path).cells[0].sft
    lora = sft.recipe.model_copy(update={"adapter": AdapterKnobs()})
    all_weights = peak_bytes(sft)
    adapters = peak_bytes(sft.model_copy(update={"recipe": lora}))
    assert adapters is not None
    assert all_weights == 6 * adapters


def test_of_checkpoints_that_lie_there_only_the_newest_whole_one_is_kept(
    study_file: Path, tmp_path: Path
) -> None:
    """Killed between the mark of a new one and the end of the old one, and then while writing."""
    from wit.training.checkpoints import mark_complete, resumable_checkpoint

    scratch = planned(study_file, tmp_path).cells[0].sft.scratch
    folders = {step: scratch / CHECKPOINTS / f"checkpoint-{step}" for step in (8, 9, 10, 11)}
    for folder in folders.values():
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(bytes(10))
    for step in (8, 9, 10):
        mark_complete(folders[step])
    (folders[10] / "weights").write_bytes(bytes(9))  # a loss of power
    assert resumable_checkpoint(scratch) == (str(folders[9]), 9)
    assert is_complete(folders[9])
    assert [path.name for path in (scratch / CHECKPOINTS).iterdir()] == ["checkpoint-9"]
