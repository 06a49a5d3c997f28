"""Models that a study has made, evaluated; nothing is trained."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.cell import make_handed, submit_data, submit_evaluations
from tasks.report import begin, conclude, outcomes
from tasks.requests import as_deployed, refused, run_name
from tasks.secrets import with_judge_key
from wit.artifacts import Artifact
from wit.errors import InputError
from wit.forms import EvaluationRequest
from wit.plan import Plan, make_plan
from wit.workers import workers_for


@flow(name="evaluation", flow_run_name=lambda: f"evaluate {run_name()}")
def run_evaluation(request: EvaluationRequest) -> State:
    """Every model of a study that exists, on the study's benchmarks or on others.

    Args:
        request: Which study and models, on which benchmarks, and how it runs.
    """
    try:
        request = as_deployed(request)
        runtime = request.load_runtime()
        plan = make_plan(request.load_study(), runtime)
        runtime = with_judge_key(plan, runtime)
        if request.handed:
            return make_handed(plan, request.handed, runtime)
        plan = plan.trained
        models = _models(plan, request)
        run = begin(plan, runtime)
    except InputError as error:
        return refused(error)
    with workers_for(plan.study.name, runtime) as workers:
        futures = submit_data(plan, run, workers)
        for name, evaluations in models:
            futures |= submit_evaluations(evaluations, name, run, futures, workers)
        return conclude(plan, runtime, run, outcomes(plan, futures))


def _models(plan: Plan, request: EvaluationRequest) -> list[tuple[str, tuple[Artifact, ...]]]:
    """Evaluations of the models that exist, by the model's name.

    Raises:
        InputError: None exists.
    """
    found = [
        (name, evaluations)
        for cell in plan.cells
        for model, name, evaluations in cell.measured
        if model.stage in request.models and plan.is_made(model)
    ]
    if not found and request.models != ["base"]:
        wanted = " and ".join(stage for stage in request.models if stage != "base")
        raise InputError(
            f"models: study {plan.study.name} has no {wanted} model in "
            f"{plan.tokenizer.root}, so there is nothing to evaluate; run the study first"
        )
    return [("base", plan.base_evaluations)] * ("base" in request.models) + found
