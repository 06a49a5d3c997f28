"""Artifacts as their directories tell: found by fingerprint, without a plan and without MLflow."""

import difflib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wit.artifacts import RECORD, read_record
from wit.errors import ArtifactError, InputError

FINGERPRINT = re.compile(r"[0-9a-f]{12}")
BEGINNING = re.compile(r"[0-9a-f]{4,12}")
MODELS = ("sft", "dpo")  # stages that leave a model
MODEL = "model"  # folder of the model in such an artifact
_log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """An artifact that is there, with its record."""

    path: Path
    record: dict[str, Any]

    @classmethod
    def at(cls, path: Path) -> "Kept":
        """The artifact in a directory.

        Raises:
            ArtifactError: Its record cannot be read.
        """
        return cls(path, read_record(path))

    @property
    def root(self) -> Path:
        """The artifact root that it is in."""
        return self.path.parent.parent

    @property
    def stage(self) -> str:
        """Name of the stage, such as ``sft``."""
        return self.path.parent.name

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits."""
        return self.record["fingerprint"]

    @property
    def recipe(self) -> dict[str, Any]:
        """What the stage was told."""
        return self.record["recipe"]

    @property
    def parents(self) -> dict[str, dict[str, Any]]:
        """Kind, fingerprint and location of what it was made of, by the part that each plays."""
        return self.record["parents"]

    def parent(self, part: str) -> "Kept | None":
        """The parent, if it is an artifact that is still there; the root may have been moved."""
        described = self.parents.get(part)
        if described is None:
            return None
        path = self.root / described["kind"] / described["fingerprint"]
        return Kept.at(path) if (path / RECORD).is_file() else None

    @property
    def trainings(self) -> "tuple[Kept, ...]":
        """Those that led to a model, itself the last; without what is gone, and all before that."""
        policy = self.parent("policy")
        return (*(policy.trainings if policy else ()), self)

    @property
    def sft(self) -> "Kept | None":
        """The SFT model that it is, or that it was aligned from, in however many rounds."""
        return next((training for training in self.trainings if training.stage == "sft"), None)


def kept(root: Path, *stages: str) -> Iterator[Kept]:
    """All artifacts of the stages that are complete, by fingerprint; damaged ones are left out."""
    for stage in stages:
        for path in sorted((root / stage).glob("*")):
            if FINGERPRINT.fullmatch(path.name) and path.is_dir():
                try:
                    yield Kept.at(path)
                except ArtifactError as error:  # that one says nothing against the others
                    _log.warning("left out: %s", error)


def find(root: Path, identifier: str) -> Kept:
    """The artifact of a fingerprint or of the beginning of one.

    Raises:
        InputError: There is none, or there are several; names near or possible ones.
    """
    wanted = identifier.strip().lower()
    if not BEGINNING.fullmatch(wanted):
        raise InputError(
            f"{identifier!r} is no fingerprint, which has 12 hex digits; give all of them or at "
            "least the first 4"
        )
    paths = [path for path in root.glob("*/*") if FINGERPRINT.fullmatch(path.name)]
    stages = {path.name: path.parent.name for path in paths if path.is_dir()}
    found = sorted(path for path in paths if path.name in stages and path.name.startswith(wanted))
    if len(found) == 1:
        return Kept.at(found[0])
    if found:
        several = ", ".join(f"{path.name} ({path.parent.name})" for path in found[:8])
        raise InputError(f"{wanted} is the beginning of {len(found)} artifacts: {several}")
    if (source := _source(root, wanted)) is not None:
        raise InputError(
            f"{source['fingerprint']} is no artifact but what others were made of, "
            f"{source['location']}: it is there already, as it was given"
        )
    models = [name for name, stage in stages.items() if stage in MODELS]
    near = difflib.get_close_matches(wanted, sorted(stages), cutoff=0.5) or sorted(models)[:5]
    hint = ", ".join(f"{name} ({stages[name]})" for name in near)
    advice = f"Known ones: {hint}" if near else "It holds none; is it the right artifact_root?"
    raise InputError(f"no artifact in {root} begins with {wanted}. {advice}")


def _source(root: Path, wanted: str) -> dict[str, Any] | None:
    """The base or the rows of that fingerprint, as those that were made of it describe it."""
    stages = [folder.name for folder in root.glob("*") if folder.is_dir()]
    for artifact in kept(root, *stages):
        for parent in artifact.parents.values():
            if "revision" in parent and parent["fingerprint"].startswith(wanted):
                return parent
    return None


def evaluations_by_model(root: Path) -> dict[str, list[Kept]]:
    """Everything that was measured, by the fingerprint of the model, the newest last."""
    found: dict[str, list[Kept]] = {}
    for evaluation in sorted(kept(root, "evaluation"), key=lambda e: e.record["made"]["at"]):
        found.setdefault(evaluation.parents["model"]["fingerprint"], []).append(evaluation)
    return found
