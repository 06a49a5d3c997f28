"""The single policy of all stages: reuse what is complete, else have a worker make it."""

import logging
import time
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from wit.artifacts import Artifact
from wit.errors import WorkerDiedError
from wit.lineage import StudyRun
from wit.progress import Progress
from wit.workers import Workers

UI_UPDATE_SECONDS = 5.0
_log = logging.getLogger(__name__)


def run_stage(artifact: Artifact, study: StudyRun, workers: Workers) -> State:
    """Makes the artifact unless it exists.

    The directory on disk is the only cache. Prefect's own would hash ``Runtime`` too, and the
    source of the task but not of the ``wit`` functions that do the work.

    Returns:
        A completed state, named ``Reused`` where nothing had to be made.

    Raises:
        WitError: The stage failed.
    """
    if artifact.exists():
        artifact.verified()
        return _reused(artifact)
    shown = _ProgressInUI(artifact)
    if workers.make(artifact, study, shown.update) == "reused":
        return _reused(artifact)  # another process made it while we waited
    shown.finish()
    return Completed(message=f"made {artifact.path}")


def _reused(artifact: Artifact) -> State:
    return Completed(name="Reused", message=f"found complete: {artifact.path}")


def worker_died(_task: object, _run: object, state: State) -> bool:
    """Whether a retry can help: a killed stage resumes, a wrong one fails again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, WorkerDiedError)


class _ProgressInUI:
    """A progress bar in the Prefect UI, moved every few seconds."""

    def __init__(self, artifact: Artifact) -> None:
        self.key = f"{artifact.stage}-{artifact.fingerprint}"
        self.id: UUID | None = None
        self.next_update = 0.0

    def update(self, progress: Progress) -> None:
        if time.monotonic() < self.next_update:
            return
        self.next_update = time.monotonic() + UI_UPDATE_SECONDS
        self._show(100 * progress.step / max(1, progress.num_steps), str(progress))

    def finish(self) -> None:
        """The last steps come between two updates; without this the bar would stay short of 100."""
        if self.id is not None:
            self._show(100.0, "complete")

    def _show(self, percent: float, said: str) -> None:
        try:
            if self.id is None:
                created = create_progress_artifact(percent, self.key, description=said)
                self.id = created if isinstance(created, UUID) else None
            else:
                update_progress_artifact(self.id, percent, description=said)
        except Exception as error:  # a busy server must not end the training that it shows
            _log.warning("progress of %s is not shown: %s", self.key, error)
