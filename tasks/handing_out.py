"""A study whose parts other machines make: asks a Prefect server for their runs, and waits."""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelling

from tasks.parts import STAGES, Part, parts_of
from tasks.requests import REQUEST, handed_on
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.errors import InputError
from wit.form_fields import Handed, Weights
from wit.forms import CellRequest, EvaluationRequest, StudyRequest
from wit.lineage import StudyRun
from wit.outcome import StageOutcome
from wit.plan import Plan
from wit.provenance import commit
from wit.sharing import is_found

CELL, EVALUATION = "cell/cell", "evaluation/evaluation"
POLL_SECONDS = 2.0
MAX_ATTEMPTS = 3  # of a part whose machine went away, the first one included
MAX_READ = 200  # flow runs that the server tells of at once
SILENT_SECONDS = 600.0  # for so long a server may give no answer: it is busy, or started anew
P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger(__name__)


class _Awaited(NamedTuple):
    part: Part
    run_id: UUID
    is_ours: bool  # no other study waits for it
    num_attempts: int


def check_deployed(runtime: Runtime) -> None:
    """Passes if parts can be handed out, or need not be.

    Raises:
        InputError: The Prefect server has no deployments of wit.
    """
    if runtime.execution == "local":
        return
    with get_client(sync_client=True) as client:
        for name in (CELL, EVALUATION):
            try:
                client.read_deployment_by_name(name)
            except ObjectNotFound:
                raise InputError(
                    f"runtime execution = deployments: the Prefect server at {client.api_url} has "
                    f"no deployment {name}. 'wit up' starts one that has; or --set-runtime "
                    "execution=local"
                ) from None


def hand_out(
    plan: Plan, study: StudyRun, request: StudyRequest, told: Collection[str] = ()
) -> tuple[StageOutcome, ...]:
    """Has workers make every part that is not complete; waits for them.

    A part that another study has asked for already is waited for and not asked for again. One
    whose machine went away is handed out again.

    Args:
        plan: Of the study.
        study: Its run.
        request: Of the study.
        told: Fingerprints of stages whose outcome is known from an earlier round of this run; a
            part of such stages alone is left out.
    """
    parts = [part for part in parts_of(plan) if not _is_told(part, told)]
    if not all(map(plan.is_made, plan.data)):
        return tuple(_outcome(part, a, "blocked") for part in parts for a in part.artifacts)
    runtime, common = request.load_runtime(), handed_on(request)
    complete = [part for part in parts if all(map(plan.is_made, part.artifacts))]
    found = {part.name: [_outcome(part, a, "reused") for a in part.artifacts] for part in complete}
    with get_client(sync_client=True) as client:
        waiting: list[_Awaited] = []
        with _cancelled_with_us(client, waiting):
            for part in parts:
                if part not in complete:
                    asked = _patiently(_ask_for, client, part, plan, study, common, 1)
                    waiting.append(asked)
            while waiting:
                time.sleep(POLL_SECONDS)
                for awaited, run in _patiently(_ended, client, waiting):
                    part, number = awaited.part, awaited.num_attempts + 1
                    if number <= MAX_ATTEMPTS and _patiently(_was_lost, client, run):
                        _log.warning("%s: %s; handed out again", part.name, run and run.state)
                        again = _patiently(_ask_for, client, part, plan, study, common, number)
                        waiting.append(again)
                    else:
                        found[part.name] = _patiently(_outcomes, client, part, run, runtime)
                    waiting.remove(awaited)
    return tuple(outcome for part in parts for outcome in found[part.name])


def _is_told(part: Part, told: Collection[str]) -> bool:
    return bool(told) and all(artifact.fingerprint in told for artifact in part.artifacts)


def _ask_for(
    client: SyncPrefectClient,
    part: Part,
    plan: Plan,
    study: StudyRun,
    common: dict[str, Any],
    attempt: int,
) -> _Awaited:
    """A run that makes the part: one that is under way, or a new one."""
    known = client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"tags": {"all_": [part.tag]}}),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
    )
    for run in known:
        # One that is being cancelled comes to no end of its own; locks hold off its successor.
        if run.state is None or not (run.state.is_final() or run.state.is_cancelling()):
            is_ours = _asker(client, run) in ("this", "an ended one")
            return _Awaited(part, run.id, is_ours, attempt)
    # Of two studies that ask at the same time for the run after the last one, the server gives
    # both the same one.
    last = known[0].id if known else "none"
    run: Any = run_deployment(  # a coroutine only where asyncio runs
        EVALUATION if part.cell is None else CELL,
        parameters={REQUEST: _request(part, plan, study, common)},
        tags=[part.tag],
        idempotency_key=f"{part.tag}-{last}",
        flow_run_name=f"{plan.study.name} {part.name}",  # until it starts, which may be hours
        timeout=0,
    )
    return _Awaited(part, run.id, True, attempt)


def _request(part: Part, plan: Plan, study: StudyRun, common: dict[str, Any]) -> dict[str, Any]:
    """The form of the part's run, filled in; what is left out is its deployment's."""
    handed = Handed(
        part=part.name,
        study=json.dumps(plan.study.stated()),
        version=study.version,
        run_id=study.run_id,
        run_url=study.url,
        fingerprint=part.fingerprint,
        commit=commit(),
    )
    form: CellRequest | EvaluationRequest
    if part.cell is None:
        form = EvaluationRequest(**common, models=["base"], handed=handed)
    else:
        pair = Weights(prompt=part.cell.weights.prompt, response=part.cell.weights.response)
        form = CellRequest(**common, weights=pair, seed=part.cell.seed, handed=handed)
    return form.model_dump(mode="json", exclude_unset=True)


@contextmanager
def _cancelled_with_us(client: SyncPrefectClient, waiting: list[_Awaited]) -> Iterator[None]:
    """If this run is ended, so are those that it has asked for."""
    try:
        yield
    except BaseException:
        for awaited in waiting:
            if awaited.is_ours:
                with _as_warning(f"the run of {awaited.part.name} goes on"):
                    client.set_flow_run_state(awaited.run_id, Cancelling())
        raise


@contextmanager
def _as_warning(said: str) -> Iterator[None]:
    """For what must not keep others from being ended: a run was deleted, the server is busy."""
    try:
        yield
    except Exception as error:
        _log.warning("%s: %s", said, error)


def _ended(
    client: SyncPrefectClient, waiting: Sequence[_Awaited]
) -> list[tuple[_Awaited, FlowRun | None]]:
    """Those that have ended, each with its run; without one if somebody deleted that."""
    ended: list[tuple[_Awaited, FlowRun | None]] = []
    for start in range(0, len(waiting), MAX_READ):
        some = waiting[start : start + MAX_READ]
        wanted = {"id": {"any_": [awaited.run_id for awaited in some]}}
        read = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))
        runs = {run.id: run for run in read}
        for awaited in some:
            run = runs.get(awaited.run_id)
            if run is None or (run.state is not None and run.state.is_final()):
                ended.append((awaited, run))
    return ended


def _was_lost(client: SyncPrefectClient, run: FlowRun | None) -> bool:
    """Whether a run's machine went away, or the study that had asked for it.

    One that this study asked for and that was cancelled all the same was cancelled by a person.
    """
    if run is None or run.state is None or run.state.is_crashed():
        return True
    return run.state.is_cancelled() and _asker(client, run) in ("another", "an ended one")


def _asker(
    client: SyncPrefectClient, run: FlowRun
) -> Literal["this", "another", "an ended one", "nobody"]:
    """The study that asked for a run: this one, at whichever attempt, or which else."""
    if run.parent_task_run_id is None:
        return "nobody"
    try:
        study = client.read_task_run(run.parent_task_run_id).flow_run_id
        if study is None:
            return "nobody"
        if str(study) == flow_run.id:
            return "this"
        state = client.read_flow_run(study).state
    except ObjectNotFound:  # it was deleted
        return "an ended one"
    return "an ended one" if state is not None and state.is_final() else "another"


def _patiently(ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Asks the server again, for some minutes, if it fails to answer.

    Else one question that a busy server left unanswered would end the study and all its parts.

    Raises:
        httpx.HTTPError: It gives no answer at all, or what we ask is wrong.
    """
    deadline = time.monotonic() + SILENT_SECONDS
    while True:
        try:
            return ask(*args, **kwargs)
        except httpx.HTTPError as error:
            is_wrong = isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error
            if is_wrong or time.monotonic() > deadline:
                raise
            _log.warning("the Prefect server gave no answer, and is asked again: %s", error)
            time.sleep(POLL_SECONDS)


def _outcomes(
    client: SyncPrefectClient, part: Part, run: FlowRun | None, runtime: Runtime
) -> list[StageOutcome]:
    """What became of each stage of a part: as its run told, else as root and store tell."""
    told = {stage.fingerprint: stage for stage in _told(client, run)} if run else {}
    said = "its flow run was deleted"
    if run and run.state:
        said = f"flow run {run.name} is {run.state.name}: {run.state.message}"
    found: list[StageOutcome] = []
    for artifact in part.artifacts:
        stage = told.get(artifact.fingerprint)
        if stage is None and is_found(artifact, runtime):
            stage = _outcome(part, artifact, "made")
        if stage is None:
            is_first = all(other.status in ("made", "reused") for other in found)
            stage = _outcome(part, artifact, "failed" if is_first else "blocked", said)
        found.append(stage)
    return found


def _told(client: SyncPrefectClient, run: FlowRun) -> Iterable[StageOutcome]:
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter.model_validate({"key": {"any_": [STAGES]}}),
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run.id]}}),
        sort=ArtifactSort.CREATED_DESC,  # a run that was retried has told twice
    )
    for artifact in found[:1]:
        yield from map(StageOutcome.model_validate, json.loads(str(artifact.data)))


def _outcome(part: Part, artifact: Artifact, status: str, message: str = "") -> StageOutcome:
    return StageOutcome.model_validate(
        {
            "stage": artifact.stage,
            "cell": part.cell and str(part.cell),
            "alignment": part.alignments.get(artifact.fingerprint),
            "fingerprint": artifact.fingerprint,
            "status": status,
            "message": message,
        }
    )
