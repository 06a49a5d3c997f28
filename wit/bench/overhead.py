"""What a study takes beside the steps of its trainers and the calls of its models."""

import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from wit.artifacts import read_record
from wit.bench.kill_storm_study import clean_environment
from wit.bench.result import BenchResult, Figure, machine_name, versions_of
from wit.bench.study import CUT, RUNTIME, plan_below, run, run_command, script_environment
from wit.bench.watching import MadeStage, read_stages, seconds_in
from wit.errors import StageError
from wit.loading import load_runtime
from wit.plan import Plan

WATCHED = (
    sys.executable,
    "-c",
    "from wit.bench.watching import watch; watch(); from wit.cli import main; main()",
)
IMPORTS = "import wit.training.sft, wit.training.dpo, wit.evaluation.harness"
DATABASE = "prefect.db"  # in the home of a server that Prefect starts itself


class Turn(NamedTuple):
    """A study, made once and then run again, when everything is reused. In seconds."""

    whole: float  # of the run that makes it, from the start of its process to its end
    in_models: float  # of that, while at least one worker trained or asked a model
    of_workers: float  # the same, summed over workers
    imports: float  # of what trainers and evaluations need, in a process that does nothing else
    beside_stage: float  # median, of a made stage: beyond what its record says, and until the next
    reused_stage: float  # from the first task to the last, over their number
    num_stages: int


def measure(repeats: int, *, is_whole: bool = False, cut: Sequence[str] = CUT) -> BenchResult:
    """Runs the quickstart twice: everything is made, then everything is reused.

    Args:
        repeats: Turns.
        is_whole: All of it; else what ``cut`` leaves.
        cut: Settings of the study.

    Raises:
        StageError: A run failed, or the second one made something.
    """
    settings = () if is_whole else tuple(cut)
    turns = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="wit-overhead-") as folder:
            turns.append(run_twice(Path(folder), settings))
    return BenchResult(
        name="overhead",
        ours="wit run of the quickstart" + ("" if is_whole else ", cut"),
        baseline="",
        figures=figures_of(turns, load_runtime(RUNTIME, []).num_workers),
        sizes={"study": "quickstart", **dict(setting.split("=", 1) for setting in settings)},
        same_work={"stages": turns[0].num_stages},
        machine=machine_name(),
        versions=versions_of("torch", "transformers", "trl", "prefect", "mlflow"),
    )


def figures_of(turns: Sequence[Turn], num_workers: int) -> tuple[Figure, ...]:
    """Shares of the run that makes everything, and seconds around single stages."""
    shortest = min(turn.imports / turn.whole for turn in turns)
    nothing_before = "nothing is trained before what trains is imported"
    return (
        Figure(
            quantity="share of the time in which no model is at work",
            ours=tuple(1 - turn.in_models / turn.whole for turn in turns),
            at_most=0.1,
            limit=shortest,
            limit_is=nothing_before,
        ),
        Figure(
            quantity="share of the workers' time in which theirs is not",
            ours=tuple(1 - turn.of_workers / turn.whole / num_workers for turn in turns),
            limit=shortest,
            limit_is=nothing_before,
        ),
        Figure(
            quantity="s around a made stage",
            ours=tuple(turn.beside_stage for turn in turns),
            at_most=1,
        ),
        Figure(
            quantity="s of a reused stage",
            ours=tuple(turn.reused_stage for turn in turns),
            at_most=0.2,
        ),
    )


def run_twice(folder: Path, settings: Sequence[str]) -> Turn:
    """Makes the study below a folder, and runs it again.

    Raises:
        StageError: A run failed, or the second one made something.
    """
    environment = clean_environment(folder / "home")
    command = run_command(folder, settings)[3:]  # without the interpreter and its module
    whole = run([*WATCHED, str(folder / "made"), *command], folder, environment)
    workers, plan = read_stages(folder / "made"), plan_below(folder, settings)
    num_stages = sum(1 for _ in plan.artifacts())
    run([*WATCHED, str(folder / "again"), *command], folder, environment)
    num_again = sum(map(len, read_stages(folder / "again")))
    if num_again:
        raise StageError(f"the second run asked workers for {num_again} of {num_stages} stages")
    in_models = [interval for made in workers for stage in made for interval in stage.model]
    return Turn(
        whole=whole,
        in_models=seconds_in(in_models),
        of_workers=sum(seconds_in(stage.model) for made in workers for stage in made),
        imports=_seconds_to_import(folder),
        beside_stage=beside_stage(workers, seconds_of(plan)),
        reused_stage=reused_stage(folder / "home" / DATABASE),
        num_stages=num_stages,
    )


def seconds_of(plan: Plan) -> dict[str, float]:
    """How long each stage took, by fingerprint, as its record says."""
    return {
        artifact.fingerprint: float(read_record(artifact.path)["made"]["seconds"])
        for artifact, _ in plan.artifacts()
    }


def beside_stage(workers: Sequence[Sequence[MadeStage]], seconds: dict[str, float]) -> float:
    """What a worker spends from one stage to the next, beyond what the stage itself took.

    The median, for a worker that waits for what another one makes is not at fault.
    """
    return statistics.median(
        following.began - stage.began - seconds[stage.fingerprint]
        for made in workers
        for stage, following in pairwise(made)
    )


def reused_stage(database: Path) -> float:
    """Seconds of each reused stage, from the begin of the first to the end of the last.

    Args:
        database: Of Prefect's server.
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        found = opened.execute(
            "SELECT start_time, end_time FROM task_run WHERE state_name = 'Reused'"
        ).fetchall()
    times = [tuple(datetime.fromisoformat(text).timestamp() for text in row) for row in found]
    began, ended = (list(column) for column in zip(*times, strict=True))
    return (max(ended) - min(began)) / len(times)


def _seconds_to_import(folder: Path) -> float:
    environment = script_environment(folder, load_runtime(RUNTIME, []))
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], env=environment, check=True)
    return time.perf_counter() - started
