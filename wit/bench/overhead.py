"""What is spent around the stages: seconds of runs that workers make, beside those of stages."""

import platform
import random
import shutil
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import yaml
from rich.console import Console
from rich.table import Table

from wit.artifacts import read_record
from wit.bench.kill_storm_runs import UpRuns, wait_for
from wit.bench.kill_storm_study import STUDY, plan_of
from wit.errors import StageError
from wit.settings import Settings

SMALL: dict[str, Any] = {  # its trainings take about a second
    **STUDY,
    "name": "overhead",
    "instructions": {**STUDY["instructions"], "max_rows": 48},
    "preferences": {**STUDY["preferences"], "max_rows": 32},
    "weights": [{"prompt": 0, "response": 1}],
    "sft": {**STUDY["sft"], "num_epochs": 1},
}
PAGE = 200  # flow runs that the server tells of at once
MANY_SECONDS = 600.0  # at most until all cells are asked for


class Overhead(Settings):
    """Seconds on this machine; each of one run, but for the medians."""

    up: float  # `wit up`, until it is ready
    reused_stage: float  # median
    made_stage: float  # mean, beyond what the stage itself took; in a process that is warm
    cell: float  # through a worker, from being asked for to its end
    cell_stages: float  # of that its four stages
    reused_study: float  # through a worker, nothing is made
    num_cells: int
    many_cells: float  # a study of so many, from being asked for until workers know of all of them
    machine: str


def measure(num_cells: int, postgres: str | None) -> Overhead:
    """Runs a small study under a `wit up` in a temporary folder.

    Args:
        num_cells: Of the study that is only handed out.
        postgres: Both servers keep their runs there; None: in SQLite.

    Raises:
        StageError: A run failed; names the folder, which stays then.
    """
    folder = Path(tempfile.mkdtemp(prefix="wit-overhead-"))
    study_file = folder / "overhead.yaml"
    study_file.write_text(yaml.safe_dump(SMALL, sort_keys=False), encoding="utf-8")
    runs = UpRuns(folder, study_file, random.Random(0), postgres)
    try:
        found = _measure(runs, num_cells)
    except StageError as error:
        raise StageError(f"{error}; everything is in {folder}") from error
    finally:
        runs.end()
    shutil.rmtree(folder)
    return found


def _measure(runs: UpRuns, num_cells: int) -> Overhead:
    began = time.monotonic()
    runs.start()
    up = time.monotonic() - began
    _run(runs, [0])  # what is started for the first time takes longer
    _run(runs, [1])
    [cell] = _asked_for(runs)
    cell_stages, made_stage = _stages(runs, cell)
    _run(runs, [1])
    reused = runs.api("POST", "/task_runs/filter", _of(runs.run))
    reused = [task for task in reused if task["state"]["name"] == "Reused"]
    study = _study(runs)
    runs.begin(list(range(2, 2 + num_cells)))

    def are_asked_for() -> bool:
        return len(_asked_for(runs)) >= num_cells

    wait_for(f"{num_cells} cells to be asked for", are_asked_for, MANY_SECONDS)
    last = max(_time(run["created"]) for run in _asked_for(runs))
    return Overhead(
        up=round(up, 1),
        reused_stage=round(median(task["total_run_time"] for task in reused), 2),
        made_stage=round(made_stage, 2),
        cell=round(_seconds(cell), 1),
        cell_stages=round(cell_stages, 1),
        reused_study=round(_seconds(study), 1),
        num_cells=num_cells,
        many_cells=round((last - _time(_study(runs)["created"])).total_seconds(), 1),
        machine=f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores",
    )


def _run(runs: UpRuns, seeds: list[int]) -> None:
    """Runs the study with these seeds to its end."""
    runs.begin(seeds)
    wait_for("the study", lambda: runs.standing() != "running")
    if runs.standing() != "complete":
        raise StageError(f"the study has failed: {_study(runs)['state']['message']}")


def _study(runs: UpRuns) -> dict[str, Any]:
    return runs.api("GET", f"/flow_runs/{runs.run}")


def _of(run: str) -> dict[str, Any]:
    return {"flow_runs": {"id": {"any_": [run]}}, "limit": PAGE}


def _asked_for(runs: UpRuns) -> list[dict[str, Any]]:
    """Runs of cells that the newest study has asked for."""
    since = {"expected_start_time": {"after_": _study(runs)["created"]}}
    found: list[dict[str, Any]] = []
    while True:
        page = {"flow_runs": since, "offset": len(found), "limit": PAGE, "sort": "ID_DESC"}
        some = runs.api("POST", "/flow_runs/filter", page)
        found += some
        if len(some) < PAGE:
            return [run for run in found if run["parent_task_run_id"]]


def _stages(runs: UpRuns, cell: dict[str, Any]) -> tuple[float, float]:
    """Seconds of a cell's stages themselves; and of each one after the first, what is beyond that.

    A worker makes one stage after the other: between the ends of the first and of the last it has
    made all others, and the rest of that time is spent around them.
    """
    [planned] = plan_of(runs.study_file, runs.root, [1]).cells
    own = [read_record(artifact.path)["made"]["seconds"] for artifact in planned.artifacts]
    tasks = runs.api("POST", "/task_runs/filter", _of(cell["id"]))
    made = [
        task
        for task in tasks
        if task["name"].startswith(("sft", "pairs", "reference", "dpo", "evaluate"))
    ]
    first, *_, last = sorted(_time(task["end_time"]) for task in made)
    between = (last - first).total_seconds()
    return sum(own), (between - sum(own[1:])) / len(own[1:])


def _seconds(run: dict[str, Any]) -> float:
    """From being asked for to its end."""
    return (_time(run["end_time"]) - _time(run["created"])).total_seconds()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def show(console: Console, found: Overhead) -> None:
    """Prints a table, and what was aimed at."""
    table = Table(title="Around the stages")
    for column in ("", "s", "aim"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("wit up, until it is ready", f"{found.up:.1f}", "")
    table.add_row("a reused stage", f"{found.reused_stage:.2f}", "0.2")
    table.add_row("a made stage, beyond itself", f"{found.made_stage:.2f}", "1")
    table.add_row("a cell through a worker", f"{found.cell:.1f}", "20")
    table.add_row("  of that its stages", f"{found.cell_stages:.1f}", "")
    table.add_row("a study of which nothing is made", f"{found.reused_study:.1f}", "")
    table.add_row(f"{found.num_cells} cells asked for", f"{found.many_cells:.1f}", "60")
    console.print(table)
    console.print(found.machine)
