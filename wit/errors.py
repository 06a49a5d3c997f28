"""Everything that wit raises on purpose.

WitError                     a message for people: what, where, what is allowed, the remedy
├── InputError               the user's input is wrong; exit code 2, nothing was written
│   ├── ConfigError          a study or runtime file, or ``--set``
│   ├── DataError            a data file or a row of it
│   ├── BaseModelError       the base model, its tokenizer or its chat template
│   ├── ArtifactError        an artifact is damaged, or its root or store cannot be used
│   │   ├── DiskFullError    the disk of the root is full, or would be
│   │   └── StoreAwayError   the artifact store does not answer
│   ├── HubDownError         the model hub does not answer
│   └── StoreDownError       the MLflow server does not answer; what it should know is kept
└── StageError               a stage failed while it ran; exit code 1
    ├── TrainingError        the loss or a weight is not finite
    ├── HandOverError        DPO did not start at the SFT model
    ├── OutOfMemoryError     memory of the machine or of its GPU ran out
    │   └── FewerRowsError   the next attempt takes fewer rows at once
    ├── WorkerDiedError      the process was killed; running again resumes it
    │   └── RunEndedError    it was killed because the run was ended
    └── StudyFailedError     of a study that came to its end, some stages failed; has its outcome
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wit.outcome import StudyOutcome


class WitError(Exception):
    """A message that a person can act upon; the command line prints it without a traceback."""

    exit_code = 1
    may_pass = False  # whether the same stage, tried again later, may succeed


class InputError(WitError):
    """The user's input is wrong."""

    exit_code = 2


class ConfigError(InputError):
    """A study file, a runtime file or a ``--set`` override is wrong."""


class DataError(InputError):
    """A data file or one of its rows is wrong."""


class BaseModelError(InputError):
    """The base model, its tokenizer or its chat template cannot be used."""


class ArtifactError(InputError):
    """An artifact is damaged, or the artifact root or store cannot be used."""


class StoreAwayError(ArtifactError):
    """The artifact store does not answer; what it holds may be all right."""

    may_pass = True


class DiskFullError(ArtifactError):
    """The disk of the artifact root is full, or would be before the stage came to its end."""

    may_pass = True


class HubDownError(InputError):
    """The model hub does not answer; what it holds may be all right."""

    may_pass = True


class StoreDownError(InputError):
    """The MLflow server does not answer; a run goes on, and what it should know is kept."""

    may_pass = True


class StageError(WitError):
    """A stage failed while it ran; the stages that need it are blocked, all others go on."""


class TrainingError(StageError):
    """Training met a loss or a weight that is not finite."""


class HandOverError(StageError):
    """DPO's reference is not the SFT model that it starts from; its result would mean nothing."""


class OutOfMemoryError(StageError):
    """Memory of the machine or of its GPU ran out."""

    may_pass = True


class FewerRowsError(OutOfMemoryError):
    """Memory ran out, and the next attempt takes fewer rows at once."""


class WorkerDiedError(StageError):
    """The process that made an artifact was killed; what it had done can be resumed."""

    may_pass = True


class StageTimeoutError(StageError):
    """A stage took longer than the runtime allows; what it had done can be resumed."""

    may_pass = True  # what hangs on a network or a GPU often does not hang again


class RunEndedError(WorkerDiedError):
    """The run was ended, and with it the process that made an artifact; nothing is retried."""

    may_pass = False


class StudyFailedError(StageError):
    """A study came to its end, and some of its stages failed."""

    outcome: "StudyOutcome | None" = None  # set after construction, so that it survives pickling


def first_line(error: BaseException) -> str:
    """What an error of a library says, without the rest of its story."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
