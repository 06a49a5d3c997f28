"""One cell of a study: SFT with one pair of weights and one seed, DPO from it, all evaluated."""

# Prefect's annotation of `submit` does not know `wait_for`.
# pyright: reportCallIssue=false

from typing import Any

from prefect import allow_failure, flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

from tasks.data import prepare
from tasks.evaluation import evaluate, measures
from tasks.parts import hand_back, handed_part
from tasks.report import begin, conclude, ended, outcomes
from tasks.requests import as_deployed, refused, run_name
from tasks.secrets import with_judge_key
from tasks.training import tune, tune_together
from wit.artifacts import Artifact
from wit.cell_plan import CellPlan
from wit.config import Runtime
from wit.errors import InputError
from wit.form_fields import Handed
from wit.forms import CellRequest
from wit.lineage import StudyRun
from wit.machine import check_machine
from wit.plan import Plan, make_plan
from wit.together import Group
from wit.workers import Workers, workers_for

Futures = dict[str, PrefectFuture]  # by fingerprint


def parents_of(artifact: Artifact, futures: Futures) -> list[PrefectFuture]:
    """What a stage waits for: those of its parents that are made in this run, and nothing else."""
    parents = (parent.fingerprint for parent in artifact.parents.values())
    return [futures[fingerprint] for fingerprint in parents if fingerprint in futures]


def submit_data(
    plan: Plan, study: StudyRun, workers: Workers, *, has_overlap: bool = True
) -> Futures:
    """What all cells share, and the overlap, which feeds none."""
    futures: Futures = {}
    for data in plan.shared:
        if data.stage != "evaluation" and (has_overlap or data is not plan.overlap):
            waits = parents_of(data, futures)
            futures[data.fingerprint] = prepare.submit(data, study, workers, wait_for=waits)
    return futures


def submit_evaluations(
    evaluations: tuple[Artifact, ...], model: str, study: StudyRun, done: Futures, workers: Workers
) -> Futures:
    """All that is measured on one model; of the base, no cell waits for it."""
    made: Futures = {}
    for artifact in evaluations:  # a judge waits for the responses, which come before it
        if artifact.fingerprint in done:
            continue
        waits = parents_of(artifact, {**done, **made})
        made[artifact.fingerprint] = evaluate.submit(
            artifact, measures(artifact), model, study, workers, wait_for=waits
        )
    return made


def submit_together(group: Group, study: StudyRun, data: Futures, workers: Workers) -> Futures:
    """SFT of several cells at once; the one future is that of each."""
    label, waits = ", ".join(str(cell.cell) for cell in group), parents_of(group[0].sft, data)
    future = tune_together.submit(group, label, study, workers, wait_for=waits)
    return {cell.sft.fingerprint: future for cell in group}


def submit_cell(
    cell: CellPlan,
    study: StudyRun,
    data: Futures,
    workers: Workers,
    together: PrefectFuture | None = None,
) -> Futures:
    """SFT, every alignment of it, and the evaluations of all; nothing that is in ``data``.

    Args:
        cell: Which one.
        study: For whom.
        data: What is made already, or is being made.
        workers: Who makes it.
        together: What may make its SFT beside others; however it ends, the cell goes on then.
    """
    futures, labels = dict(data), cell.labels
    before: Artifact | None = None
    for artifact in (*cell.trainings, *cell.alignment_steps):
        if artifact.fingerprint not in futures:
            label = labels[artifact.fingerprint]
            waits: list[Any] = [*parents_of(artifact, futures)]
            if before in cell.rungs:  # from which it goes on
                waits.append(futures[before.fingerprint])
            if artifact is cell.sft and together is not None:
                waits.append(allow_failure(together))
            made = tune.submit(artifact, label, study, workers, wait_for=waits)
            futures[artifact.fingerprint] = made
        before = artifact
    for _, name, evaluations in cell.measured:
        futures |= submit_evaluations(evaluations, name, study, futures, workers)
    return {artifact.fingerprint: futures[artifact.fingerprint] for artifact in cell.artifacts}


def make_handed(plan: Plan, handed: Handed, runtime: Runtime) -> State:
    """A part of a study that runs elsewhere, which writes the report.

    Raises:
        InputError: This worker would make another part, or cannot make it.
    """
    part, study = handed_part(plan, handed), handed.study_run(plan.study, runtime)
    check_machine(plan, runtime)
    with workers_for(plan.study.name, runtime, part.name) as workers:
        workers.warm_up()
        data = submit_data(plan, study, workers, has_overlap=False)
        made = (
            submit_evaluations(plan.base_evaluations, "base", study, data, workers)
            if part.planned is None
            else submit_cell(part.planned, study, data, workers)
        )
        told = outcomes(part.seen_in(plan), {**data, **made})
        return ended(hand_back(plan, workers, study, told))


@flow(name="cell", flow_run_name=run_name)
def run_cell(request: CellRequest) -> State:
    """One cell of a study, whose weights need not be in the study's grid.

    Args:
        request: Which study and which cell, what is to differ from its file, and how it runs.
    """
    try:
        request = as_deployed(request)
        runtime = request.load_runtime()
        plan = make_plan(request.load_study(), runtime)
        runtime = with_judge_key(plan, runtime)
        if request.handed:
            return make_handed(plan, request.handed, runtime)
        run = begin(plan, runtime)
    except InputError as error:
        return refused(error)
    with workers_for(plan.study.name, runtime) as workers:
        data = submit_data(plan, run, workers)
        data |= submit_evaluations(plan.base_evaluations, "base", run, data, workers)
        cell = submit_cell(plan.cells[0], run, data, workers)
        return conclude(plan, runtime, run, outcomes(plan, {**data, **cell}))
