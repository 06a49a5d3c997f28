"""Weighted SFT, and the steps of alignment from each of its checkpoints."""

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.stage import RETRIES, run_stage
from wit.artifacts import Artifact
from wit.lineage import StudyRun
from wit.together import Group
from wit.workers import Workers

_log = logging.getLogger(__name__)


@task(
    task_run_name="{artifact.stage} {label}",
    cache_policy=NO_CACHE,
    **RETRIES,
)
def tune(
    artifact: Artifact,
    label: str,  # noqa: ARG001  for the run's name
    study: StudyRun,
    workers: Workers,
) -> State:
    """The base, tuned on the instructions; or a step of alignment.

    Steps are pairs made on policy, what the reference finds of the responses, and DPO.
    """
    state = run_stage(artifact, study, workers)
    if state.name == "Reused" and artifact.fingerprint in workers.made_together:
        cells = workers.made_together[artifact.fingerprint]
        return Completed(message=f"made {artifact.path}, together: {cells}")
    return state


@task(task_run_name="tune together {label}", cache_policy=NO_CACHE)
def tune_together(
    group: Group,
    label: str,  # noqa: ARG001  for the run's name
    study: StudyRun,
    workers: Workers,
) -> State:
    """SFT of several cells at once. What it does not make, for whatever reason, ``tune`` makes."""
    made = workers.make_together([cell.sft for cell in group], study)
    cells = ", ".join(str(cell.cell) for cell in group if cell.sft.fingerprint in made)
    workers.made_together |= dict.fromkeys(made, cells)
    said = f"made together with one another: {cells}" if made else "nothing was left to make"
    _log.info("%s", said)
    return Completed(message=said)
