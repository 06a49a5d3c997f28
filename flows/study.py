"""The whole study: data, then every cell, then one table and one report."""

# Prefect's annotation of `submit` does not know `wait_for`.
# pyright: reportCallIssue=false

from collections import deque
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import wait

from flows.cell import Futures, submit_cell, submit_data
from tasks.report import begin, conclude
from wit.lineage import StudyRun
from wit.loading import load_runtime, load_study
from wit.plan import Plan, make_plan
from wit.workers import Workers, workers_for


@flow(name="study", flow_run_name="{study_file}")
def run_study(
    study_file: str,
    overrides: list[str] | None = None,
    runtime_file: str | None = None,
    runtime_overrides: list[str] | None = None,
) -> State:
    """Every cell of a study file, evaluated before and after DPO.

    Args:
        study_file: A YAML file such as configs/studies/quickstart.yaml.
        overrides: ``key.path=value`` settings on top of the study file.
        runtime_file: A YAML file such as configs/runtimes/cpu.yaml.
        runtime_overrides: ``key=value`` settings on top of the runtime file.
    """
    study = load_study(Path(study_file), overrides or [])
    runtime = load_runtime(Path(runtime_file) if runtime_file else None, runtime_overrides or [])
    plan = make_plan(study, runtime)
    run = begin(plan, runtime)
    with workers_for(study.name, runtime) as workers:
        data = submit_data(plan, run, workers)
        cells = _run_cells(plan, run, data, workers)
        return conclude(plan, runtime, run, {**data, **cells})


def _run_cells(plan: Plan, study: StudyRun, data: Futures, workers: Workers) -> Futures:
    """All cells, a few at a time: a thousand waiting tasks would help nobody."""
    done: Futures = {}
    open_cells: deque[Futures] = deque()
    for cell in plan.cells:
        if len(open_cells) > 2 * workers.runtime.num_workers:
            wait(list(open_cells.popleft().values()))
        futures = submit_cell(cell, study, data, workers)
        open_cells.append(futures)
        done |= futures
    return done
