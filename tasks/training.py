"""Weighted SFT, and the steps of alignment from each of its checkpoints."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from tasks.stage import RETRIES, run_stage
from wit.artifacts import Artifact
from wit.lineage import StudyRun
from wit.workers import Workers


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
    return run_stage(artifact, study, workers)
