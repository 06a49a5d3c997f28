"""Lineage: one MLflow run per artifact, which names its parents and the studies it serves.

* ``tracked`` surrounds the making of an artifact. A stage that was killed and resumes logs into
  the same run; a failure of MLflow is a warning, never the end of a training.
* ``link`` says that a study uses artifacts that exist already: a tag, not a second run. What a
  store does not know (it is new, or it was down) is written from the artifact's own directory.
* ``start_study`` is the run on top. It fixes which artifacts belong to the study as it is now.
* ``table`` and ``lineage`` answer questions: every score of a study; all that led to an artifact
  and all that came of it.

The artifact directory is the truth, MLflow is the index over it.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from wit._lineage_description import Point, points, run_name, study_params
from wit._lineage_family import Node, lineage
from wit._lineage_runs import StudyRun, complete, ensure_finished_run, ensure_run
from wit._lineage_store import Store, open_store, prepare, tracking_uri, translated
from wit._lineage_table import table
from wit.artifacts import Artifact
from wit.config import Study
from wit.errors import ArtifactError, InputError, WitError

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = [
    "Node",
    "StudyRun",
    "Tracker",
    "end_study",
    "lineage",
    "link",
    "open_store",
    "prepare",
    "start_study",
    "table",
    "tracked",
    "tracking_uri",
]

FLUSH_SECONDS = 2.0  # between writes of metrics: a write to SQLite takes 20 ms of the training
_log = logging.getLogger(__name__)


class Tracker:
    """The run of an artifact that is being made; what a training logs to."""

    def __init__(self, artifact: Artifact, study: StudyRun | None, uri: str) -> None:
        self.run_id: str | None = None
        self._run: Run | None = None  # as it was when it was opened
        self._artifact, self._study, self._uri = artifact, study, uri
        self._waiting: list[Point] = []
        self._logged: set[tuple[str, int]] = set()
        self._flushed_at = time.monotonic()
        self._is_down = False

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Shows the metrics in MLflow, within seconds; a step that is there already is not new."""
        fresh = [p for p in points(metrics, step, time.time()) if (p[0], p[2]) not in self._logged]
        self._waiting += fresh
        self._logged.update((name, step) for name, *_ in fresh)
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self._attempt(self._flush)

    def _begin(self, store: Store) -> None:
        run = ensure_run(store, self._artifact, self._study)
        self._run, self.run_id = run, run.info.run_id
        is_resumed = self._artifact.scratch.exists()  # else it starts anew, and so does its history
        if run.data.metrics and is_resumed:
            self._logged = store.logged_points(run)
        if run.info.status != "RUNNING":
            store.client.update_run(self.run_id, status="RUNNING")

    def _flush(self, store: Store) -> None:
        if self.run_id is not None:
            store.write(self.run_id, metrics=self._waiting)
        self._waiting, self._flushed_at = [], time.monotonic()

    def _fail(self, store: Store, error: BaseException) -> None:
        if self.run_id is None:
            return
        self._flush(store)
        message = str(error) if isinstance(error, WitError) else f"{type(error).__name__}: {error}"
        store.write(self.run_id, tags={"wit.error": message})
        is_ours = isinstance(error, Exception)  # else somebody pressed Ctrl-C
        store.client.set_terminated(self.run_id, "FAILED" if is_ours else "KILLED")

    def _finish(self, store: Store) -> None:
        if self._run is not None:
            self._flush(store)
            complete(store, self._artifact, self._run, self._logged)

    def _attempt(self, act: Callable[[Store], None]) -> None:
        """Does ``act``; after MLflow has failed once, nothing, for ``link`` will mend it."""
        if self._is_down:
            return
        try:
            store = open_store(self._uri)
            with translated(self._uri):
                act(store)
        except (InputError, OSError) as error:
            self._is_down = True
            _log.warning(
                "%s is made, but not recorded in MLflow; the next run of the study records it. %s",
                run_name(self._artifact),
                error,
            )


@contextmanager
def tracked(artifact: Artifact, study: StudyRun | None, uri: str) -> Iterator[Tracker]:
    """Surrounds the making of an artifact, outside ``writing``, with its MLflow run.

    Args:
        artifact: What is made. Its lock is held, so that no other process has its run open.
        study: The study that wants it, as ``start_study`` gives it; nothing outside of a study.
        uri: Tracking URI, as ``tracking_uri`` gives it.

    Yields:
        What to log metrics to. The run ends FINISHED with all that the artifact's directory
        holds; or FAILED with the error as its tag ``wit.error``; or stays RUNNING after a kill.
    """
    tracker = Tracker(artifact, study, uri)
    tracker._attempt(tracker._begin)
    try:
        yield tracker
    except BaseException as error:
        tracker._attempt(lambda store, error=error: tracker._fail(store, error))
        raise
    tracker._attempt(tracker._finish)


def link(artifacts: Iterable[Artifact], study: StudyRun, uri: str) -> None:
    """Says that the study uses these artifacts; those that do not exist yet are passed over.

    One query when all of them are known members, else one more for each new one.

    Raises:
        InputError: MLflow cannot be reached.
    """
    store = open_store(uri)
    with translated(uri):
        members = store.search(f"tags.`{study.membership}` LIKE '%{study.version}%'")
        done = [run for run in members if run.info.status == "FINISHED"]
        known = {run.data.tags["wit.fingerprint"] for run in done}
        for artifact in {a.fingerprint: a for a in artifacts}.values():
            if artifact.fingerprint in known or not artifact.exists():
                continue
            try:
                ensure_finished_run(store, artifact, study)
            except ArtifactError as error:  # its own stage refuses it, and no other
                _log.warning("%s is not linked: %s", run_name(artifact), error)


def start_study(study: Study, artifacts: Sequence[Artifact], uri: str) -> StudyRun:
    """The run on top of a study; the same one when the same study is run again.

    Args:
        study: As its file says.
        artifacts: All that it will make or reuse. They, and the roles of the benchmarks, decide
            whether it is the same study still; ``table`` shows the version started last.
        uri: Tracking URI.

    Raises:
        InputError: MLflow cannot be reached.
    """
    roles = sorted(f"{b.name}={b.role}" for b in study.benchmarks)
    identity = [study.name, sorted({a.fingerprint for a in artifacts}), roles]
    version = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    started = datetime.now(UTC).isoformat()
    store = open_store(uri)
    with translated(uri):
        condition = f"tags.`wit.study_version` = '{version}' AND tags.`wit.stage` = 'study'"
        found = store.search(condition, limit=1)
        if found:
            run = found[0]
            store.client.update_run(run.info.run_id, status="RUNNING")
        else:
            tags = {"wit.stage": "study", "wit.study_name": study.name}
            run = store.create(f"study {study.name}", tags | {"wit.study_version": version})
        known = run.data.params
        params = {k: v for k, v in study_params(study).items() if k not in known}
        tags = {"wit.started": started, "wit.cells": " ".join(map(str, study.cells))}
        tags["mlflow.note.content"] = _note(store, study)
        store.write(run.info.run_id, params=params, tags=tags)
        if not found:
            content = study.model_dump(mode="json", exclude_none=True)
            store.client.log_dict(run.info.run_id, content, "study.yaml")
    return StudyRun(study.name, run.info.run_id, version, store.run_url(run.info.run_id))


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
    return f"Charts of {' and '.join(models)}. In the list of runs, sort by a score to see all."


def end_study(run: StudyRun, uri: str, *, is_failed: bool, files: Iterable[Path] = ()) -> None:
    """Ends the study's run and keeps ``files``, such as the report, with it.

    Raises:
        InputError: MLflow cannot be reached.
    """
    store = open_store(uri)
    with translated(uri):
        for file in files:
            store.client.log_artifact(run.run_id, str(file))
        store.client.set_terminated(run.run_id, "FAILED" if is_failed else "FINISHED")
