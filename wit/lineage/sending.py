"""Sending what was kept: studies with their artifacts, and single runs, each file on its own."""

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from filelock import FileLock
from pydantic import ValidationError

from wit.artifacts import Artifact
from wit.config import Study
from wit.errors import ArtifactError, InputError, StoreDownError
from wit.lineage.cells import Named, alignment_of, cell_of_run, cell_tags, named_in
from wit.lineage.description import cell_of, run_name, study_params
from wit.lineage.headline import CELLS, RECOMMENDATION, note, result_of
from wit.lineage.models import MODEL_ID
from wit.lineage.reader import RunRow, find_runs, tag
from wit.lineage.runs import StudyRun, end_badly, ensure_finished_run, ensure_run
from wit.lineage.score_table import table
from wit.lineage.spool import (
    UNSENT,
    UnsentArtifact,
    UnsentStudy,
    kept_artifacts,
    kept_studies,
    read_kept,
    settle,
)
from wit.lineage.store import Store, open_store, translated
from wit.objectives import replicates

if TYPE_CHECKING:
    from mlflow.entities import Run

_log = logging.getLogger(__name__)


def send_all(
    uri: str, root: Path, is_meant: Callable[[UnsentStudy | UnsentArtifact], bool]
) -> tuple[int, list[str]]:
    """Sends what is meant, one file after the other; one that cannot be sent stays.

    Returns:
        How many runs MLflow did not know, and what is wrong with the files that stay.

    Raises:
        StoreDownError: MLflow cannot be reached.
    """
    if not (root / UNSENT).is_dir():
        return 0, []
    num_new, problems = 0, []
    store = open_store(uri)
    with FileLock(root / UNSENT / ".lock"):
        for file in [*kept_studies(root), *kept_artifacts(root)]:
            try:
                with translated(uri):
                    num_new += _send(store, file, root, is_meant)
            except StoreDownError:
                raise
            except InputError as error:
                if file.exists():  # else its stage has just run again
                    _log.warning("%s is not sent, and stays: %s", file.name, error)
                    problems.append(f"{file.name}: {error}")
    return num_new, problems


def _send(
    store: Store,
    file: Path,
    root: Path,
    is_meant: Callable[[UnsentStudy | UnsentArtifact], bool],
) -> int:
    content = file.read_bytes()
    if file in kept_artifacts(root):
        single = read_kept(UnsentArtifact, file)
        if not is_meant(single):
            return 0
        _send_artifact(store, single, root)
        settle(file, content)
        return 1
    study = read_kept(UnsentStudy, file)
    if not is_meant(study):
        return 0
    num_new = _send_study(store, study, root)
    if study.status is not None:
        settle(file, content)
    return num_new


def _send_study(store: Store, unsent: UnsentStudy, root: Path) -> int:
    """Returns how many runs MLflow did not know."""
    try:
        study = Study.model_validate(unsent.study)
    except ValidationError as error:
        raise ArtifactError(
            f"was kept by another version of wit ({error.error_count()} settings differ); send it "
            "with that version"
        ) from None
    artifacts = [one for one in unsent.packed.artifacts(root) if _is_begun(one, unsent)]
    if unsent.status == "FINISHED":
        _check_found(artifacts, root)
    is_new = find_study_run(store, unsent.version) is None
    run_id = ensure_study_run(store, study, unsent, root)
    run = StudyRun(study.name, run_id, unsent.version, None, root)
    num_new = link_to(store, artifacts, run) + is_new
    for file in (unsent.packed.moved(Path(name), root) for name in unsent.files):
        if file.is_file():
            store.client.log_artifact(run_id, str(file))
    if unsent.status is not None:
        cells = _cells(store.uri, run, named_in(study))
        store.client.log_dict(run_id, {"cells": cells, "replicates": replicates(study)}, CELLS)
        ended = _seconds(unsent.ended or datetime.now(UTC).isoformat())
        store.end(run_id, unsent.status, ended)
        _tell_result(store, study, run, ended)
    return num_new


def _is_begun(artifact: Artifact, unsent: UnsentStudy) -> bool:
    """Whether it is of no cell, or of one that is made: others may have made those of no search."""
    cell = cell_of(artifact)
    if unsent.begun is None or cell is None or cell.weights is None:
        return True
    left = {"rung": (), "sft": unsent.begun.untuned}.get(cell.model_stage, unsent.begun.unaligned)
    return str(cell) in unsent.begun.cells and str(cell) not in left


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _tell_result(store: Store, study: Study, run: StudyRun, ended: float) -> None:
    """Puts on the study's run what came of it, where a list of runs shows it."""
    assert run.run_id is not None
    scores = table(study.name, store.uri, version=run.version)
    try:
        result = result_of(scores, study)
    except Exception as error:  # it can be analysed later; that the study ended must be known
        _log.warning("MLflow is not told the result of %s: %s", study.name, error, exc_info=True)
        return
    store.write(
        run.run_id,
        metrics=[(name, value, 0, ended) for name, value in result.figures.items()],
        tags={
            "mlflow.note.content": note(store, study, result.recommendation),
            RECOMMENDATION: result.recommendation,
        },
    )


def _check_found(artifacts: Iterable[Artifact], root: Path) -> None:
    if not any(artifact.exists() for artifact in artifacts):
        raise ArtifactError(
            f"nothing of what it made is in {root}, so there is nothing to record; put it back, "
            "or delete this file"
        )


def _cells(uri: str, study: StudyRun, known: Named) -> list[dict[str, str]]:
    """Every artifact of the study with its cell, its run and, of a model, its logged model.

    Of a DPO model, and of what was measured on it, also how it was aligned.
    """
    runs = find_runs(uri, tag(study.membership, f"%{study.version}%"))

    def aligned_as(run: RunRow) -> str:
        found = alignment_of(run, known.alignments)
        return found.name if found else ""

    cells = [
        {
            "cell": cell_of_run(run, known),
            "stage": run.tags["wit.stage"],
            "model_stage": run.params.get("model_stage", ""),
            "alignment": aligned_as(run),
            "objective": run.params.get("objective", ""),
            "beta": run.params.get("beta", ""),
            "fingerprint": run.tags["wit.fingerprint"],
            "run_id": run.run_id or "",
            "model_id": run.tags.get(MODEL_ID, ""),
            "status": run.status.lower(),
        }
        for run in runs
    ]
    return sorted(cells, key=lambda cell: tuple(cell.values()))


def _send_artifact(store: Store, unsent: UnsentArtifact, root: Path) -> None:
    [artifact] = unsent.packed.artifacts(root)
    if unsent.status == "FINISHED":
        _check_found([artifact], root)
    for name, version in unsent.studies or (("", ""),):
        found = find_study_run(store, version) if version else None
        study_id = found.info.run_id if found else None
        study = StudyRun(name, study_id, version, None, artifact.root) if version else None
        if artifact.exists():  # it was made after all
            ensure_finished_run(store, artifact, study)
            continue
        run = ensure_run(store, artifact, study, unsent.began)
        end_badly(store, run, unsent.status, unsent.error, unsent.points, unsent.ended)


def ensure_study_run(store: Store, study: Study, unsent: UnsentStudy, root: Path) -> str:
    """The id of the run on top of the study, found or new; it is RUNNING."""
    run = find_study_run(store, unsent.version)
    known = run.data.params if run else {}
    if run is None:
        tags = {"wit.stage": "study", "wit.study_name": study.name}
        tags["wit.study_version"] = unsent.version
        run = store.create(f"study {study.name}", tags, _seconds(unsent.started))
        # MLflow would sort the keys, and the first alignment is the main one.
        content = yaml.safe_dump(study.stated(), sort_keys=False)
        store.client.log_text(run.info.run_id, content, "study.yaml")
    elif run.info.status != "RUNNING":
        store.client.update_run(run.info.run_id, status="RUNNING")
        if RECOMMENDATION in run.data.tags:  # its scores may change
            store.client.delete_tag(run.info.run_id, RECOMMENDATION)
    params = {k: v for k, v in study_params(study).items() if k not in known}
    tags = {"mlflow.note.content": note(store, study, None), **cell_tags(study, unsent.begun)}
    tags["wit.artifact_root"] = str(root)
    if unsent.started > run.data.tags.get("wit.started", ""):
        tags["wit.started"] = unsent.started
    store.write(run.info.run_id, params=params, tags=tags)
    return run.info.run_id


def find_study_run(store: Store, version: str) -> "Run | None":
    """The run on top of a version of a study."""
    condition = f"tags.`wit.study_version` = '{version}' AND tags.`wit.stage` = 'study'"
    found = store.search(condition, limit=1)
    return found[0] if found else None


def link_to(store: Store, artifacts: Iterable[Artifact], study: StudyRun) -> int:
    """Has those that exist known as the study's; returns how many were not."""
    members = find_runs(store.uri, tag(study.membership, f"%{study.version}%"))
    known = {run.tags["wit.fingerprint"]: run for run in members if run.status == "FINISHED"}
    # One that was made before MLflow knew the study has no parent yet.
    settled = {name for name, run in known.items() if "mlflow.parentRunId" in run.tags}
    num_new = 0
    for artifact in {a.fingerprint: a for a in artifacts}.values():
        if artifact.fingerprint in settled or not artifact.exists():
            continue
        try:
            ensure_finished_run(store, artifact, study)
            num_new += artifact.fingerprint not in known
        except ArtifactError as error:  # its own stage refuses it, and no other
            _log.warning("%s is not linked: %s", run_name(artifact), error)
    return num_new
