"""Everything that wit raises on purpose.

WitError                     a message for people: what, where, what is allowed, the remedy
├── InputError               the user's input is wrong; exit code 2, nothing was written
│   ├── ConfigError          a study or runtime file, or ``--set``
│   ├── DataError            a data file or a row of it
│   ├── BaseModelError       the base model, its tokenizer or its chat template
│   ├── ArtifactError        an artifact is damaged, or its root cannot be written
│   └── StoreDownError       the MLflow server does not answer; what it should know is kept
└── StageError               a stage failed while it ran; exit code 1
    ├── TrainingError        the loss or a weight is not finite
    ├── HandOverError        DPO did not start at the SFT model
    ├── WorkerDiedError      the process was killed; running again resumes it
    └── StudyFailedError     of a study that came to its end, some stages failed; has its outcome
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wit.outcome import StudyOutcome


class WitError(Exception):
    """A message that a person can act upon; the command line prints it without a traceback."""

    exit_code = 1


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
    """An artifact is damaged, or the artifact root cannot be written."""


class StoreDownError(InputError):
    """The MLflow server does not answer; a run goes on, and what it should know is kept."""


class StageError(WitError):
    """A stage failed while it ran; the stages that need it are blocked, all others go on."""


class TrainingError(StageError):
    """Training met a loss or a weight that is not finite."""


class HandOverError(StageError):
    """DPO's reference is not the SFT model that it starts from; its result would mean nothing."""


class WorkerDiedError(StageError):
    """The process that made an artifact was killed; what it had done can be resumed."""


class StudyFailedError(StageError):
    """A study came to its end, and some of its stages failed."""

    outcome: "StudyOutcome | None" = None  # set after construction, so that it survives pickling


def first_line(error: BaseException) -> str:
    """What an error of a library says, without the rest of its story."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
