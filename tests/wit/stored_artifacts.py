"""Artifacts of several machines, and a store whose user may be interrupted at any step."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from made_up import ROWS, MadeUp

from wit.artifact_store import ArtifactStore
from wit.artifacts import Artifact
from wit.remote_files import RemoteFiles


def artifact_in(root: Path) -> Artifact:
    """The same one on every machine."""
    return Artifact(root=root, recipe=MadeUp(), parents={"rows": ROWS})


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def upload(store: ArtifactStore, artifact: Artifact) -> None:
    with artifact.lock():
        store.upload(artifact)


def download(store: ArtifactStore, artifact: Artifact) -> bool:
    with artifact.lock():
        return store.download(artifact)


def stored(store: ArtifactStore) -> dict[str, int]:
    return store.files.sizes("")


class Killed(BaseException):
    """What ends a process; no error, for nothing may handle it."""


class Interrupted:
    """Files of a store; something happens before they are used for the n-th time, and later."""

    def __init__(self, files: RemoteFiles, num_uses: int, happens: Callable[[], object]) -> None:
        self._files, self._num_uses, self._happens = files, num_uses, happens
        self._count = count()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._files, name)
        if name not in ("names", "sizes", "exists", "read", "chunks", "put", "create", "delete"):
            return found

        def use(*arguments: Any) -> Any:
            if next(self._count) >= self._num_uses:
                self._happens()
            return found(*arguments)

        return use


def interrupted(
    store: ArtifactStore, num_uses: int, happens: Callable[[], object]
) -> ArtifactStore:
    return ArtifactStore(Interrupted(store.files, num_uses, happens))  # pyright: ignore


def die() -> None:
    raise Killed
