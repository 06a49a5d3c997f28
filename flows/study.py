"""The whole study: data, then every cell (a search round by round), one table and one report."""

from collections import deque

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait

from flows.cell import (
    Futures,
    submit_cell,
    submit_data,
    submit_evaluations,
    submit_together,
)
from tasks.handing_out import check_deployed, hand_out
from tasks.report import begin, conclude, import_after, next_round, outcomes, undecided
from tasks.requests import as_deployed, check_place, refused, run_name
from tasks.secrets import with_judge_key
from wit.errors import InputError
from wit.evaluation_recipes import JudgeEvaluation
from wit.forms import StudyRequest
from wit.lineage import StudyRun
from wit.outcome import StageOutcome
from wit.plan import Plan, make_plan
from wit.together import groups_of
from wit.workers import Workers, workers_for


@flow(name="study", flow_run_name=run_name)
def run_study(request: StudyRequest) -> State:
    """Every cell of a study, evaluated before and after DPO.

    Args:
        request: Which study, what is to differ from its file, and how it runs.
    """
    try:
        request = as_deployed(request)
        runtime = request.load_runtime()
        plan = make_plan(request.load_study(), runtime)
        runtime = with_judge_key(plan, runtime)
        check_deployed(runtime)
        check_place(plan, runtime)
        run = begin(plan, runtime)
    except InputError as error:
        return refused(error)
    with workers_for(plan.study.name, runtime) as workers:
        made = submit_data(plan, run, workers)
        if runtime.execution == "local":
            made |= submit_evaluations(plan.base_evaluations, "base", run, made, workers)
        handed: dict[str, StageOutcome] = {}
        while True:  # once, but for a search
            if runtime.execution == "local":
                made |= _run_cells(plan, run, made, workers)
            else:
                wait([made[artifact.fingerprint] for artifact in plan.data])
                found = hand_out(plan, run, request, handed)
                handed = {outcome.fingerprint: outcome for outcome in found} | handed
            stages = (*outcomes(plan, made), *handed.values())
            try:
                further = next_round(plan, runtime, run, stages) if plan.search else plan
            except InputError as error:
                return conclude(plan, runtime, run, (*stages, undecided(error)))
            if further.fingerprints == plan.fingerprints:
                return conclude(plan, runtime, run, stages)
            plan = further


def _run_cells(plan: Plan, study: StudyRun, data: Futures, workers: Workers) -> Futures:
    """All cells, a few at a time: a thousand waiting tasks would help nobody."""
    done: Futures = {}
    open_cells: deque[list[PrefectFuture]] = deque()
    groups = {
        cell.sft.fingerprint: group for group in groups_of(plan, workers.runtime) for cell in group
    }
    together: Futures = {}
    for cell in plan.cells:
        if len(open_cells) > 2 * workers.runtime.num_workers:
            wait(open_cells.popleft())
        sft = cell.sft.fingerprint
        if sft in groups and sft not in together:
            together |= submit_together(groups[sft], study, data, workers)
        futures = submit_cell(cell, study, data, workers, together.get(sft))
        if cell is plan.cells[0]:
            import_after(futures[cell.trainings[0].fingerprint])
        # Judges are asked beside the models, and may be slow.
        judged = {a.fingerprint for a in cell.artifacts if isinstance(a.recipe, JudgeEvaluation)}
        open_cells.append([future for key, future in futures.items() if key not in judged])
        done |= futures
    return done
