"""Complete or absent, verified, locked; named by what it was made of."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import given

from wit.artifacts import Artifact, Source, read_record, verify
from wit.errors import ArtifactError, InputError
from wit.files import digest_of_files, is_unwritable, sha256_of, stamps_of
from wit.recipes import Recipe

TMPFS_BYTES = 64 * 1024


class MadeUp(Recipe):
    stage: ClassVar[str] = "made-up@1"
    not_identity: ClassVar[frozenset[str]] = frozenset({"place"})

    knob: float = 1
    place: str = "here"


class MadeUpAgain(MadeUp):
    stage: ClassVar[str] = "made-up@2"


ROWS = Source(kind="rows", fingerprint="0123456789ab", location="rows.jsonl")


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return Artifact(root=tmp_path, recipe=MadeUp(), parents={"rows": ROWS})


def make(artifact: Artifact) -> Artifact:
    with artifact.lock(), artifact.writing() as out:
        (out / "model").mkdir()
        (out / "model" / "weights").write_bytes(bytes(range(256)))
        (out / "card.json").write_text('{"rows": 3}')
        (out / "empty").touch()
    return artifact


# --- identity -----------------------------------------------------------------------------------


def test_a_fingerprint_is_twelve_hex_digits_and_names_the_place(artifact: Artifact) -> None:
    assert len(artifact.fingerprint) == 12
    assert int(artifact.fingerprint, 16) >= 0
    assert artifact.path == artifact.root / "made-up" / artifact.fingerprint


def test_recipe_stage_version_parents_and_their_parts_make_the_fingerprint(tmp_path: Path) -> None:
    other = ROWS.model_copy(update={"fingerprint": "ba9876543210"})
    made = [
        Artifact(root=tmp_path, recipe=recipe, parents=parents).fingerprint
        for recipe, parents in [
            (MadeUp(), {"rows": ROWS}),
            (MadeUp(knob=2), {"rows": ROWS}),
            (MadeUpAgain(), {"rows": ROWS}),
            (MadeUp(), {"rows": other}),
            (MadeUp(), {"pairs": ROWS}),
            (MadeUp(), {"rows": ROWS, "more": other}),
            (MadeUp(), {"rows": other, "more": ROWS}),
            (MadeUp(), {}),
        ]
    ]
    assert len(set(made)) == len(made)


def test_what_says_where_does_not_make_the_fingerprint(artifact: Artifact) -> None:
    moved = Artifact(
        root=artifact.root / "other",
        recipe=MadeUp(place="there"),
        parents={"rows": ROWS.model_copy(update={"location": "elsewhere.jsonl"})},
    )
    assert moved.fingerprint == artifact.fingerprint


def test_a_grandparents_change_reaches_the_fingerprint(tmp_path: Path) -> None:
    def grandchild(knob: float) -> str:
        first = Artifact(root=tmp_path, recipe=MadeUp(knob=knob), parents={"rows": ROWS})
        second = Artifact(root=tmp_path, recipe=MadeUp(), parents={"of": first})
        return Artifact(root=tmp_path, recipe=MadeUp(), parents={"of": second}).fingerprint

    assert grandchild(1) == grandchild(1)
    assert grandchild(1) != grandchild(2)


def test_files_count_by_name_and_content_not_by_folder_or_order(tmp_path: Path) -> None:
    for folder in ("a", "b", "z"):
        (tmp_path / folder).mkdir()
    files = {}
    for path, content in {"a/x": "1", "b/y": "2", "z/x": "1", "a/y": "2", "b/x": "3"}.items():
        files[path] = tmp_path / path
        files[path].write_text(content)
    digest = digest_of_files([files["a/x"], files["b/y"]])
    assert digest == digest_of_files([files["a/y"], files["z/x"]])
    assert digest != digest_of_files([files["b/x"], files["b/y"]])
    assert digest != digest_of_files([files["a/x"], files["b/y"]], "more")
    assert digest != digest_of_files([files["a/x"]])


def test_the_same_name_with_other_content_is_another_source(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("a")
    before = digest_of_files([file])
    file.write_text("b")
    assert digest_of_files([file]) != before


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nope: cannot be read: No such file"):
        sha256_of(tmp_path / "nope")


# --- complete or absent -------------------------------------------------------------------------


def test_it_does_not_exist_until_it_is_complete(artifact: Artifact) -> None:
    assert not artifact.exists()
    with artifact.writing() as out:
        (out / "file").write_text("half")
        assert not artifact.exists()
        assert not artifact.path.exists()
    assert artifact.exists()
    assert not artifact.scratch.exists()
    assert artifact.verified() is artifact


def test_a_failure_leaves_nothing_at_its_place_and_the_scratch_to_resume(
    artifact: Artifact,
) -> None:
    def attempt() -> None:
        with artifact.writing() as out:
            (out / "checkpoints").mkdir()
            (out / "checkpoints" / "step-3").write_text("weights")
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        attempt()
    assert not artifact.path.exists()
    assert (artifact.scratch / "checkpoints" / "step-3").read_text() == "weights"
    with artifact.writing() as out:
        assert (out / "checkpoints" / "step-3").read_text() == "weights"
        (out / "model").write_text("trained")
    assert [file.name for file in sorted(artifact.path.iterdir())] == ["model", "record.json"]
    artifact.verified()


def test_what_serves_only_to_resume_is_not_part_of_it(artifact: Artifact) -> None:
    with artifact.writing() as out:
        (out / "checkpoints").mkdir()
        (out / "checkpoints" / "step-3").touch()
        for name in ("progress.json", "progress.json.new"):
            (out / name).write_text("[1, 2, 0.5]")
        (out / "model").touch()
    assert set(artifact.record()["files"]) == {"model"}
    assert not (artifact.path / "progress.json.new").exists()


def test_killed_between_its_record_and_its_rename_it_can_still_be_made(artifact: Artifact) -> None:
    make(artifact)
    artifact.path.rename(artifact.scratch)  # as it lies at that moment
    with artifact.writing() as out:
        (out / "card.json").write_text('{"rows": 4}')
    assert "record.json" not in artifact.record()["files"]
    artifact.verified()


def killed_while_writing(artifact: Artifact, reached: Path) -> None:
    with artifact.lock(), artifact.writing() as out:
        (out / "half").write_text("half")
        reached.touch()
        time.sleep(60)


def test_a_killed_process_leaves_no_artifact_and_no_lock(
    artifact: Artifact, tmp_path: Path
) -> None:
    reached = tmp_path / "reached"
    process = multiprocessing.get_context("spawn").Process(
        target=killed_while_writing, args=(artifact, reached)
    )
    process.start()
    while not reached.exists():
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert not artifact.exists()
    assert (artifact.scratch / "half").exists()
    make(artifact).verified()


# --- the record ---------------------------------------------------------------------------------


def test_the_record_says_how_it_was_made(artifact: Artifact) -> None:
    child = Artifact(root=artifact.root, recipe=MadeUp(knob=3), parents={"data": make(artifact)})
    record = make(child).record()
    assert record["fingerprint"] == child.fingerprint
    assert record["stage"] == "made-up@1"
    assert record["recipe"] == {"knob": 3.0, "place": "here"}
    parent = {"kind": "made-up", "fingerprint": artifact.fingerprint}
    assert parent.items() <= record["parents"]["data"].items()
    assert record["made"]["versions"]["torch"].startswith("2.")
    weights = record["files"]["model/weights"]
    assert weights == {"size": 256, "sha256": sha256_of(child.path / "model" / "weights")}
    assert set(record["files"]) == {"model/weights", "card.json", "empty"}


def assert_refused(artifact: Artifact, says: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        artifact.verified()
    message = str(caught.value)
    assert says in message
    assert str(artifact.path) in message
    assert f"Delete {artifact.path} and run again" in message
    assert caught.value.exit_code == 2


@given(
    name=st.sampled_from(["model/weights", "card.json", "record.json"]),
    place=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
def test_any_flipped_bit_is_found(
    name: str, place: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("root")
    artifact = make(Artifact(root=root, recipe=MadeUp(), parents={}))
    file = artifact.path / name
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 1 << bit
    file.write_bytes(content)
    assert_refused(artifact, name)
    shutil.rmtree(root)


Damage = Callable[[Path], object]


def edit_record(change: Callable[[dict], object]) -> Damage:
    def damage(path: Path) -> None:
        record = json.loads((path / "record.json").read_text())
        change(record)
        (path / "record.json").write_text(json.dumps(record))

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: (path / "model" / "more").touch(), "model/more was added"),
        (lambda path: (path / "empty").unlink(), "empty is missing"),
        (lambda path: shutil.rmtree(path / "model"), "model/weights is missing"),
        (lambda path: (path / "card.json").write_text(""), "card.json was changed"),
        (lambda path: (path / "empty").rename(path / "other"), "empty is missing"),
        (lambda path: (path / "record.json").unlink(), "record.json cannot be read"),
        (lambda path: (path / "record.json").write_text("[1]"), "record.json cannot be read"),
        (lambda path: (path / "record.json").write_text("3"), "record.json cannot be read"),
        (lambda path: (path / "record.json").write_bytes(b"\xff"), "record.json cannot be read"),
        (edit_record(lambda r: r["recipe"].update(knob=9)), "record.json was changed"),
        (edit_record(lambda r: r["files"].pop("empty")), "record.json was changed"),
        (edit_record(lambda r: r["made"].update(host="x")), "record.json was changed"),
        (edit_record(lambda r: r.update(fingerprint="0" * 12)), "record.json was changed"),
        (edit_record(lambda r: r.pop("sha256")), "record.json cannot be read"),
    ],
)
def test_damage_is_refused_with_its_name_and_the_remedy(
    artifact: Artifact, damage: Damage, says: str
) -> None:
    damage(make(artifact).path)
    assert_refused(artifact, says)


def test_a_damaged_artifact_still_stands_in_the_way_until_it_is_deleted(
    artifact: Artifact,
) -> None:
    (make(artifact).path / "record.json").unlink()
    assert artifact.exists()  # or it would be made again, and fail after hours of training
    shutil.rmtree(artifact.path)
    make(artifact).verified()


def test_a_complete_artifact_of_another_fingerprint_is_refused(artifact: Artifact) -> None:
    moved = make(artifact).path.with_name("0" * 12)
    artifact.path.rename(moved)
    with pytest.raises(ArtifactError, match=f"is that of {artifact.fingerprint}"):
        verify(moved)
    assert read_record(moved)["fingerprint"] == artifact.fingerprint


# --- roots that cannot be written, and other processes ----------------------------------------


@pytest.mark.parametrize("root", ["/proc/wit", "a file", "below a file"])
def test_a_root_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").touch()
    places = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "artifacts"}
    place = places.get(root, Path(root))
    artifact = Artifact(root=place, recipe=MadeUp(), parents={})
    with pytest.raises(ArtifactError) as caught, artifact.lock():
        pytest.fail("it was locked")
    assert str(caught.value).startswith(f"{place}: the artifact root cannot be written")
    assert "artifact_root=DIR" in str(caught.value)


@pytest.mark.parametrize("error", [PermissionError, FileExistsError, OSError, ArtifactError])
def test_an_error_inside_the_lock_keeps_its_kind_and_frees_the_lock(
    artifact: Artifact, error: type[Exception]
) -> None:
    with pytest.raises(error, match="of the stage itself"), artifact.lock():
        raise error("of the stage itself")
    with artifact.lock():
        pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_leaves_no_artifact(small_disk: Path) -> None:
    artifact = Artifact(root=small_disk, recipe=MadeUp(), parents={})

    def attempt() -> None:
        with artifact.lock(), artifact.writing() as out:
            (out / "weights").write_bytes(bytes(2 * TMPFS_BYTES))

    with pytest.raises(OSError, match="No space left"):
        attempt()
    assert not artifact.exists()


def test_a_disk_too_full_for_the_record_leaves_no_artifact(small_disk: Path) -> None:
    artifact = Artifact(root=small_disk, recipe=MadeUp(), parents={})

    def attempt() -> None:
        with artifact.lock(), artifact.writing() as out:
            pages = 0
            while True:
                try:
                    (out / f"{pages}").write_bytes(bytes(4096))
                except OSError:
                    return
                pages += 1

    with pytest.raises(OSError, match="No space left"):
        attempt()
    assert not artifact.exists()


def test_a_full_disk_is_known_whatever_a_library_calls_it(small_disk: Path) -> None:
    # Here, for the processes of the tests around it import this file too.
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    weights = {"weight": torch.zeros(TMPFS_BYTES)}
    with pytest.raises(SafetensorError) as caught:
        save_file(weights, small_disk / "weights.safetensors")
    assert is_unwritable(small_disk, caught.value)
    with pytest.raises(RuntimeError) as caught:
        torch.save(weights, small_disk / "weights.pt")
    assert is_unwritable(small_disk, caught.value)


def test_a_database_says_in_its_own_words_that_the_disk_is_full() -> None:
    for error in (OSError(28, "No space left on device"), Exception("disk is full")):
        assert is_unwritable(Path("/"), error)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_place_that_may_not_be_written_is_known(tmp_path: Path, number: int) -> None:
    assert is_unwritable(tmp_path, OSError(number, os.strerror(number)))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("out of memory"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere/model.safetensors"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    ],
)
def test_another_failure_is_not_blamed_on_the_root(tmp_path: Path, error: Exception) -> None:
    assert not is_unwritable(tmp_path, error)


def test_files_that_were_not_made_here_are_watched_too(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}")
    source = ROWS.model_copy(update={"stamps": stamps_of([rows])})
    assert source.verified() is source
    os.utime(rows, ns=(0, 0))
    with pytest.raises(ArtifactError, match="changed while the study ran"):
        source.verified()
    rows.unlink()
    with pytest.raises(ArtifactError, match=str(rows)):
        source.verified()


def make_once(artifact: Artifact, marks: Path, start) -> None:
    start.wait()
    with artifact.lock():
        if not artifact.exists():
            with artifact.writing() as out:
                (marks / str(os.getpid())).touch()
                time.sleep(0.2)
                (out / "made-by").write_text(str(os.getpid()))


def test_processes_that_race_make_one_artifact(artifact: Artifact, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    processes = [context.Process(target=make_once, args=(artifact, marks, start)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    [maker] = marks.iterdir()
    assert (artifact.verified().path / "made-by").read_text() == maker.name
