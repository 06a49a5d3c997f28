"""One cell of a study: SFT with one pair of weights and one seed, DPO from it, both evaluated."""

# Prefect's annotation of `submit` does not know `wait_for`.
# pyright: reportCallIssue=false

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

from tasks.data import prepare
from tasks.evaluation import evaluate
from tasks.report import begin, conclude
from tasks.training import train_dpo, train_sft
from wit.artifacts import Artifact
from wit.lineage import StudyRun
from wit.loading import load_runtime, load_study
from wit.plan import CellPlan, Plan, make_plan
from wit.workers import Workers, workers_for

Futures = dict[str, PrefectFuture]  # by fingerprint


def parents_of(artifact: Artifact, futures: Futures) -> list[PrefectFuture]:
    """What a stage waits for: those of its parents that are made in this run, and nothing else."""
    parents = (parent.fingerprint for parent in artifact.parents.values())
    return [futures[fingerprint] for fingerprint in parents if fingerprint in futures]


def submit_data(plan: Plan, study: StudyRun, workers: Workers) -> Futures:
    """Everything that belongs to no cell; the overlap and the evaluation of the base feed none."""
    futures: Futures = {}
    for data in plan.shared:
        waits = parents_of(data, futures)
        future = (
            evaluate.submit(data, "base", study, workers, wait_for=waits)
            if data is plan.base_evaluation
            else prepare.submit(data, study, workers, wait_for=waits)
        )
        futures[data.fingerprint] = future
    return futures


def submit_cell(cell: CellPlan, study: StudyRun, data: Futures, workers: Workers) -> Futures:
    """SFT, DPO from it, and the evaluation of both."""
    label, futures = str(cell.cell), dict(data)
    for artifact, train in ((cell.sft, train_sft), (cell.dpo, train_dpo)):
        futures[artifact.fingerprint] = train.submit(
            artifact, cell.cell, study, workers, wait_for=parents_of(artifact, futures)
        )
    for artifact, stage in ((cell.sft_evaluation, "sft"), (cell.dpo_evaluation, "dpo")):
        futures[artifact.fingerprint] = evaluate.submit(
            artifact, f"{stage} {label}", study, workers, wait_for=parents_of(artifact, futures)
        )
    return {artifact.fingerprint: futures[artifact.fingerprint] for artifact in cell.artifacts}


@flow(name="cell", flow_run_name="{study_file} p{prompt_weight} r{response_weight} s{seed}")
def run_cell(
    study_file: str,
    prompt_weight: float,
    response_weight: float,
    seed: int = 0,
    overrides: list[str] | None = None,
    runtime_file: str | None = None,
) -> State:
    """One cell of a study file; its weights need not be in the file's grid.

    Args:
        study_file: A YAML file such as configs/studies/quickstart.yaml.
        prompt_weight: Loss weight of prompt tokens.
        response_weight: Loss weight of response tokens.
        seed: Of the order of rows, in SFT and in DPO.
        overrides: ``key.path=value`` settings on top of the study file.
        runtime_file: A YAML file such as configs/runtimes/cpu.yaml.
    """
    point = [
        f"weights=[{{prompt: {prompt_weight}, response: {response_weight}}}]",
        f"seeds=[{seed}]",
    ]
    study = load_study(Path(study_file), [*(overrides or []), *point])
    # A study of its own: it must not take the place of the whole one in tables and reports.
    name = f"{study.name}-{study.cells[0]}"
    study = study.model_copy(update={"name": name[-80:].lstrip("-._")})
    runtime = load_runtime(Path(runtime_file) if runtime_file else None)
    plan = make_plan(study, runtime)
    run = begin(plan, runtime)
    with workers_for(study.name, runtime) as workers:
        data = submit_data(plan, run, workers)
        cell = submit_cell(plan.cells[0], run, data, workers)
        return conclude(plan, runtime, run, {**data, **cell})
