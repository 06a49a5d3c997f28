"""What a run was asked for: completed by its deployment, and refused where it is wrong."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.runtime import deployment, flow_run
from prefect.states import Failed

from wit.config import Runtime
from wit.deployments import GPU_POOL, WORK_POOL
from wit.errors import InputError
from wit.forms import StudyRequest
from wit.plan import Plan
from wit.settings import Settings
from wit.worker_environment import visible_gpus

T = TypeVar("T", bound=Settings)
REQUEST = "request"  # the only parameter of every deployed flow


def as_deployed(request: T) -> T:
    """The request, and what its deployment says about fields that it leaves open.

    Prefect replaces parameters whole: a run that asks for other seeds would lose the deployment's
    study and runtime.

    Raises:
        pydantic.ValidationError: The deployment says what is no value of a field.
    """
    if deployment.id is None:
        return request
    given = request.model_dump(mode="json", exclude_unset=True)
    return type(request).model_validate(merged(_as_applied(deployment.id, flow_run.id), given))


@lru_cache(maxsize=1)
def _as_applied(deployment_id: str, _flow_run_id: str | None) -> dict[str, Any]:
    """The request of a deployment, which a run asks for twice: for its name, and for its work."""
    with get_client(sync_client=True) as client:
        return client.read_deployment(UUID(deployment_id)).parameters.get(REQUEST) or {}


def run_name() -> str:
    """What the run that begins is called: as its study and cell are after all overrides."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.parameters is not None
    request = context.parameters[REQUEST]
    with suppress(Exception):  # of a request that cannot be completed the run says why
        request = as_deployed(request)
    return request.label


def check_place(plan: Plan, runtime: Runtime) -> None:
    """Passes if a study may make its cells where it runs.

    The GPUs of a machine are given to workers of the other pool, one run at a time on each. A run
    of this pool knows nothing of those; its trainings would share a GPU with theirs.

    Raises:
        InputError: A worker of studies took this run, and its machine has GPUs.
    """
    if runtime.execution != "local" or runtime.device == "cpu" or not visible_gpus():
        return
    if not plan.to_make or _pool() != WORK_POOL:
        return
    raise InputError(
        f"runtime execution = local: a worker of the pool {WORK_POOL} has this run, and the GPUs "
        f"of its machine are for the workers of {GPU_POOL}: two trainings could share one. Choose "
        "execution (in the form: Cells run) = deployments, or device = cpu; or 'wit run' in a "
        "terminal, on GPUs that nobody else uses"
    )


def _pool() -> str | None:
    """The work pool from which a worker took this run; none, if no worker did."""
    if flow_run.id is None or deployment.id is None:
        return None
    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(flow_run.id)).work_pool_name


def refused(error: InputError) -> State:
    """The end of a run whose input is wrong: the complaint is its message, and an artifact."""
    said = "\n".join(f"    {line}" for line in str(error).splitlines())
    create_markdown_artifact(
        f"The input of this run is wrong; nothing was made.\n\n{said}\n", "wrong-input"
    )
    return Failed(message=str(error), data=error)


def handed_on(request: StudyRequest) -> dict[str, Any]:
    """What a study's request says that holds for its parts, wherever those run.

    Paths are absolute, for a worker runs in another folder. The artifact root goes with them if it
    is not that of the runtime file, which each machine reads for itself.
    """
    names = ("study", "study_file", "device", "runtime_file", "runtime_settings")
    common = {name: getattr(request, name) for name in names if name in request.model_fields_set}
    settings = [text.partition("=")[0].strip() for text in request.runtime_settings]
    if request.runtime_file:
        common["runtime_file"] = str(Path(request.runtime_file).resolve())
    else:
        common.pop("runtime_file", None)
    if not request.runtime_file or "artifact_root" in settings:
        root = request.load_runtime().artifact_root.resolve()
        common["runtime_settings"] = [*request.runtime_settings, f"artifact_root={root}"]
    return common


def merged(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Both, all the way down; where they differ, what was given. Lists are replaced whole."""
    both = {**base, **given}
    for key in base.keys() & given.keys():
        if isinstance(base[key], dict) and isinstance(given[key], dict):
            both[key] = merged(base[key], given[key])
    return both
