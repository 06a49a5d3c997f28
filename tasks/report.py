"""Before the first stage and after the last one: the study's MLflow run, table and report."""

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed, Failed

from wit import lineage
from wit.artifacts import versions
from wit.config import Runtime
from wit.errors import InputError, StudyFailedError
from wit.lineage.addresses import shown
from wit.machine import check_machine
from wit.outcome import REPORT, StageOutcome, StudyOutcome, save_study, study_folder
from wit.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

    from wit.analysis.data_summary import DataSummary


@task(task_run_name="begin", cache_policy=NO_CACHE)
def begin(plan: Plan, runtime: Runtime) -> lineage.StudyRun:
    """The MLflow run on top of the study, and its links to all that exists already.

    Raises:
        InputError: This machine cannot do what is asked for, or the store is not MLflow's.
    """
    check_machine(plan, runtime)
    uri = lineage.tracking_uri(runtime)
    folder = study_folder(runtime, plan.study.name)
    save_study(plan.study, folder)
    lineage.prepare(uri)
    artifacts = [artifact for artifact, _ in plan.artifacts()]
    run = lineage.start_study(plan.study, artifacts, uri)
    save_study(plan.study, folder, run.version)
    lineage.link(artifacts, run, uri)
    return run


def conclude(
    plan: Plan, runtime: Runtime, run: lineage.StudyRun, futures: dict[str, PrefectFuture]
) -> State:
    """Waits for every stage, writes the report, and says what became of the study."""
    wait(list(futures.values()))
    stages = tuple(
        _outcome(artifact.stage, str(cell) if cell else None, artifact.fingerprint, future.state)
        for artifact, cell in plan.artifacts()
        if (future := futures.get(artifact.fingerprint))
    )
    outcome = report(plan, runtime, run, stages)
    if outcome.failures:
        causes = "; ".join(f"{s.stage} {s.cell or ''}: {s.message}" for s in outcome.failures)
        error = StudyFailedError(f"{outcome}: {causes}"[:1000])
        error.outcome = outcome
        return Failed(message=str(error), data=error)
    return Completed(message=str(outcome), data=outcome)


@task(task_run_name="report", cache_policy=NO_CACHE)
def report(
    plan: Plan, runtime: Runtime, run: lineage.StudyRun, stages: tuple[StageOutcome, ...]
) -> StudyOutcome:
    """The report of what is there, however much that is."""
    from wit.analysis.data_summary import DataSummary
    from wit.analysis.report import Extras, write_report

    study, uri = plan.study, lineage.tracking_uri(runtime)
    folder = study_folder(runtime, study.name)
    artifacts = [artifact for artifact, _ in plan.artifacts()]
    lineage.link(artifacts, run, uri)
    data = DataSummary.of_plan(plan)
    data.save(folder)
    outcome = StudyOutcome(
        study=study.name,
        version=run.version,
        stages=stages,
        report=str(folder / REPORT),
        tracking_uri=shown(uri),
        mlflow_url=run.url and shown(run.url),
        notes=_notes(data),
    )
    scores = lineage.scores_of_run(study, artifacts, run.version, uri)
    extras = Extras(tracking_uri=uri, versions=versions(), data=data)
    write_report(scores, study, extras, folder / REPORT)
    has_failed = any(stage.status in ("failed", "blocked") for stage in stages)
    lineage.end_study(run, uri, is_failed=has_failed, files=[folder / REPORT])
    if unsent := lineage.unsent_note(run.root, uri):
        outcome = outcome.model_copy(update={"notes": (*outcome.notes, unsent)})
    show_artifacts(plan, outcome, scores, folder / REPORT)
    return outcome


def show_artifacts(plan: Plan, outcome: StudyOutcome, scores: "pd.DataFrame", report: Path) -> None:
    """What the Prefect UI shows of the study: its summary, its cells, and a way to all else."""
    from wit.analysis.summary import cells_table, markdown_summary, plain

    name = _slug(plan.study.name)
    place = shown(outcome.mlflow_url or outcome.tracking_uri)
    about = plain(str(outcome))
    summary = markdown_summary(scores, str(report), place, plan.study)
    create_markdown_artifact(summary, f"report-{name}", description=about)
    create_table_artifact(cells_table(scores), f"cells-{name}", description=about)
    # A browser opens a file of this machine only by hand; a run on a server holds the report too.
    link, text = shown(outcome.mlflow_url or ""), "The study in MLflow, with its report"
    if not link:
        link, text = report.as_uri(), "The report"
    create_link_artifact(link, text, f"link-{name}", description=about)


def _notes(data: "DataSummary") -> tuple[str, ...]:
    overlap = data.overlap and data.overlap.sentence
    return (f"{overlap} (the report names them)",) if overlap else ()


def _outcome(stage: str, cell: str | None, fingerprint: str, state: State) -> StageOutcome:
    message, is_input_error = "", False
    if state.is_completed():
        status = "reused" if state.name == "Reused" else "made"
    elif state.name == "NotReady":
        status = "blocked"
    else:
        status = "failed"
        error = state.result(raise_on_failure=False)
        message, is_input_error = str(error), isinstance(error, InputError)
    return StageOutcome(
        stage=stage,
        cell=cell,
        fingerprint=fingerprint,
        status=status,
        message=message,
        is_input_error=is_input_error,
    )


def _slug(name: str) -> str:
    """The name in letters that the key of a Prefect artifact may have."""
    plain = (letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return "".join(plain)
