"""The single policy of all stages: reuse what is complete, else have a worker make it, or retry."""

import logging
import random
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.states import Completed

from wit.alignment.policy import is_stale
from wit.artifacts import Artifact
from wit.errors import FewerRowsError, RunEndedError, StageError, WitError, WorkerDiedError
from wit.lineage import StudyRun
from wit.memory import halvings_of, num_kernel_kills, said_of, with_less
from wit.progress import Progress
from wit.sharing import is_stored, stays_in_store
from wit.stages import Outcome
from wit.workers import Workers

UI_UPDATE_SECONDS = 5.0
LOCK_SECONDS = 1.0  # between two looks at whether another process makes the artifact still
# Before the first retry, the second and so on; all later ones wait like the last. Each by chance
# up to a third more or less: stages that failed together shall not come back together.
RETRY_SECONDS = (10.0, 30.0, 90.0, 270.0)
RETRY_JITTER = 1 / 3
MAX_RETRIES = 3  # of one stage, where the cause may pass
MAX_HALVINGS = 12  # more than any number of rows can be halved usefully; each is one retry
_log = logging.getLogger(__name__)


def run_stage(artifact: Artifact, study: StudyRun, workers: Workers) -> State:
    """Makes the artifact unless it exists.

    The directory on disk, with its copy in the artifact store, is the only cache. Prefect's own
    would hash ``Runtime`` too, and the source of the task but not of the ``wit`` functions that do
    the work.

    Returns:
        A completed state, named ``Reused`` where nothing had to be made.

    Raises:
        WitError: The stage failed; says how often it was tried, if it is not tried again.
    """
    if artifact.exists() and not is_stale(artifact) and is_stored(artifact, workers.runtime):
        artifact.verified()
        return _reused(artifact, workers)
    if stays_in_store(artifact, workers.runtime):
        return _reused(artifact, workers)
    number, less = attempt(), said_of(artifact, workers.runtime)
    if number > 1:
        # What takes less memory need not wait for others to need less.
        seconds = seconds_before(2 if less else number)
        name = f"{artifact.stage} {artifact.fingerprint}"
        _log.warning("%s: attempt %d begins in %.0f s. %s", name, number, seconds, less)
        workers.pause(seconds)
    shown = _ProgressInUI(artifact)
    try:
        outcome = _make(artifact, study, workers, shown.update)
    except Exception as error:
        if number > 1 and not is_tried_again(error, number):
            raise _told(error, number) from error
        raise
    if outcome == "reused":
        # Another process made it while we waited, or another machine.
        return _reused(artifact, workers, _store_note(artifact, workers))
    shown.finish()
    how = [f"made {artifact.path}", less, f"at attempt {number}" if number > 1 else ""]
    said = ", ".join(filter(None, how))
    return Completed(message=f"{said}{_store_note(artifact, workers)}")


def _make(
    artifact: Artifact, study: StudyRun, workers: Workers, on_progress: Callable[[Progress], object]
) -> Outcome:
    kills_before, halvings_before = num_kernel_kills(), halvings_of(artifact)
    try:
        return workers.make(artifact, study, on_progress)
    except WorkerDiedError as error:
        if isinstance(error, RunEndedError) or num_kernel_kills() == kills_before:
            raise
        # Who was killed has lost its lock, and another process may be making the artifact by now.
        with artifact.lock(pause=lambda: workers.pause(LOCK_SECONDS)):
            if artifact.exists():
                return "reused"
            raise with_less(artifact, workers.runtime, error, halvings_before) from error


def attempt() -> int:
    """How often the task that runs now has been begun; 1 outside of a task."""
    context = TaskRunContext.get()
    return context.task_run.run_count if context else 1


def seconds_before(number: int) -> float:
    """How long an attempt waits, with some chance in it.

    Args:
        number: Of the attempt, from 2.
    """
    seconds = RETRY_SECONDS[min(number - 2, len(RETRY_SECONDS) - 1)]
    return seconds * random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)


def _told(error: Exception, number: int) -> WitError:
    said = f"{error} (tried {number} times)"
    return type(error)(said) if isinstance(error, WitError) else StageError(said)


def is_tried_again(error: object, number: int) -> bool:
    """Whether a stage is tried again after this attempt: only where the cause may pass.

    Args:
        error: What ended the attempt.
        number: Of the attempt, from 1.
    """
    if isinstance(error, FewerRowsError):  # there is a least
        return number <= MAX_HALVINGS
    return isinstance(error, WitError) and error.may_pass and number <= MAX_RETRIES


def _reused(artifact: Artifact, workers: Workers, note: str = "") -> State:
    place = f"{artifact.path}{note}"
    if not artifact.exists():
        store = workers.runtime.artifact_store
        place = (
            f"{artifact.stage} {artifact.fingerprint} in {store}; a stage that reads it brings it"
        )
    return Completed(name="Reused", message=f"found complete: {place}")


def _store_note(artifact: Artifact, workers: Workers) -> str:
    store = workers.runtime.artifact_store
    if is_stored(artifact, workers.runtime):
        return ""
    return f"; it is not in {store} yet, and is uploaded when it is used the next time"


def _may_pass(_task: object, run: TaskRun, state: State) -> bool:
    return is_tried_again(state.result(raise_on_failure=False), run.run_count)


# Of every task that makes an artifact. The delay is ours: Prefect's would not end with the run.
RETRIES: dict[str, Any] = {"retries": MAX_HALVINGS, "retry_condition_fn": _may_pass}


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
