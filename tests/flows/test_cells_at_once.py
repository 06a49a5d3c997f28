"""Studies of which several cells are trained at once, and what becomes of those that are not."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

from flow_runs import ended, plan_of, runtime_words, statuses
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import wait

from flows.study import _run_cells, run_study
from wit.artifacts import CHECKPOINTS, COMPLETE, TOGETHER
from wit.config import Runtime
from wit.errors import TrainingError
from wit.forms import StudyRequest
from wit.lineage import StudyRun
from wit.loading import load_study
from wit.plan import Plan, make_plan
from wit.stages import make_artifact
from wit.workers import Workers, workers_for

ADAPTER = "sft.adapter={rank: 4, tokens: none}"


def test_a_study_trains_its_cells_at_once(prefect: None, study_file: Path, tmp_path: Path) -> None:
    runtime = [*runtime_words(tmp_path), "cells_at_once=2"]
    request = StudyRequest(study_file=str(study_file), settings=[ADAPTER], runtime_settings=runtime)
    outcome = ended(run_study, request)
    plan = plan_of(study_file, tmp_path, ADAPTER)
    assert statuses(outcome) == {a.fingerprint: "made" for a, _ in plan.artifacts()}
    together = [cell.sft.fingerprint for cell in plan.cells]
    for cell in plan.cells:
        assert cell.sft.verified().record()["made"]["how"] == {"trained_together": together}
    assert not list(tmp_path.rglob("*.partial"))
    assert ended(run_study, request).counts == {"reused": len(outcome.stages)}


def tuned(study_file: Path, root: Path, *overrides: str) -> tuple[Plan, Runtime]:
    """A plan that ends with SFT, for which all is there."""
    runtime = Runtime(
        artifact_root=root,
        device="cpu",
        threads_per_worker=1,
        checkpoint_seconds=0.05,
        tracking_uri="http://127.0.0.1:9",
        cells_at_once=2,
    )
    plan = make_plan(load_study(study_file, [ADAPTER, *overrides]), runtime)
    for artifact in (plan.tokenizer, plan.instructions):
        make_artifact(artifact, runtime)
    cells = (replace(cell, aligned=(), sft_evaluations=()) for cell in plan.cells)
    return replace(plan, cells=tuple(cells)), runtime


def states_of(plan: Plan, workers: Workers) -> list[State]:
    """Of every cell's own SFT."""
    found: list[State] = []

    @flow
    def train_cells() -> None:
        study = StudyRun(plan.study.name, None, "0" * 12, None, plan.tokenizer.root)
        futures = _run_cells(plan, study, {}, workers)
        wait(list(futures.values()))
        found.extend(futures[cell.sft.fingerprint].state for cell in plan.cells)

    train_cells()
    return found


def test_cells_whose_common_process_is_killed_are_trained_by_themselves(
    prefect: None, study_file: Path, tmp_path: Path
) -> None:
    plan, runtime = tuned(study_file, tmp_path, "sft.num_epochs=20")
    pattern = f"sft/*.partial/{TOGETHER}/*/{CHECKPOINTS}/*/{COMPLETE}"

    def kill_half_way(workers: Workers) -> None:
        while not list(tmp_path.glob(pattern)):
            time.sleep(0.01)
        for executor in list(workers._executors.values()):
            for process in list(executor._processes.values()):
                os.kill(process.pid, signal.SIGKILL)

    with workers_for("x", runtime) as workers:
        killer = threading.Thread(target=kill_half_way, args=[workers])
        killer.start()
        states = states_of(plan, workers)
        killer.join()
    assert [state.message for state in states] == [f"made {c.sft.path}" for c in plan.cells]
    for cell in plan.cells:
        assert "how" not in cell.sft.verified().record()["made"]
    assert not list(tmp_path.rglob("*.partial"))


def test_each_cell_that_diverges_says_so_itself(
    prefect: None, study_file: Path, tmp_path: Path
) -> None:
    plan, runtime = tuned(study_file, tmp_path, "sft.learning_rate=1e30", "sft.num_epochs=4")
    with workers_for("x", runtime) as workers:
        states = states_of(plan, workers)
    errors = [state.result(raise_on_failure=False) for state in states]
    assert [type(error) for error in errors] == [TrainingError] * 2
    assert not list(tmp_path.rglob("*.partial"))


def test_one_that_is_there_is_no_part_of_a_group(
    prefect: None, study_file: Path, tmp_path: Path
) -> None:
    more = (
        "weights=[{prompt: 0, response: 1}, {prompt: 0.5, response: 1}, {prompt: 1, response: 1}]"
    )
    plan, runtime = tuned(study_file, tmp_path, more)
    first, *others = (cell.sft for cell in plan.cells)
    make_artifact(first, runtime)
    with workers_for("x", runtime) as workers:
        states = states_of(plan, workers)
    assert [state.name for state in states] == ["Reused", "Completed", "Completed"]
    assert states[1].message == f"made {others[0].path}, together: p0.5-r1-s0, p1-r1-s0"
    names = [sft.fingerprint for sft in others]
    assert all(sft.record()["made"]["how"] == {"trained_together": names} for sft in others)
