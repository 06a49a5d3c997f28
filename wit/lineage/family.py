"""The family of an artifact: what it was made of, and what came of it, in few queries."""

import difflib
import re
from collections import defaultdict

from pydantic import BaseModel, ConfigDict

from wit.config import Runtime
from wit.errors import InputError
from wit.lineage.addresses import shown
from wit.lineage.place import tracking_uri
from wit.lineage.reader import Condition, RunRow, find_runs, tag, uncollected
from wit.lineage.terms import PRINCIPAL


class Node(BaseModel):
    """A thing in the family of an artifact: an artifact, or a source that we did not make."""

    model_config = ConfigDict(frozen=True)

    kind: str  # the stage, or what kind of source
    name: str
    fingerprint: str
    run_id: str | None  # None for a source
    status: str
    location: str
    model_sha256: str | None = None
    cell: str | None = None
    studies: tuple[str, ...] = ()
    scores: dict[str, float] = {}  # of an evaluation
    error: str | None = None
    parents: dict[str, "Node"] = {}  # by the part that each plays
    children: tuple["Node", ...] = ()


def lineage(identifier: str, uri: str | None = None) -> Node:
    """The family of an artifact: all that it was made of, and all that came of it.

    One query for each generation upward, one for all descendants.

    Args:
        identifier: A fingerprint of an artifact or a source, the beginning of one, or an MLflow
            run id.
        uri: Tracking URI; unset: that of the environment, else of ``artifacts/`` here.

    Raises:
        InputError: It is unknown, or the beginning of several; names near or possible ones.
    """
    with uncollected():
        return _lineage(identifier, uri or tracking_uri(Runtime()))


def _lineage(identifier: str, uri: str) -> Node:
    wanted = identifier.strip().lower()
    run = _resolve(uri, wanted)
    above = [] if run is None else _runs_above(uri, run)
    below = find_runs(
        uri, tag("wit.ancestors", f"%{wanted if run is None else _of(run)}%"), has_params=False
    )
    fingerprint = _source_among(below, identifier, uri) if run is None else _of(run)
    below = [r for r in below if fingerprint in r.tags["wit.ancestors"].split()]
    by_id = {str(r.run_id): r for r in above}
    subject = _source(fingerprint, below) if run is None else _node(run, _parents(run, by_id))
    return subject.model_copy(update={"children": _children(fingerprint, below)})


def _resolve(uri: str, wanted: str) -> RunRow | None:
    """The run of a run id or of a (beginning of a) fingerprint; None: perhaps a source."""
    if not re.fullmatch(r"[0-9a-f]{4,64}", wanted):
        raise InputError(
            f"{wanted!r} is neither a fingerprint (12 hex digits, or at least the first 4 of "
            "them) nor an MLflow run id (32 hex digits)"
        )
    if len(wanted) == 32:
        found = find_runs(uri, Condition("run_id", "=", wanted))
    else:
        found = find_runs(uri, tag("wit.fingerprint", f"{wanted}%"))
    if found and "wit.fingerprint" not in found[0].tags:
        raise InputError(f"{wanted} is the run of a study, not of an artifact; try 'wit compare'")
    fingerprints = {_of(run) for run in found}
    if len(fingerprints) > 1:
        several = ", ".join(f"{_of(run)} ({run.name})" for run in found[:8])
        raise InputError(f"{wanted} is the beginning of {len(fingerprints)} artifacts: {several}")
    return found[0] if found else None


def _of(run: RunRow) -> str:
    return run.tags["wit.fingerprint"]


def _source_among(below: list[RunRow], identifier: str, uri: str) -> str:
    """The fingerprint of the source that begins so and that these were made of."""
    wanted = identifier.strip().lower()
    ancestors = {name for run in below for name in run.tags["wit.ancestors"].split()}
    found = sorted(name for name in ancestors if name.startswith(wanted))
    if not found:
        raise InputError(_no_such_artifact(uri, identifier))
    if len(found) > 1:
        raise InputError(f"{wanted} is the beginning of {len(found)} sources: {', '.join(found)}")
    return found[0]


def _no_such_artifact(uri: str, identifier: str) -> str:
    names = {
        run.tags["wit.fingerprint"]: run.name for run in find_runs(uri, tag("wit.fingerprint", "%"))
    }
    near = difflib.get_close_matches(identifier.strip().lower(), names, cutoff=0.5)
    hint = "; ".join(f"{fingerprint} ({names[fingerprint]})" for fingerprint in near)
    advice = f"Did you mean {hint}?" if near else "See 'wit compare STUDY --json' for known ones."
    return f"{identifier} is no artifact, source or run in MLflow at {shown(uri)}. {advice}"


def _parent_run_ids(run: RunRow) -> dict[str, str]:
    return _by_part(run, "wit.parent_run.")


def _by_part(run: RunRow, prefix: str) -> dict[str, str]:
    found = {t[len(prefix) :]: value for t, value in run.tags.items() if t.startswith(prefix)}
    return found if len(found) < 2 else dict(sorted(found.items()))


def _runs_above(uri: str, run: RunRow) -> list[RunRow]:
    """The runs of all ancestors, one query per generation."""
    found: dict[str, RunRow] = {}
    generation = [run]
    while generation:
        ids = {i for r in generation for i in _parent_run_ids(r).values()} - found.keys()
        asked = Condition("run_id", "IN", tuple(sorted(ids)))
        generation = find_runs(uri, asked) if ids else []
        found |= {str(r.run_id): r for r in generation}
    return list(found.values())


def _parents(run: RunRow, by_id: dict[str, RunRow]) -> dict[str, Node]:
    """Parents by part, each with its own; a source, and a parent without a run, end the walk."""
    ids = _parent_run_ids(run)
    sources = _by_part(run, "wit.source.")
    parents = {}
    for part, fingerprint in _by_part(run, "wit.parent.").items():
        parent = by_id.get(ids.get(part, ""))
        if parent is not None:
            parents[part] = _node(parent, _parents(parent, by_id))
            continue
        kind, _, location = sources.get(part, f"{part} ").partition(" ")
        parents[part] = _leaf(kind, fingerprint, location, part in sources)
    return parents


def _leaf(kind: str, fingerprint: str, location: str, is_source: bool) -> Node:
    return Node(
        kind=kind,
        name=f"{kind} {fingerprint[:6]}",
        fingerprint=fingerprint,
        run_id=None,
        status="source" if is_source else "without a run",
        location=location,
    )


def _source(fingerprint: str, below: list[RunRow]) -> Node:
    """The source of that fingerprint, as those that were made of it describe it."""
    for run in below:
        sources = _by_part(run, "wit.source.")
        for part, parent in _by_part(run, "wit.parent.").items():
            if parent == fingerprint:
                kind, _, location = sources.get(part, f"{part} ").partition(" ")
                return _leaf(kind, fingerprint, location, part in sources)
    return _leaf("source", fingerprint, "", is_source=True)


def _children(fingerprint: str, below: list[RunRow]) -> tuple[Node, ...]:
    """Descendants as a tree: each hangs below the parent that it continues, if that is here."""
    here = {run.tags["wit.fingerprint"] for run in below} | {fingerprint}
    hanging: defaultdict[str, list[RunRow]] = defaultdict(list)
    for run in below:
        principal = run.tags.get(f"wit.parent.{PRINCIPAL.get(run.tags['wit.stage'])}", "")
        if principal not in here:
            parents = _by_part(run, "wit.parent.").values()
            principal = next((parent for parent in parents if parent in here), fingerprint)
        hanging[principal].append(run)

    def grow(parent: str) -> tuple[Node, ...]:
        nodes = [
            _node(run, {}, children=grow(run.tags["wit.fingerprint"])) for run in hanging[parent]
        ]
        return tuple(sorted(nodes, key=lambda node: (node.kind, node.name)))

    return grow(fingerprint)


def _node(run: RunRow, parents: dict[str, Node], children: tuple[Node, ...] = ()) -> Node:
    tags = run.tags
    is_evaluation = tags["wit.stage"] == "evaluation"
    return Node(
        kind=tags["wit.stage"],
        name=run.name,
        fingerprint=tags["wit.fingerprint"],
        run_id=run.run_id,
        status=run.status.lower(),
        location=tags["wit.path"],
        model_sha256=tags.get("wit.model_sha256"),
        cell=tags.get("wit.cell"),
        studies=tuple(_by_part(run, "wit.study.")),
        scores={k: v for k, v in run.metrics.items() if k != "seconds"} if is_evaluation else {},
        error=tags.get("wit.error"),
        parents=parents,
        children=children,
    )
