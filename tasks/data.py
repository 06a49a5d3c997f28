"""Tokenizer, instructions and preferences."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from tasks.stage import run_stage, worker_died
from wit.artifacts import Artifact
from wit.lineage import StudyRun
from wit.workers import Workers


@task(
    task_run_name="{artifact.stage}",
    tags=["data"],
    cache_policy=NO_CACHE,
    retries=1,
    retry_condition_fn=worker_died,
)
def prepare(artifact: Artifact, study: StudyRun, workers: Workers) -> State:
    """The tokenizer of a study, or rows tokenised with it."""
    return run_stage(artifact, study, workers)
