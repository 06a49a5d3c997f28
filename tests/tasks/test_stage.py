"""Which failures are worth a retry."""

import pytest
from prefect.states import Failed

from tasks.stage import worker_died
from wit.errors import StageError, TrainingError, WitError, WorkerDiedError


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (WorkerDiedError("killed"), True),
        (TrainingError("loss is nan"), False),
        (StageError("other"), False),
        (WitError("other"), False),
        (OSError("other"), False),
    ],
)
def test_only_a_killed_worker_is_tried_again(error: Exception, is_retried: bool) -> None:
    assert worker_died(None, None, Failed(message=str(error), data=error)) is is_retried
