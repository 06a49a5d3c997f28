"""Which failures are worth a retry, how often and after how long."""

import pytest
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed

from tasks.stage import MAX_HALVINGS, MAX_RETRIES, RETRIES, RETRY_SECONDS, seconds_before
from tasks.training import train_sft
from wit import errors
from wit.errors import WitError

PASS = {
    "StageTimeoutError",
    "DiskFullError",
    "HubDownError",
    "OutOfMemoryError",
    "StoreAwayError",
    "StoreDownError",
    "WorkerDiedError",
}


def is_retried(error: Exception, attempt: int) -> bool:
    run = TaskRun(task_key="x", dynamic_key="0", run_count=attempt)
    return train_sft.retry_condition_fn(train_sft, run, Failed(message="x", data=error))


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type)], ids=str
)
def test_only_a_cause_that_may_pass_is_tried_again_and_not_for_ever(
    kind: type[WitError],
) -> None:
    limit = MAX_HALVINGS if kind.__name__ == "FewerRowsError" else MAX_RETRIES
    expected = limit if kind.__name__ in PASS | {"FewerRowsError"} else 0
    error = kind("said")
    assert [n for n in range(1, 20) if is_retried(error, n)] == list(range(1, expected + 1))
    assert expected <= RETRIES["retries"]


@pytest.mark.parametrize("error", [OSError("other"), RuntimeError("other"), KeyError("other")])
def test_what_nobody_knows_the_meaning_of_is_not_tried_again(error: Exception) -> None:
    assert not is_retried(error, 1)


def test_attempts_wait_longer_and_longer_and_not_all_alike() -> None:
    waits = [[seconds_before(number) for _ in range(50)] for number in range(2, 9)]
    means = [sum(of_one) / len(of_one) for of_one in waits]
    for number, of_one in enumerate(waits):
        usual = RETRY_SECONDS[min(number, len(RETRY_SECONDS) - 1)]
        assert usual * 0.66 < min(of_one) < usual < max(of_one) < usual * 1.34
    assert means[:4] == sorted(means[:4])
    assert max(means) < 600, "nobody waits for hours"
