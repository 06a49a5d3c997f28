"""Artifacts of a stage that does not exist."""

from typing import ClassVar

from wit.artifacts import Artifact, Source
from wit.recipes import Recipe


class MadeUp(Recipe):
    stage: ClassVar[str] = "made-up@1"
    not_identity: ClassVar[frozenset[str]] = frozenset({"place"})

    knob: float = 1
    place: str = "here"


class MadeUpAgain(MadeUp):
    stage: ClassVar[str] = "made-up@2"


ROWS = Source(kind="rows", fingerprint="0123456789ab", location="rows.jsonl")


def make(artifact: Artifact) -> Artifact:
    with artifact.lock(), artifact.writing() as out:
        (out / "model").mkdir()
        (out / "model" / "weights").write_bytes(bytes(range(256)))
        (out / "card.json").write_text('{"rows": 3}')
        (out / "empty").touch()
    return artifact
