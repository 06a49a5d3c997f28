"""Who needs what of an artifact root: studies, MLflow's registry, and what was made of a thing."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from wit.artifacts import read_record
from wit.config import Runtime
from wit.errors import ArtifactError, InputError
from wit.lineage import tracking_uri
from wit.lineage.addresses import shown
from wit.lineage.place import SQLITE, is_initialised, sqlite_file
from wit.lineage.spool import (
    SENT,
    UNSENT,
    UnsentArtifact,
    UnsentStudy,
    kept_artifacts,
    read_kept,
)
from wit.outcome import VERSION, kept_version

FORGOTTEN = ".forgotten"  # suffix of a study whose artifacts may go
Needs = dict[str, str]  # why something is needed, by fingerprint


class KnownStudy(NamedTuple):
    """A study that was started with an artifact root."""

    file: Path
    stamp: tuple[int, int]  # of the file, so that one knows it again
    name: str
    version: str
    uri: str  # of the store that has it; where that moved with the root, as it is now
    has_ended: bool  # else it runs, or was killed
    is_forgotten: bool
    fingerprints: frozenset[str]  # of all that it is made of

    @property
    def label(self) -> str:
        """For people."""
        return f"study {self.name} ({self.version})"


def studies_of(root: Path) -> list[KnownStudy]:
    """Every version of every study that was started with this root, as the root knows them.

    Raises:
        ArtifactError: One cannot be read, or is missing: what it needs is unknown.
    """
    known: dict[str, KnownStudy] = {}
    # The first of these that it has: started again, a study counts as it is now. And one that ends
    # meanwhile, or is forgotten, is found later in this order, and not missed.
    for suffix in (".json", SENT, FORGOTTEN):
        for file in sorted((root / UNSENT).glob(f"study-*{suffix}")):
            study = _read(file, root)
            if study is not None:
                known.setdefault(study.version, study)
    for folder in sorted((root / "studies").glob("*")):
        version = kept_version(folder)
        if version is not None and version not in known:
            raise ArtifactError(
                f"{folder}: the study of version {version} ran here, but {root / UNSENT} has no "
                f"file of it, so nobody knows what it needs. Run it again (what is complete is "
                f"reused), or delete {folder / VERSION} if it needs nothing"
            )
    return list(known.values())


def _read(file: Path, root: Path) -> KnownStudy | None:
    """None: it has another name by now."""
    try:
        stamp = stamp_of(file)
        kept = read_kept(UnsentStudy, file)
    except FileNotFoundError:
        return None
    except ArtifactError as error:
        if not file.exists():
            return None
        raise ArtifactError(
            f"{error}. Nobody knows what that study needs, so nothing can be deleted; put the file "
            "right, or delete it if the study needs nothing"
        ) from None
    database = sqlite_file(kept.uri)
    uri = kept.uri if database is None else f"{SQLITE}{kept.packed.moved(database, root)}"
    return KnownStudy(
        file=file,
        stamp=stamp,
        name=str(kept.study.get("name")),
        version=kept.version,
        uri=uri,
        has_ended=kept.status is not None,
        is_forgotten=file.suffix == FORGOTTEN,
        fingerprints=frozenset(kept.packed.things),
    )


def stamp_of(file: Path) -> tuple[int, int]:
    """What changes with a file that is written anew."""
    at = file.stat()
    return at.st_ino, at.st_mtime_ns


def chosen(studies: Iterable[KnownStudy], wanted: Sequence[str]) -> list[KnownStudy]:
    """The studies of these names or versions.

    Raises:
        InputError: There is no such study; names those that there are.
    """
    left = [study for study in studies if not study.is_forgotten]
    for word in wanted:
        if not any(word in (study.name, study.version) for study in left):
            names = ", ".join(sorted(f"{study.name} ({study.version})" for study in left))
            raise InputError(f"--forget {word}: no such study in this root; it has {names or None}")
    return [study for study in left if {study.name, study.version} & set(wanted)]


def needs_of_studies(root: Path, studies: Iterable[KnownStudy]) -> Needs:
    """What studies that are not forgotten are made of, and what MLflow has still to be told of.

    Raises:
        ArtifactError: What is kept for MLflow cannot be read.
    """
    needed: Needs = {}
    for file in kept_artifacts(root):
        unsent = read_kept(UnsentArtifact, file)
        needed |= dict.fromkeys(unsent.packed.things, "MLflow has still to be told of it")
    for study in studies:
        if not study.is_forgotten:
            needed |= dict.fromkeys(study.fingerprints, "a study refers to it")
    return needed


def needs_of_store(root: Path, runtime: Runtime, studies: Sequence[KnownStudy]) -> Needs:
    """What MLflow's registry holds, and studies of this root that only MLflow knows still.

    Raises:
        InputError: The store does not answer, or is not the one that a study was recorded in.
    """
    uri = tracking_uri(runtime)
    is_named = runtime.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    others = {shown(study.uri) for study in studies} - {shown(uri)}
    if others and not is_named:
        raise InputError(
            f"studies of this root were recorded at {', '.join(sorted(others))}: say where MLflow "
            "is with --set-runtime tracking_uri=URI"
        )
    database = sqlite_file(uri)
    if database is not None and not is_initialised(database):
        return {}
    # Here, for it imports mlflow.
    from wit.lineage.registry import registered_fingerprints

    registered = dict.fromkeys(registered_fingerprints(uri), "it is registered in MLflow")
    known = {study.version for study in studies}
    return _only_in_store(uri, root, known) | registered


def _only_in_store(uri: str, root: Path, known: set[str]) -> Needs:
    """Members of studies that ran with this root, and whose file was lost there."""
    from wit.lineage.reader import find_runs, tag

    needed: Needs = {}
    for run in find_runs(uri, tag("wit.stage", "study"), has_params=False):
        version = run.tags.get("wit.study_version", "")
        if version in known or run.tags.get("wit.artifact_root") != str(root):
            continue
        membership = f"wit.study.{run.tags.get('wit.study_name')}"
        for member in find_runs(uri, tag(membership, f"%{version}%"), has_params=False):
            needed[member.tags.get("wit.fingerprint", "")] = "a study in MLflow refers to it"
    return needed


def with_ancestors(needed: Needs, places: dict[str, Path], say: Callable[[Path], str]) -> Needs:
    """What is needed, and all that it was made of.

    Args:
        needed: Its reasons stay.
        places: Folders of all complete artifacts, by fingerprint.
        say: Why something is needed that the given artifact was made of.

    Raises:
        ArtifactError: The record of something that is needed cannot be read.
    """
    found, open_ = dict(needed), [places[name] for name in needed if name in places]
    while open_:
        child = open_.pop()
        for parent in _parents(child):
            if parent not in found:
                found[parent] = say(child)
                open_ += [places[parent]] if parent in places else []
    return found


def _parents(artifact: Path) -> Iterator[str]:
    for parent in read_record(artifact).get("parents", {}).values():
        yield parent["fingerprint"]
