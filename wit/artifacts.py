"""Artifacts: directories that are complete or absent, and name what they were made of.

* An ``Artifact`` is a recipe and its parents. Both are known before anything is made, so the
  fingerprint, and with it the path ``<root>/<stage>/<fingerprint>/``, is known too.
* A ``Source`` is a parent that we did not make: its fingerprint comes from its content.
* ``writing`` gives a scratch directory that is renamed when the stage succeeds. After a failure
  or a kill it stays, so that the stage can resume from it; a lock keeps two processes apart.
* ``record.json`` in every artifact says how it was made, with size and sha256 of every file and
  a sha256 of its own.
"""

import hashlib
import json
import platform
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, SerializeAsAny

from wit.errors import ArtifactError
from wit.files import Stamp, sha256_of, stamps_of, write_durably
from wit.hub import snapshot
from wit.progress import PROGRESS
from wit.provenance import commit, versions
from wit.recipes import Recipe
from wit.unchanged import check_once

RECORD = "record.json"
CHECKPOINTS = "checkpoints"
COMPLETE = "complete"  # marks a checkpoint that was written to its end
# What a stage keeps only to resume, and what it says while it runs; not part of the artifact.
JOB = "job.json"  # of a training on several processes
HALVINGS = "halvings"  # of the rows that are taken at once, since memory ran out
TOGETHER = "together"  # of cells that are trained at once; checkpoints are with the first of them
PAUSED = "paused"  # marks what a search has begun and has not decided to go on with
DOWNLOAD = "download"  # of what another machine has made, until it is complete
REPLACED = "replaced"  # by that
HOW = "how.json"  # what of this machine or this attempt the record shall say
SCRATCH_ONLY = (
    *(CHECKPOINTS, JOB, TOGETHER, PAUSED, DOWNLOAD, REPLACED, RECORD, HOW),
    *(f"{name}{suffix}" for name in (PROGRESS, HALVINGS) for suffix in ("", ".new")),
)


class Source(BaseModel):
    """Files, or a pinned hub commit, that we did not make."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["model", "tokenizer", "rows", "benchmark"]
    fingerprint: str  # of the content, or of the hub commit
    location: str  # a path, or a hub repository; where it was found is not what it is
    revision: str | None = None  # commit of a hub repository
    stamps: tuple[Stamp, ...] = ()  # of the files, as they were when the fingerprint was taken

    @property
    def path(self) -> Path:
        """Its place on this machine; a hub repository is downloaded unless it is in the cache.

        Raises:
            InputError: The hub repository cannot be had.
        """
        if self.revision is None:
            return Path(self.location)
        hub_kind = "dataset" if self.kind == "rows" else "model"
        return snapshot(self.location, self.revision, kind=hub_kind)

    def verified(self) -> "Source":
        """Itself, if its files are still those of the fingerprint, as their size and time say.

        Raises:
            ArtifactError: One was changed or removed; names it and the remedy.
        """
        for stamp in self.stamps:
            if stamp not in stamps_of([Path(stamp.file)]):
                raise ArtifactError(
                    f"{stamp.file}: was changed while the study ran. Run again: what was made "
                    "of it before is kept, and the study is planned with what it is now"
                )
        return self


class Artifact(BaseModel):
    """A directory that a stage leaves, known by what it is made of before it is made."""

    model_config = ConfigDict(frozen=True)

    root: Path
    recipe: SerializeAsAny[Recipe]
    parents: dict[str, "Artifact | Source"]  # by the part that each plays

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that change exactly when the result should.

        Hashed: the stage with its version, the recipe, the parents' fingerprints. Not hashed:
        source code (raise the stage's version instead), ``Runtime``, paths.
        """
        parents = {part: parent.fingerprint for part, parent in self.parents.items()}
        identity = [self.recipe.stage, self.recipe.identity(), parents]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def stage(self) -> str:
        """Name of the stage, such as ``sft``."""
        return self.recipe.stage_name

    @property
    def path(self) -> Path:
        """Where it is, or will be."""
        return self.root / self.stage / self.fingerprint

    @property
    def scratch(self) -> Path:
        """Where it is while it is being made."""
        return self.path.with_name(self.fingerprint + ".partial")

    def exists(self) -> bool:
        """Whether it is complete; there is no third state, but ``verified`` finds damage."""
        return self.path.is_dir()

    def is_resumable(self) -> bool:
        """Whether an earlier attempt left a checkpoint that was written to its end."""
        return any((self.scratch / CHECKPOINTS).glob(f"*/{COMPLETE}"))

    def is_paused(self) -> bool:
        """Whether a search has begun it, and nobody has gone on with it."""
        return not self.exists() and (self.scratch / PAUSED).exists()

    def record(self) -> dict[str, Any]:
        """What ``record.json`` says.

        Raises:
            ArtifactError: It cannot be read.
        """
        return read_record(self.path)

    def verified(self) -> "Artifact":
        """Itself, after every file was compared with the record.

        In one process, files are read again only after one of them has changed.

        Raises:
            ArtifactError: A file is missing, changed or new; names it and the remedy.
        """
        check_once(self.path, verify)
        return self

    @contextmanager
    def lock(self, pause: Callable[[], object] | None = None) -> Iterator[None]:
        """Holds off every other process that would make the same artifact.

        Args:
            pause: Called between two attempts to get it, and may raise; unset: waits in one piece.

        Raises:
            ArtifactError: The root cannot be written.
        """
        # Another thread may release it: the one that tells MLflow of the artifact.
        lock = FileLock(self.path.with_name(f".{self.fingerprint}.lock"), thread_local=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                with suppress(Timeout):
                    lock.acquire(timeout=-1 if pause is None else 0)
                    break
                if pause is not None:
                    pause()
        except OSError as error:
            raise ArtifactError(
                f"{self.root}: the artifact root cannot be written ({error.strerror or error}); "
                "choose another with --set-runtime artifact_root=DIR"
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yields a scratch directory that becomes ``path`` only if the block succeeds.

        Hold ``lock`` around it. After a failure the scratch directory stays, so that a retry can
        resume from it.
        """
        started = time.time()
        self.scratch.mkdir(parents=True, exist_ok=True)
        yield self.scratch
        how = _how(self.scratch)
        for name in SCRATCH_ONLY:
            leftover = self.scratch / name
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
        record = self._new_record(started, how)
        record["sha256"] = digest_of_record(record)
        write_durably(self.scratch / RECORD, json.dumps(record, indent=1).encode())
        self.scratch.rename(self.path)

    def _new_record(self, started: float, how: dict[str, Any]) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "stage": self.recipe.stage,
            "recipe": self.recipe.model_dump(mode="json"),
            "parents": {part: _describe(parent) for part, parent in self.parents.items()},
            "made": {
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "seconds": round(time.time() - started, 3),  # of the attempt that succeeded
                "host": socket.gethostname(),
                "python": platform.python_version(),
                "versions": versions(),
                "commit": commit(),
            }
            | how,
            "files": {
                str(file.relative_to(self.scratch)): size_and_digest(file)
                for file in sorted(self.scratch.rglob("*"))
                if file.is_file()
            },
        }


def say_how(scratch: Path, **facts: Any) -> None:
    """Has the record say under ``made.how`` what another machine may do otherwise.

    It is no file of the artifact: those say the same wherever it is made, but for the rounding of
    sums that are taken in another order.
    """
    (scratch / HOW).write_text(json.dumps(facts), encoding="utf-8")


def _how(scratch: Path) -> dict[str, Any]:
    file = scratch / HOW
    return {"how": json.loads(file.read_text(encoding="utf-8"))} if file.is_file() else {}


def _describe(parent: Artifact | Source) -> dict[str, str]:
    if isinstance(parent, Source):
        return parent.model_dump(exclude={"stamps"})
    return {"kind": parent.stage, "fingerprint": parent.fingerprint, "location": str(parent.path)}


def read_record(path: Path) -> dict[str, Any]:
    """The record of the artifact in directory ``path``.

    Raises:
        ArtifactError: It is missing or is not a record.
    """
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        if not {"files", "fingerprint", "sha256"} <= set(record):
            raise ValueError("it is not that of an artifact")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: {RECORD} cannot be read ({error}). {_remedy(path)}") from None
    return record


def verify(path: Path) -> None:
    """Compares every file of an artifact with its record.

    Raises:
        ArtifactError: Naming the first file that differs, and the remedy.
    """
    record = read_record(path)
    if record["sha256"] != digest_of_record(record):
        raise ArtifactError(f"{path}: {RECORD} was changed after it was made. {_remedy(path)}")
    if record["fingerprint"] != path.name:
        raise ArtifactError(f"{path}: {RECORD} is that of {record['fingerprint']}. {_remedy(path)}")
    present = {str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()} - {RECORD}
    for name in sorted(present ^ set(record["files"])):
        state = "was added" if name in present else "is missing"
        raise ArtifactError(f"{path}: {name} {state} after it was made. {_remedy(path)}")
    for name, expected in record["files"].items():
        if size_and_digest(path / name) != expected:
            raise ArtifactError(f"{path}: {name} was changed after it was made. {_remedy(path)}")


def _remedy(path: Path) -> str:
    return f"Delete {path} and run again: it will be made anew, and what was made of it is kept."


def size_and_digest(file: Path) -> dict[str, Any]:
    """What a record says of a file."""
    return {"size": file.stat().st_size, "sha256": sha256_of(file)}


def digest_of_record(record: dict[str, Any]) -> str:
    """What a record should say of itself."""
    content = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
