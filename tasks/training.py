"""Weighted SFT, and DPO from each of its checkpoints."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from tasks.stage import RETRIES, run_stage
from wit.artifacts import Artifact
from wit.lineage import StudyRun
from wit.workers import Workers


@task(
    task_run_name="sft {label}",
    cache_policy=NO_CACHE,
    **RETRIES,
)
def train_sft(
    artifact: Artifact,
    label: str,  # noqa: ARG001  for the run's name
    study: StudyRun,
    workers: Workers,
) -> State:
    """The base, tuned on the instructions with the cell's weights and seed."""
    return run_stage(artifact, study, workers)


@task(
    task_run_name="reference {label}",
    cache_policy=NO_CACHE,
    **RETRIES,
)
def score_reference(
    artifact: Artifact,
    label: str,  # noqa: ARG001  for the run's name
    study: StudyRun,
    workers: Workers,
) -> State:
    """What the cell's SFT model finds of the responses that DPO learns from."""
    return run_stage(artifact, study, workers)


@task(
    task_run_name="dpo {label}",
    cache_policy=NO_CACHE,
    **RETRIES,
)
def train_dpo(
    artifact: Artifact,
    label: str,  # noqa: ARG001  for the run's name
    study: StudyRun,
    workers: Workers,
) -> State:
    """Alignment of the cell's SFT model, which is also the frozen reference model."""
    return run_stage(artifact, study, workers)
