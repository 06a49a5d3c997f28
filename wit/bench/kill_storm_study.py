"""The study of a kill storm, and a run of it that nobody disturbs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from wit.config import Runtime
from wit.errors import StageError
from wit.guard import MARK
from wit.lifeline import LIFELINE
from wit.loading import load_study
from wit.plan import Plan, make_plan

PROGRAM = [sys.executable, "-m", LIFELINE, "wit.cli"]  # ends with the storm, even a killed one
SETTINGS = ("device=cpu", "threads_per_worker=1", "checkpoint_seconds=0.5")  # of the runtime
# Four cells whose trainings take some seconds each: long enough to be hit, and to resume.
STUDY: dict[str, Any] = {
    "name": "storm",
    "base": {"path": "builtin"},
    "instructions": {
        "path": "builtin",
        "max_tokens": 64,
        "max_rows": 120,
        "held_out_fraction": 0.2,
    },
    "preferences": {"path": "builtin", "max_tokens": 64, "max_rows": 80, "held_out_fraction": 0.2},
    "weights": [{"prompt": prompt, "response": 1} for prompt in (0, 0.2, 0.5, 1)],
    "sft": {"learning_rate": 1e-3, "num_epochs": 2, "examples_per_step": 8},
    "dpo": {"learning_rate": 4e-5, "num_epochs": 1, "examples_per_step": 8},
    "benchmarks": [{"name": "wit_choice", "role": "select", "limit": 16}],
}


def write_study(folder: Path) -> Path:
    """Writes the study into a folder; returns its file."""
    file = folder / "storm.yaml"
    file.write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    return file


def plan_of(study_file: Path, root: Path, seeds: list[int]) -> Plan:
    """The stages of the study with these seeds."""
    return make_plan(load_study(study_file, [seeds_setting(seeds)]), Runtime(artifact_root=root))


def seeds_setting(seeds: list[int]) -> str:
    """The setting of a study that gives it these seeds."""
    return f"seeds={json.dumps(seeds)}"


def run_command(study_file: Path, root: Path, *settings: str) -> list[str]:
    """The command line of a `wit run` of the study."""
    runtime = [f"artifact_root={root}", *SETTINGS]
    words = [word for setting in settings for word in ("--set", setting)]
    words += [word for setting in runtime for word in ("--set-runtime", setting)]
    return [*PROGRAM, "run", str(study_file), *words]


def clean_environment(home: Path) -> dict[str, str]:
    """This process's, without what names other servers or other runs.

    Args:
        home: Of Prefect; by it processes are found.
    """
    others = ("PREFECT", "MLFLOW", "WIT_POSTGRES", MARK)
    inherited = {n: value for n, value in os.environ.items() if not n.startswith(others)}
    return {**inherited, "PREFECT_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def start(command: list[str], environment: dict[str, str], output: Path) -> subprocess.Popen[bytes]:
    """Starts a program that ends with this process, and adds what it says to a file."""
    with output.open("ab") as file:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=file, stderr=file
        )


def run_undisturbed(study_file: Path, folder: Path, seeds: list[int]) -> Path:
    """Runs the study to its end, in one `wit run` that nobody kills; returns its artifact root.

    Raises:
        StageError: It failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = run_command(study_file, folder / "root", seeds_setting(seeds))
    environment = clean_environment(folder / "home")
    with start(command, environment, folder / "output.txt") as process:
        exit_code = process.wait()
    if exit_code:
        raise StageError(f"the undisturbed study failed: {(folder / 'output.txt').read_text()}")
    return folder / "root"
