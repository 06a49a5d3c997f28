"""What nobody needs in an artifact root, and why the rest stays."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from wit.artifacts import CHECKPOINTS, COMPLETE, TOGETHER
from wit.config import Runtime
from wit.errors import ArtifactError, InputError
from wit.housekeeping.contents import OF_STUDIES, Thing, things_in
from wit.housekeeping.references import (
    KnownStudy,
    Needs,
    chosen,
    needs_of_store,
    needs_of_studies,
    studies_of,
    with_ancestors,
)
from wit.records import MODELS

SECONDS_PER_DAY = 86400.0
BUSY = "it is being made or read"


class Garbage(NamedTuple):
    """Something that nobody needs."""

    thing: Thing
    why: str


class KeptThings(NamedTuple):
    """Artifacts, whole or begun, that stay for one reason."""

    why: str
    num: int
    num_bytes: int


class Findings(NamedTuple):
    """What an artifact root holds."""

    root: Path
    garbage: tuple[Garbage, ...]
    kept: tuple[KeptThings, ...]
    forgotten: tuple[KnownStudy, ...]  # studies that shall be

    @property
    def num_bytes(self) -> int:
        """That deleting the garbage frees."""
        return sum(item.thing.num_bytes for item in self.garbage)


def look(root: Path, runtime: Runtime, *, keep_days: float, forget: Sequence[str] = ()) -> Findings:
    """What nobody needs. Changes nothing.

    Args:
        root: Of the artifacts.
        runtime: Says where MLflow is, whose registered models stay. Where it does not answer, no
            model goes, for nobody knows whether it is registered.
        keep_days: What was written in the last so many days stays, needed or not.
        forget: Names or versions of studies that are looked at as if they had never run.

    Raises:
        ArtifactError: It cannot be known what is needed; says why.
        InputError: This is no artifact root, or there is no such study.
    """
    studies = studies_of(root)
    things = list(things_in(root))
    if not studies and not any(thing.kind == "artifact" for thing in things):
        raise InputError(
            f"{root}: holds no artifacts of wit, so nothing is deleted there; name the root by "
            "--runtime or --set-runtime artifact_root=DIR"
        )
    since = time.time() - keep_days * SECONDS_PER_DAY
    to_forget = chosen(studies, forget)
    for study in to_forget:
        _check_is_over(study, things, since, keep_days)
    left = [study for study in studies if study not in to_forget]
    of_studies = needs_of_studies(root, left)
    young = f"it was written in the last {keep_days:g} days"
    needed = {t.owner: young for t in things if t.kind == "artifact" and t.touched > since}
    needed |= _busy(things) | of_studies
    artifacts = [thing for thing in things if thing.kind == "artifact"]
    if any(thing.owner not in needed for thing in artifacts):
        _check_nothing_unknown_is_made(things, of_studies)
        needed |= _known_to_store(root, runtime, studies, artifacts, needed)
    places = {thing.owner: thing.path for thing in artifacts}
    needed = with_ancestors(needed, places, lambda child: f"{child.parent.name} needs it")
    running = {study.name for study in left if not study.has_ended and not study.is_forgotten}
    garbage, kept = [], dict[str, list[Thing]]()
    for thing in things:
        why_kept = _why_kept(thing, needed, running, since, young)
        if why_kept is None:
            garbage.append(Garbage(thing, _why_garbage(thing, needed)))
        elif thing.kind in ("artifact", "partial"):
            kept.setdefault(why_kept, []).append(thing)
    counts = (KeptThings(k, len(v), sum(t.num_bytes for t in v)) for k, v in kept.items())
    return Findings(root, tuple(garbage), tuple(counts), tuple(to_forget))


def _check_is_over(study: KnownStudy, things: list[Thing], since: float, keep_days: float) -> None:
    """Refuses to forget a study that may run still.

    Raises:
        InputError: It has not ended, and wrote something lately, or makes something now.
    """
    if study.has_ended:
        return
    traces = [t for t in things if t.owner in study.fingerprints or t.owner == study.name]
    newest = max([study.file.stat().st_mtime, *(t.touched for t in traces if t.kind != "lock")])
    if newest > since or any(map(_is_locked, traces)):
        raise InputError(
            f"--forget: {study.label} has not come to its end, and wrote something in the last "
            f"{keep_days:g} days: it may be running. Run it to its end, or, if it does not run, "
            "give --keep-days 0"
        )


def _check_nothing_unknown_is_made(things: list[Thing], of_studies: Needs) -> None:
    """Refuses while something is made outside of all studies: nobody knows what that reads.

    Raises:
        ArtifactError: Names it.
    """
    for thing in things:
        if thing.owner not in of_studies and _is_locked(thing):
            raise ArtifactError(
                f"{thing.path.parent / thing.owner}: is being made, and no study of this root "
                "refers to it, so nobody knows what it needs. Wait for its end"
            )


def _busy(things: list[Thing]) -> Needs:
    return {thing.owner: BUSY for thing in things if _is_locked(thing)}


def _is_locked(thing: Thing) -> bool:
    if thing.kind in OF_STUDIES or not thing.lock.exists():
        return False
    with locked(thing) as is_ours:
        return not is_ours


@contextmanager
def locked(thing: Thing) -> Iterator[bool]:
    """Holds the lock of who makes a thing; says False if it cannot be had at once."""
    lock = FileLock(thing.lock)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _known_to_store(
    root: Path,
    runtime: Runtime,
    studies: list[KnownStudy],
    artifacts: list[Thing],
    needed: Needs,
) -> Needs:
    """What MLflow needs of what nobody else does; if it does not answer, every model."""
    try:
        found = needs_of_store(root, runtime, studies)
    except InputError as error:
        why = f"nobody knows whether it is registered: {error}"
        found = {t.owner: why for t in artifacts if t.path.parent.name in MODELS}
    return {name: why for name, why in found.items() if name not in needed}


def _why_kept(
    thing: Thing, needed: Needs, running: set[str], since: float, young: str
) -> str | None:
    """Why something stays; None: it goes."""
    if thing.kind == "remains":
        return None
    if thing.kind == "artifact":
        return needed.get(thing.owner)
    if _is_locked(thing):
        return BUSY
    if thing.touched > since:
        return young
    if thing.kind == "outline":
        return needed.get(thing.owner)
    if thing.kind in OF_STUDIES:
        return "its study has not ended" if thing.owner in running else None
    if thing.kind == "lock":
        return "its artifact is there" if has_artifact(thing) else None
    places = (CHECKPOINTS, f"{TOGETHER}/*/{CHECKPOINTS}")
    is_resumable = any(any(thing.path.glob(f"{place}/*/{COMPLETE}")) for place in places)
    return "a study can go on from it" if thing.owner in needed and is_resumable else None


def has_artifact(thing: Thing) -> bool:
    """Whether the artifact of a lock is there, whole or begun."""
    names = (thing.owner, f"{thing.owner}.partial")
    return any(os.path.lexists(thing.path.with_name(name)) for name in names)


def _why_garbage(thing: Thing, needed: Needs) -> str:
    match thing.kind:
        case "artifact" | "outline":
            return "no study refers to it"
        case "partial" if thing.owner in needed:
            return "an attempt left it, with nothing to go on from"
        case "partial":
            return "an attempt left it, and no study refers to it"
        case "lock":
            return "a lock without an artifact"
        case "log":
            return f"log of study {thing.owner}, which has ended"
        case "aside":
            return "a process that was killed left it"
        case "remains":
            return "an earlier 'wit gc' had begun to delete it"
