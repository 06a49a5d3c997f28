"""What MLflow did not take is kept beside the artifacts, in ``<root>/unsent``, until it does.

* A study's file is written when it starts and goes when MLflow knows how it ended. It holds the
  study and all its artifacts, so that their runs can be written from their directories.
* An artifact's file holds what its directory cannot: that it failed, why, and its last metrics.

Where it was to be sent is kept without password: whoever sends it knows that of the runtime or the
environment, as ``tracking_uri`` gives it.

Every file is written aside and renamed: it is whole or absent. JSON, for a person to read. That
of a study stays as ``.sent``, for another process may end the same study later.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from filelock import FileLock
from pydantic import AfterValidator, AllowInfNan, PlainSerializer, ValidationError

from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.artifacts import Artifact, Source
from wit.errors import ArtifactError
from wit.evaluation_recipes import EVALUATIONS, ItemsRecipe, OverlapRecipe
from wit.files import replace_durably
from wit.lineage.addresses import shown
from wit.lineage.cells import Begun
from wit.on_policy.recipes import PairsRecipe
from wit.recipes import (
    InstructionsRecipe,
    PreferencesRecipe,
    Recipe,
    RungRecipe,
    SFTRecipe,
    TokenizerRecipe,
)
from wit.settings import Settings

UNSENT = "unsent"
SENT = ".sent"  # suffix of a study that MLflow knows
RECIPES: tuple[type[Recipe], ...] = (
    TokenizerRecipe,
    InstructionsRecipe,
    PreferencesRecipe,
    ItemsRecipe,
    OverlapRecipe,
    SFTRecipe,
    RungRecipe,
    PairsRecipe,
    ReferenceRecipe,
    DPORecipe,
    *EVALUATIONS,
)
Status = Literal["FINISHED", "FAILED", "KILLED"]
_BY_STAGE = {recipe.stage: recipe for recipe in RECIPES}


# The loss of a failed training may be NaN, which our settings refuse elsewhere.
NumberPoint = tuple[str, Annotated[float, AllowInfNan(True)], int, float]


# Of a store, for files: without user and password.
Address = Annotated[str, AfterValidator(shown), PlainSerializer(shown)]


class Packed(Settings):
    """Artifacts with all that they were made of, each once."""

    wanted: tuple[str, ...]  # fingerprints
    things: dict[str, dict[str, Any]]  # by fingerprint

    @classmethod
    def of(cls, artifacts: Iterable[Artifact]) -> "Packed":
        """Packs them."""
        wanted = tuple(artifacts)
        things: dict[str, dict[str, Any]] = {}

        def add(thing: Artifact | Source) -> None:
            if thing.fingerprint in things:
                return
            if isinstance(thing, Source):
                things[thing.fingerprint] = thing.model_dump(mode="json", exclude={"stamps"})
                return
            things[thing.fingerprint] = {
                "stage": thing.recipe.stage,
                "root": str(thing.root),
                "recipe": thing.recipe.model_dump(mode="json"),
                "parents": {part: parent.fingerprint for part, parent in thing.parents.items()},
            }
            for parent in thing.parents.values():
                add(parent)

        for artifact in wanted:
            add(artifact)
        return cls(wanted=tuple(artifact.fingerprint for artifact in wanted), things=things)

    def moved(self, file: Path, root: Path) -> Path:
        """Where a file of the artifact root is, which may have moved since to ``root``."""
        old = Path(self.things[self.wanted[0]]["root"]).resolve()
        return root / file.relative_to(old) if file.is_relative_to(old) else file

    def artifacts(self, root: Path | None = None) -> list[Artifact]:
        """Unpacks them; below ``root`` where theirs has moved there.

        Raises:
            ArtifactError: Another version of wit packed them.
        """
        old = self.things.get(self.wanted[0], {}).get("root")
        known: dict[str, Artifact | Source] = {}

        def get(fingerprint: str) -> Artifact | Source:
            if fingerprint in known:
                return known[fingerprint]
            packed = self.things[fingerprint]
            if "stage" not in packed:
                thing: Artifact | Source = Source.model_validate(packed)
            else:
                recipe = _BY_STAGE[packed["stage"]].model_validate(packed["recipe"])
                parents = {part: get(parent) for part, parent in packed["parents"].items()}
                place = root if root and packed["root"] == old else Path(packed["root"])
                thing = Artifact(root=place, recipe=recipe, parents=parents)
            if thing.fingerprint != fingerprint:
                raise KeyError(fingerprint)
            known[fingerprint] = thing
            return thing

        try:
            found = [get(fingerprint) for fingerprint in self.wanted]
        except (KeyError, ValidationError) as error:
            raise ArtifactError(
                f"what MLflow did not take was kept by another version of wit ({error}); send it "
                "with that version"
            ) from None
        return [thing for thing in found if isinstance(thing, Artifact)]


class UnsentArtifact(Settings):
    """A run that ended while MLflow could not be reached."""

    uri: Address  # where it was to be sent
    packed: Packed  # one artifact
    studies: tuple[tuple[str, str], ...]  # name and version of those that want it
    status: Status
    error: str | None = None
    points: tuple[NumberPoint, ...] = ()  # metrics that were not sent
    began: float | None = None  # seconds since 1970; None: an earlier version of wit kept it
    ended: float | None = None

    @property
    def artifact(self) -> Artifact:
        """What was made, or was to be made."""
        return self.packed.artifacts()[0]


class UnsentStudy(Settings):
    """A study that MLflow does not know, or does not know the end of."""

    uri: Address
    study: dict[str, Any]
    packed: Packed
    version: str
    started: str  # ISO 8601, UTC
    status: Literal["FINISHED", "FAILED"] | None = None  # None: it runs, or was killed
    ended: str | None = None  # as ``started``; None also: an earlier version of wit kept it
    files: tuple[str, ...] = ()  # to keep with the run
    begun: Begun | None = None  # of a search; None: all cells


Kept = TypeVar("Kept", UnsentArtifact, UnsentStudy)


def is_meant_for(kept: UnsentArtifact | UnsentStudy, uri: str) -> bool:
    """Whether it was to be sent to this store, whoever logs in there."""
    return shown(kept.uri) == shown(uri)


def artifact_file(artifact: Artifact) -> Path:
    """Where the run of an artifact is kept."""
    return artifact.root / UNSENT / f"{artifact.stage}-{artifact.fingerprint}.json"


def study_file(root: Path, version: str) -> Path:
    """Where a study is kept."""
    return root / UNSENT / f"study-{version}.json"


def keep(file: Path, unsent: UnsentArtifact | UnsentStudy) -> None:
    """Writes it, whole or not at all.

    Raises:
        ArtifactError: The artifact root cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with changing(file.parent):
            replace_durably(file, _json(unsent.model_dump()))
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be written ({error.strerror or error})") from None


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()


def settle(file: Path, content: bytes) -> None:
    """Takes away what was sent, unless another process has written it anew since it was read."""
    with changing(file.parent):
        if not file.is_file() or file.read_bytes() != content:
            return
        if file in kept_studies(file.parent.parent):
            file.replace(file.with_suffix(SENT))
        else:
            file.unlink()


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Held for milliseconds, unlike the lock of who sends, so that a study starts at once."""
    with FileLock(folder / ".files.lock"):
        yield


def read_kept(kind: type[Kept], file: Path) -> Kept:
    """What ``keep`` wrote.

    Raises:
        ArtifactError: It was changed.
    """
    try:
        return kind.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{file}: cannot be read ({error}). It tells MLflow of a run; without it that run is "
            "not recorded, or recorded when its study runs again"
        ) from None


def read_study(root: Path, version: str) -> UnsentStudy:
    """A study as it was kept last, be it sent or not.

    Raises:
        ArtifactError: It was changed, or was never kept.
    """
    file = study_file(root, version)
    try:
        return read_kept(UnsentStudy, file)
    except ArtifactError:
        if not file.with_suffix(SENT).exists():
            raise
        return read_kept(UnsentStudy, file.with_suffix(SENT))


def kept_artifacts(root: Path) -> list[Path]:
    """Files of single runs."""
    return [file for file in _kept(root) if not file.name.startswith("study-")]


def kept_studies(root: Path) -> list[Path]:
    """Files of studies."""
    return [file for file in _kept(root) if file.name.startswith("study-")]


def _kept(root: Path) -> list[Path]:
    return sorted((root / UNSENT).glob("[!.]*.json"))
