"""The run on top of a study: started, linked to its artifacts, ended; and sent late if need be."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from wit.artifacts import Artifact
from wit.config import Study
from wit.errors import ArtifactError, StoreDownError
from wit.lineage.description import run_name, study_params
from wit.lineage.models import MODEL_ID
from wit.lineage.place import without_password
from wit.lineage.reader import find_runs, tag
from wit.lineage.runs import StudyRun, end_badly, ensure_finished_run, ensure_run
from wit.lineage.score_table import cell_tags
from wit.lineage.spool import (
    UNSENT,
    Packed,
    UnsentArtifact,
    UnsentStudy,
    keep,
    kept_artifacts,
    kept_studies,
    read_kept,
    study_file,
)
from wit.lineage.store import Store, open_store, translated

if TYPE_CHECKING:
    from mlflow.entities import Run

CELLS = "cells.json"
_log = logging.getLogger(__name__)


def start_study(study: Study, artifacts: Sequence[Artifact], uri: str) -> StudyRun:
    """The run on top of a study; the same one when the same study is run again.

    Where MLflow cannot be reached, the study is kept on the disk and runs; ``end_study``, the next
    run or ``sync`` sends it. What was kept before is sent first.

    Args:
        study: As its file says.
        artifacts: All that it will make or reuse, at least one. They, and the roles of the
            benchmarks, decide whether it is the same study still. Another one of the same name,
            say of another base, is another version: both stay, nothing is mixed, and ``table``
            shows the one that was started last.
        uri: Tracking URI.

    Raises:
        InputError: The store is not MLflow's, or the artifact root cannot be written.
    """
    roles = sorted(f"{b.name}={b.role}" for b in study.benchmarks)
    identity = [study.name, sorted({a.fingerprint for a in artifacts}), roles]
    version = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    root = artifacts[0].root
    unsent = UnsentStudy(
        uri=uri,
        study=study.model_dump(mode="json", exclude_none=True),
        packed=Packed.of(artifacts),
        version=version,
        started=datetime.now(UTC).isoformat(),
    )
    keep(study_file(root, version), unsent)
    run_id = url = None
    try:
        store = open_store(uri)
        _send_all(uri, root, lambda kept: kept.uri == uri and kept.status is not None)
        with translated(uri):
            run_id = _ensure_study_run(store, study, unsent, root)
        url = store.run_url(run_id)
    except StoreDownError as error:
        _log.warning("nothing is recorded in MLflow yet: %s", error)
    return StudyRun(study.name, run_id, version, url, root)


def _ensure_study_run(store: Store, study: Study, unsent: UnsentStudy, root: Path) -> str:
    run = _find_study_run(store, unsent.version)
    known = run.data.params if run else {}
    if run is None:
        tags = {"wit.stage": "study", "wit.study_name": study.name}
        run = store.create(f"study {study.name}", tags | {"wit.study_version": unsent.version})
        content = study.model_dump(mode="json", exclude_none=True)
        store.client.log_dict(run.info.run_id, content, "study.yaml")
    elif run.info.status != "RUNNING":
        store.client.update_run(run.info.run_id, status="RUNNING")
    params = {k: v for k, v in study_params(study).items() if k not in known}
    tags = {"mlflow.note.content": _note(store, study), **cell_tags(study)}
    tags["wit.artifact_root"] = str(root)
    if unsent.started > run.data.tags.get("wit.started", ""):
        tags["wit.started"] = unsent.started
    store.write(run.info.run_id, params=params, tags=tags)
    return run.info.run_id


def _find_study_run(store: Store, version: str) -> "Run | None":
    condition = f"tags.`wit.study_version` = '{version}' AND tags.`wit.stage` = 'study'"
    found = store.search(condition, limit=1)
    return found[0] if found else None


def _note(store: Store, study: Study) -> str:
    """Markdown that MLflow's UI shows with the study's run."""
    metric = next(b.name for b in study.benchmarks if b.role == "select")
    models = [
        f"[{stage.upper()} models]({store.charts_link(condition, metric)})"
        for stage in ("sft", "dpo")
        for condition in [
            f"tags.`wit.study.{study.name}` LIKE '%' AND tags.`wit.stage` = '{stage}'"
        ]
    ]
    return (
        f"Charts of {' and '.join(models)}. In the list of runs, sort by a score to see all. "
        f"{CELLS} below names the runs and models of every cell."
    )


def link(artifacts: Iterable[Artifact], study: StudyRun, uri: str) -> int:
    """Says that the study uses these artifacts; those that do not exist yet are passed over.

    One query when all of them are known members, else more for each new one. Where MLflow cannot
    be reached this is left to ``end_study`` or ``sync``.

    Returns:
        How many were not known to be members.

    Raises:
        InputError: The store is not MLflow's.
    """
    try:
        store = open_store(uri)
        if study.run_id is None:  # it was down, and is up again
            return _send_all(uri, study.root, lambda kept: _is_of(kept, study))
        with translated(uri):
            return _link(store, artifacts, study)
    except StoreDownError as error:
        _log.warning("artifacts are not linked in MLflow yet: %s", error)
        return 0


def _link(store: Store, artifacts: Iterable[Artifact], study: StudyRun) -> int:
    members = find_runs(store.uri, tag(study.membership, f"%{study.version}%"))
    known = {run.tags["wit.fingerprint"] for run in members if run.status == "FINISHED"}
    num_new = 0
    for artifact in {a.fingerprint: a for a in artifacts}.values():
        if artifact.fingerprint in known or not artifact.exists():
            continue
        try:
            ensure_finished_run(store, artifact, study)
            num_new += 1
        except ArtifactError as error:  # its own stage refuses it, and no other
            _log.warning("%s is not linked: %s", run_name(artifact), error)
    return num_new


def end_study(run: StudyRun, uri: str, *, is_failed: bool, files: Iterable[Path] = ()) -> None:
    """Ends the study's run and keeps ``files``, such as the report, with it; or has it sent later.

    Raises:
        InputError: The store is not MLflow's.
    """
    status = "FAILED" if is_failed else "FINISHED"
    file = study_file(run.root, run.version)
    if file.exists():  # else another process has just ended the same study
        unsent = read_kept(UnsentStudy, file)
        paths = tuple(str(path.resolve()) for path in files)
        keep(file, unsent.model_copy(update={"status": status, "files": paths}))
    try:
        _send_all(uri, run.root, lambda kept: kept.uri == uri and kept.status is not None)
    except StoreDownError as error:
        _log.warning("the study is not recorded in MLflow yet: %s", error)


def unsent_note(root: Path, uri: str) -> str | None:
    """What to tell people where MLflow does not know how something ended."""
    has_ended = (read_kept(UnsentStudy, file).status is not None for file in kept_studies(root))
    if not kept_artifacts(root) and not any(has_ended):
        return None
    return (
        f"MLflow at {without_password(uri)} could not be reached; what it did not take is kept in "
        f"{root / UNSENT}. 'wit lineage --sync' with the same --runtime or --set-runtime sends it, "
        "and so does the next run"
    )


def sync(uri: str, root: Path) -> int:
    """Sends all that MLflow did not take, wherever it was meant to go: a server may have moved.

    What has been sent is not sent again; a study that still runs, or was killed, stays kept.

    Args:
        uri: Tracking URI.
        root: Of the artifacts.

    Returns:
        Number of runs, of artifacts and of studies, that MLflow did not know.

    Raises:
        StoreDownError: It cannot be reached still; nothing is lost.
        InputError: The store is not MLflow's.
    """
    return _send_all(uri, root, lambda _: True)


def _is_of(kept: UnsentStudy | UnsentArtifact, study: StudyRun) -> bool:
    versions = (v for _, v in kept.studies) if isinstance(kept, UnsentArtifact) else (kept.version,)
    return study.version in versions


def _send_all(
    uri: str, root: Path, is_meant: Callable[[UnsentStudy | UnsentArtifact], bool]
) -> int:
    if not (root / UNSENT).is_dir():
        return 0
    num_new = 0
    store = open_store(uri)
    with FileLock(root / UNSENT / ".lock"), translated(uri):
        for file in kept_studies(root):
            study = read_kept(UnsentStudy, file)
            if is_meant(study):
                num_new += _send_study(store, study, root)
                if study.status is not None:
                    file.unlink()
        for file in kept_artifacts(root):
            single = read_kept(UnsentArtifact, file)
            if is_meant(single):
                _send_artifact(store, single)
                num_new += 1
                file.unlink()
    return num_new


def _send_study(store: Store, unsent: UnsentStudy, root: Path) -> int:
    """Returns how many runs MLflow did not know."""
    study = Study.model_validate(unsent.study)
    is_new = _find_study_run(store, unsent.version) is None
    run_id = _ensure_study_run(store, study, unsent, root)
    run = StudyRun(study.name, run_id, unsent.version, None, root)
    num_new = _link(store, unsent.packed.artifacts(), run) + is_new
    for file in map(Path, unsent.files):
        if file.is_file():
            store.client.log_artifact(run_id, str(file))
    if unsent.status is not None:
        store.client.log_dict(run_id, {"cells": _cells(store.uri, run)}, CELLS)
        store.client.set_terminated(run_id, unsent.status)
    return num_new


def _cells(uri: str, study: StudyRun) -> list[dict[str, str]]:
    """Every artifact of the study with its cell, its run and, of a model, its logged model."""
    runs = find_runs(uri, tag(study.membership, f"%{study.version}%"))
    cells = [
        {
            "cell": run.tags.get("wit.cell", ""),
            "stage": run.tags["wit.stage"],
            "model_stage": run.params.get("model_stage", ""),
            "fingerprint": run.tags["wit.fingerprint"],
            "run_id": run.run_id or "",
            "model_id": run.tags.get(MODEL_ID, ""),
            "status": run.status.lower(),
        }
        for run in runs
    ]
    return sorted(cells, key=lambda cell: tuple(cell.values()))


def _send_artifact(store: Store, unsent: UnsentArtifact) -> None:
    artifact = unsent.artifact
    for name, version in unsent.studies or (("", ""),):
        found = _find_study_run(store, version) if version else None
        study_id = found.info.run_id if found else None
        study = StudyRun(name, study_id, version, None, artifact.root) if version else None
        if artifact.exists():  # it was made after all
            ensure_finished_run(store, artifact, study)
            continue
        run = ensure_run(store, artifact, study)
        if run.info.status != "FINISHED":
            end_badly(store, run, unsent.status, unsent.error, unsent.points)
