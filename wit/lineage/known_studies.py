"""The versions of a study that a store has."""

import difflib
import re
from typing import NamedTuple

from wit.config import Runtime
from wit.lineage.addresses import shown
from wit.lineage.cells import cells_of
from wit.lineage.place import tracking_uri
from wit.lineage.reader import RunRow, find_runs, tag

NAME = re.compile(r"^[A-Za-z0-9_.-]+$")


class StudyVersion(NamedTuple):
    """A study as its file stood at some time; another base or grid makes another version."""

    version: str
    started: str  # last time; ISO 8601, UTC
    user: str
    status: str
    artifact_root: str
    num_cells: int
    run_id: str
    run_url: str | None = None  # in MLflow's UI, where a server shows one


def study_versions(study_name: str, uri: str | None = None) -> list[StudyVersion]:
    """All versions of a study, that which was started last first; ``table`` shows one of them.

    People may give one name to different studies in a shared store: each has its version, to
    which its artifacts belong, so nothing is mixed.

    Raises:
        InputError: The store is not there, or cannot be reached.
    """
    return [
        StudyVersion(
            run.tags["wit.study_version"],
            run.tags.get("wit.started", ""),
            run.tags.get("mlflow.user", ""),
            run.status.lower(),
            run.tags.get("wit.artifact_root", ""),
            len(cells_of(run)),
            str(run.run_id),
            run.url,
        )
        for run in study_runs(study_name, uri or tracking_uri(Runtime()))
    ]


def study_runs(study_name: str, uri: str) -> list[RunRow]:
    """The runs on top of all versions of a study, that which was started last first."""
    if not NAME.match(study_name):
        return []
    found = find_runs(uri, tag("wit.stage", "study"), tag("wit.study_name", study_name))
    return sorted(found, key=lambda run: run.tags.get("wit.started", ""), reverse=True)


def no_such_study(study_name: str, uri: str) -> str:
    """What is said where there is none, with names like it."""
    known = sorted(
        {run.tags["wit.study_name"] for run in find_runs(uri, tag("wit.stage", "study"))}
    )
    near = difflib.get_close_matches(study_name, known, cutoff=0.4) or known[:5]
    hint = f"Did you mean {', '.join(near)}?" if near else "It holds no study yet; 'wit run' one."
    return f"study {study_name!r} is not in MLflow at {shown(uri)}. {hint}"
