"""A process that has verified an artifact reads it again after a change, and only then."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up import MadeUp

from wit.artifacts import Artifact
from wit.errors import ArtifactError

NUM_BYTES = 4_000_000  # of weights: far more than anything else reads meanwhile
Change = Callable[[Path], object]
COUNTS = Path("/proc/self/io")
pytestmark = pytest.mark.skipif(not COUNTS.exists(), reason="bytes that were read are not counted")


def num_bytes_read(act: Callable[[], object]) -> int:
    """Bytes that this process has asked for meanwhile, from caches or disks."""

    def count() -> int:
        return int(COUNTS.read_text().split()[1])

    before = count()
    act()
    return count() - before


def made(root: Path, *, age_seconds: float) -> Artifact:
    artifact = Artifact(root=root, recipe=MadeUp(), parents={})
    with artifact.lock(), artifact.writing() as out:
        (out / "model").mkdir()
        (out / "model" / "weights").write_bytes(bytes(NUM_BYTES))
        (out / "card.json").write_text("{}")
    when = time.time() - age_seconds
    for file in (file for file in artifact.path.rglob("*") if file.is_file()):
        os.utime(file, (when, when))
    return artifact


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """Verified once; made an hour ago."""
    found = made(tmp_path, age_seconds=3600)
    assert num_bytes_read(found.verified) > NUM_BYTES
    return found


def overwrite(file: Path) -> None:
    """The same number of bytes, the last one another."""
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x01")


def overwrite_and_restore_its_time(file: Path) -> None:
    stat = file.stat()
    overwrite(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace(file: Path) -> None:
    other = file.with_name("other")
    shutil.copy2(file, other)
    overwrite_and_restore_its_time(other)
    other.rename(file)


def test_what_was_verified_is_not_read_again(artifact: Artifact) -> None:
    again = Artifact(root=artifact.root, recipe=MadeUp(), parents={})
    assert num_bytes_read(again.verified) < NUM_BYTES / 10


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: overwrite(path / "model" / "weights"), "weights was changed"),
        (
            lambda path: overwrite_and_restore_its_time(path / "model" / "weights"),
            "weights was changed",
        ),
        (lambda path: replace(path / "model" / "weights"), "weights was changed"),
        (lambda path: overwrite(path / "record.json"), "record.json"),
        (lambda path: (path / "model" / "more").touch(), "more was added"),
        (lambda path: (path / "card.json").unlink(), "card.json is missing"),
        (lambda path: (path / "card.json").rename(path / "other"), "is missing"),
        (lambda path: shutil.rmtree(path), "cannot be read"),
    ],
)
def test_a_change_after_it_was_verified_is_found(
    artifact: Artifact, change: Change, says: str
) -> None:
    change(artifact.path)
    with pytest.raises(ArtifactError, match=says):
        artifact.verified()
    with pytest.raises(ArtifactError, match=says):  # nor has it passed now
        artifact.verified()


def test_what_is_only_touched_is_read_again_and_passes(artifact: Artifact) -> None:
    long_ago = time.time() - 600
    os.utime(artifact.path / "model" / "weights", (long_ago, long_ago))
    assert num_bytes_read(artifact.verified) > NUM_BYTES
    assert num_bytes_read(artifact.verified) < NUM_BYTES / 10


def test_what_was_written_just_now_is_read_again(tmp_path: Path) -> None:
    """Written again at once, it could have the same time."""
    artifact = made(tmp_path, age_seconds=0)
    artifact.verified()
    assert num_bytes_read(artifact.verified) > NUM_BYTES
