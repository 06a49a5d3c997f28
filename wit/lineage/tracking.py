"""Surrounds the making of an artifact with its MLflow run."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wit.artifacts import Artifact
from wit.config import Study
from wit.errors import ArtifactError, StoreDownError, WitError
from wit.lineage.description import run_name, run_params, run_tags
from wit.lineage.outcome import Point, points
from wit.lineage.reader import RunRow
from wit.lineage.runs import StudyRun, complete, end_badly, ensure_run
from wit.lineage.score_table import table, table_of_artifacts
from wit.lineage.spool import (
    Packed,
    Status,
    UnsentArtifact,
    artifact_file,
    keep,
    kept_artifacts,
    read_kept,
)
from wit.lineage.store import Store, open_store, translated
from wit.lineage.telling import Telling

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

FLUSH_SECONDS = 5.0  # between writes of metrics: one to SQLite takes 30 to 100 ms of a training
_log = logging.getLogger(__name__)


class Tracker:
    """The run of an artifact that is being made; what a training logs to."""

    def __init__(
        self, artifact: Artifact, study: StudyRun | None, uri: str, telling: Telling
    ) -> None:
        self.run_id: str | None = None
        self._artifact, self._study, self._uri, self._telling = artifact, study, uri, telling
        self._began, self._handed_at = time.time(), time.monotonic()
        self._new: list[Point] = []
        # Else it starts anew, and so does its history; asked now, for soon the directory is there.
        self._is_resumed = artifact.scratch.exists()
        # What follows belongs to whoever tells MLflow.
        self._run: Run | None = None  # as it was when it was opened
        self._waiting: list[Point] = []
        self._logged: set[tuple[str, int]] = set()
        self._is_down = False

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Shows the metrics in MLflow, within seconds; a step that is there already is not new."""
        self._new += points(metrics, step, time.time())
        if time.monotonic() - self._handed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Has MLflow told what was logged."""
        self._hand_on()
        self._tell(self._flush)

    def _tell(self, act: Callable[[Store], None]) -> None:
        self._telling.tell(partial(self._attempt, act))

    def _hand_on(self) -> None:
        new, self._new, self._handed_at = self._new, [], time.monotonic()
        self._telling.tell(partial(self._take, new))

    def _take(self, new: Iterable[Point]) -> None:
        fresh = [point for point in new if (point[0], point[2]) not in self._logged]
        self._waiting += fresh
        self._logged.update((point[0], point[2]) for point in fresh)

    def _begin(self, store: Store) -> None:
        run = ensure_run(store, self._artifact, self._study, self._began)
        if run.info.status == "FINISHED":  # made before, or elsewhere, as it is made here
            return
        self._run, self.run_id = run, run.info.run_id
        if run.data.metrics and self._is_resumed:
            self._logged = store.logged_points(run)
        if run.info.status != "RUNNING":
            store.client.update_run(self.run_id, status="RUNNING")

    def _flush(self, store: Store) -> None:
        if self.run_id is not None:
            store.write(self.run_id, metrics=self._waiting)
        self._waiting = []

    def _fail(self, store: Store, status: Status, message: str, ended: float) -> None:
        if self._run is not None:
            end_badly(store, self._run, status, message, self._waiting, ended)

    def _keep(self, status: Status, message: str | None, ended: float) -> None:
        """Has it sent later; what exists and belongs to a study is sent with the study."""
        try:
            self._keep_file(artifact_file(self._artifact), status, message, ended)
        except (
            ArtifactError,
            OSError,
        ) as error:  # the disk may be full; the artifact is worth more
            _log.warning("how %s ended may be lost: %s", run_name(self._artifact), error)

    def _keep_file(self, file: Path, status: Status, message: str | None, ended: float) -> None:
        if not self._is_down:
            file.unlink(missing_ok=True)  # an earlier attempt's
        if not self._is_down or (message is None and self._study is not None):
            return
        studies = ((self._study.name, self._study.version),) if self._study else ()
        if file.exists():
            try:
                studies = tuple({*studies, *read_kept(UnsentArtifact, file).studies})
            except ArtifactError as error:
                _log.warning("%s; it is kept as %s.damaged", error, file.stem)
                file.replace(file.with_suffix(".damaged"))
        unsent = UnsentArtifact(
            uri=self._uri,
            packed=Packed.of([self._artifact]),
            studies=studies,
            status=status,
            error=message,
            began=self._began,
            ended=ended,
            points=tuple(self._waiting) if message is not None else (),
        )
        keep(file, unsent)

    def _finish(self, store: Store, ended: float) -> None:
        if self._run is not None:
            self._flush(store)
            complete(store, self._artifact, self._run, self._logged, ended)

    def _attempt(self, act: Callable[[Store], None]) -> None:
        """Does ``act``; after MLflow has failed once, nothing, for ``link`` will mend it.

        Whatever is wrong with MLflow, the training is worth more: nothing is raised.
        """
        if self._is_down:
            return
        try:
            store = open_store(self._uri)
            with translated(self._uri):
                act(store)
        except Exception as error:
            self._is_down = True
            _log.warning("%s is not recorded in MLflow yet: %s", run_name(self._artifact), error)


@contextmanager
def tracked(
    artifact: Artifact, study: StudyRun | None, uri: str, telling: Telling | None = None
) -> Iterator[Tracker]:
    """Surrounds the making of an artifact, outside ``writing``, with its MLflow run.

    Args:
        artifact: What is made. Its lock is held until all is told, so that no other process has
            its run open.
        study: The study that wants it, as ``start_study`` gives it; nothing outside of a study.
        uri: Tracking URI, as ``tracking_uri`` gives it.
        telling: Who tells MLflow, and when; unset: at once. All is told of what was not made.

    Yields:
        What to log metrics to. The run ends FINISHED with all that the artifact's directory
        holds; or FAILED with the error as its tag ``wit.error``; or stays RUNNING after a kill.
        What MLflow does not take is kept on the disk for ``sync``.
    """
    telling = telling or Telling()
    tracker = Tracker(artifact, study, uri, telling)
    tracker._tell(tracker._begin)
    try:
        yield tracker
    except BaseException as error:
        message = str(error) if isinstance(error, WitError) else f"{type(error).__name__}: {error}"
        status: Status = "FAILED" if isinstance(error, Exception) else "KILLED"  # that is Ctrl-C
        failed = time.time()
        tracker._hand_on()
        tracker._tell(lambda store: tracker._fail(store, status, message, failed))
        telling.tell(lambda: tracker._keep(status, message, failed))
        telling.wait()
        raise
    ended = time.time()
    tracker._hand_on()
    tracker._tell(lambda store: tracker._finish(store, ended))
    telling.tell(lambda: tracker._keep("FINISHED", None, ended))


def scores_of_run(
    study: Study, artifacts: Sequence[Artifact], version: str, uri: str
) -> "pd.DataFrame":
    """The table of a study that has just run; from its artifacts while MLflow is down.

    Raises:
        InputError: The store is not MLflow's.
    """
    try:
        return table(study.name, uri, version=version)
    except StoreDownError:
        return table_of_artifacts(study, artifacts, list(_unfinished(artifacts)))


def _unfinished(artifacts: Sequence[Artifact]) -> Iterator[RunRow]:
    ours = {artifact.fingerprint: artifact for artifact in artifacts}
    for file in kept_artifacts(artifacts[0].root):
        try:
            unsent = read_kept(UnsentArtifact, file)
        except ArtifactError as error:
            _log.warning("%s", error)
            continue
        if unsent.packed.wanted[0] in ours:
            yield _as_row(unsent, ours[unsent.packed.wanted[0]])


def _as_row(unsent: UnsentArtifact, artifact: Artifact) -> RunRow:
    tags = run_tags(artifact) | ({"wit.error": unsent.error} if unsent.error else {})
    return RunRow(None, run_name(artifact), unsent.status, run_params(artifact), tags, {})
