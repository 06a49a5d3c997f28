"""`wit run` and what a terminal or a scheduler sends to end it: a signal to all its processes."""

import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
from found_processes import START_SECONDS, end_marked, marked_environment, what_stays

LONG = ["sft.num_epochs=400", "weights=[{prompt: 0.5, response: 1}]"]
PATIENCE = 60.0  # seconds; to tell a server that has ended what became of the run takes minutes


@pytest.mark.parametrize(
    ("number", "exit_code", "once"),
    [
        (signal.SIGINT, 130, "sft/*/checkpoints/*/complete"),
        pytest.param(
            signal.SIGTERM,
            -signal.SIGTERM,
            "studies/*/worker-0.log",  # the worker still imports then
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_signal_to_the_whole_group_ends_it_soon_and_leaves_nothing(
    prefect_home: Path,
    study_file: Path,
    tmp_path: Path,
    number: signal.Signals,
    exit_code: int,
    once: str,
) -> None:
    runtime = [f"artifact_root={tmp_path}", "device=cpu", "threads_per_worker=1"]
    settings = [("--set", word) for word in LONG]
    settings += [("--set-runtime", word) for word in (*runtime, "checkpoint_seconds=0.05")]
    command = [sys.executable, "-m", "wit.cli", "run", str(study_file), *chain(*settings)]
    output = tmp_path / "output.txt"
    environment = marked_environment(PREFECT_HOME=str(prefect_home))
    # A shell's background jobs ignore Ctrl-C, and so would all that is started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not list(tmp_path.glob(once)):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.02)
        os.killpg(process.pid, number)
        assert process.wait(PATIENCE) == exit_code, output.read_text()
        assert what_stays(environment) == []
    finally:
        end_marked(environment)
        process.wait()
    said = output.read_text()
    is_stopped = "stopped; run again to go on where it was" in said.splitlines()
    assert is_stopped == (number == signal.SIGINT), said
    assert "Traceback" not in said
    assert "EventsWorker" not in said
