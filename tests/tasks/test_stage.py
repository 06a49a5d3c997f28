"""Which failures are worth a retry, how often and after how long."""

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed

from tasks.stage import (
    MAX_HALVINGS,
    MAX_RETRIES,
    RETRIES,
    RETRY_SECONDS,
    run_stage,
    seconds_before,
)
from tasks.training import tune
from wit import errors
from wit.artifacts import HALVINGS, Artifact, Source
from wit.config import Runtime
from wit.errors import FewerRowsError, RunEndedError, WitError, WorkerDiedError
from wit.lineage import StudyRun
from wit.memory import halvings_of
from wit.recipes import SFTRecipe
from wit.weights import TokenWeights
from wit.workers import Workers

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
    return tune.retry_condition_fn(tune, run, Failed(message="x", data=error))


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


# --- killed for its memory, while another process makes the same artifact -----------------------


class KilledByTheKernel(Workers):
    """Its stages die as they do when the kernel kills for memory, which cannot be had at will."""

    def make(self, artifact: Any, study: Any = None, on_progress: Any = None) -> Any:
        raise WorkerDiedError("the process died (out of memory, or killed)")


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workers:
    monkeypatch.setattr("tasks.stage.num_kernel_kills", itertools.count().__next__)
    monkeypatch.setattr("tasks.stage.LOCK_SECONDS", 0.01)
    return KilledByTheKernel(Runtime(artifact_root=tmp_path), tmp_path / "logs")


def sft_in(root: Path) -> Artifact:
    base = Source(kind="model", fingerprint="ba5eba5eba5e", location="/models/base")
    recipe = SFTRecipe(weights=TokenWeights(prompt=0, response=1), seed=0)
    return Artifact(root=root, recipe=recipe, parents={"base": base})


def study_in(root: Path) -> StudyRun:
    return StudyRun("x", None, "0" * 12, None, root)


def test_rows_are_halved_only_once_nobody_else_makes_the_artifact(
    killed: Workers, tmp_path: Path
) -> None:
    sft, ended = sft_in(tmp_path), list[BaseException]()

    def attempt() -> None:
        try:
            run_stage(sft, study_in(tmp_path), killed)
        except WitError as error:
            ended.append(error)

    thread = threading.Thread(target=attempt)
    with sft.lock():
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "it did not wait"
        assert not (sft.scratch / HALVINGS).exists(), "into what another process writes"
    thread.join(10)
    assert [type(error) for error in ended] == [FewerRowsError]
    assert halvings_of(sft) == 1


def test_what_another_process_made_meanwhile_is_reused_and_whole(
    killed: Workers, tmp_path: Path
) -> None:
    sft, states = sft_in(tmp_path), list[Any]()
    thread = threading.Thread(
        target=lambda: states.append(run_stage(sft, study_in(tmp_path), killed))
    )
    with sft.lock():
        thread.start()
        thread.join(0.1)
        with sft.writing() as out:
            (out / "weights").write_text("w")
    thread.join(10)
    assert [state.name for state in states] == ["Reused"]
    assert not sft.verified().scratch.exists()


def test_a_run_that_is_ended_does_not_wait_for_another_process(
    killed: Workers, tmp_path: Path
) -> None:
    sft = sft_in(tmp_path)
    with sft.lock():
        killed.stop()
        with pytest.raises(RunEndedError):
            run_stage(sft, study_in(tmp_path), killed)
