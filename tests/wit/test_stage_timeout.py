"""A stage that hangs is ended, and tried again."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from forked import Forking, workers_are_forked
from planned_study import inputs_in, plan_of, study_in

from tasks.stage import is_tried_again
from wit.config import Runtime
from wit.errors import StageTimeoutError
from wit.workers import workers_for


def spawned() -> Iterator[psutil.Process]:
    """Children that run still; of those that have ended some may not have been waited for."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "spawn_main" in str(child.cmdline()):
                yield child


@pytest.mark.parametrize(
    ("part", "log"), [("", "worker-0.log"), ("p0-r1+a b", "worker-p0-r1_a_b-0.log")]
)
def test_what_takes_too_long_is_ended_with_its_process(tmp_path: Path, part: str, log: str) -> None:
    runtime = Runtime(artifact_root=tmp_path, device="cpu", stage_timeout_seconds=0.1)
    tokenizer = plan_of(study_in(inputs_in(tmp_path)), runtime).tokenizer
    with workers_for("x", runtime, part) as workers:
        with pytest.raises(StageTimeoutError, match=f"(?s)0.1 seconds.*{log}") as ended:
            workers.make(tokenizer)
        assert is_tried_again(ended.value, 1)
        assert not [*spawned()]
        assert workers._executors == {}, "the next stage has a new process"
    assert not tokenizer.exists()


def test_the_time_for_which_another_process_makes_the_same_does_not_count(
    tmp_path: Path, forking: Forking
) -> None:
    runtime = Runtime(artifact_root=tmp_path, device="cpu", stage_timeout_seconds=0.01)
    tokenizer = plan_of(study_in(inputs_in(tmp_path)), runtime).tokenizer
    is_released = threading.Event()
    with workers_are_forked(forking), workers_for("x", runtime) as workers, ExitStack() as others:
        workers.warm_up()
        others.enter_context(tokenizer.lock())
        others.callback(is_released.set)
        release = threading.Timer(3.0, others.close)
        release.start()
        with pytest.raises(StageTimeoutError):
            workers.make(tokenizer)
        assert is_released.is_set(), "ended while it waited"
        release.join()
