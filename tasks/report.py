"""Before the first stage and after the last one: the study's MLflow run, table and report."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
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
from wit.config import Runtime
from wit.errors import InputError, StudyFailedError
from wit.lineage.addresses import shown
from wit.lineage.elsewhere import link_elsewhere
from wit.machine import check_machine
from wit.outcome import (
    REPORT,
    StageOutcome,
    StudyOutcome,
    report_name,
    save_study,
    started_last,
    study_folder,
)
from wit.past import PastReport, rewrite_report
from wit.plan import Plan
from wit.provenance import versions
from wit.rungs import drop
from wit.sharing import RESULTS, bring, not_here, outline

if TYPE_CHECKING:
    from wit.analysis.data_summary import DataSummary

_log = logging.getLogger(__name__)


@task(task_run_name="begin", cache_policy=NO_CACHE)
def begin(plan: Plan, runtime: Runtime) -> lineage.StudyRun:
    """The MLflow run on top of the study, and its links to all that exists already.

    Raises:
        InputError: This machine cannot do what is asked for, or the store is not MLflow's.
    """
    if runtime.execution == "local":  # else those who make the parts look at their own machines
        check_machine(plan, runtime)
    uri = lineage.tracking_uri(runtime)
    lineage.prepare(uri)
    run = lineage.start_study(plan.study, plan.whole, uri, plan.begun)
    save_study(plan.study, study_folder(runtime, plan.study.name), run.version)
    lineage.link([artifact for artifact, _ in plan.artifacts()], run, uri)
    return run


@task(task_run_name="next round", cache_policy=NO_CACHE)
def next_round(
    plan: Plan, runtime: Runtime, run: lineage.StudyRun, stages: tuple[StageOutcome, ...]
) -> Plan:
    """The plan of a study that searches, with what it begins next, which MLflow is told.

    Raises:
        InputError: A result that workers have made cannot be brought from the artifact store.
    """
    is_there = {stage.fingerprint for stage in stages if stage.status in ("made", "reused")}
    results = (a for a, _ in plan.artifacts() if a.stage in RESULTS and a.fingerprint in is_there)
    for artifact in not_here(results, runtime):
        bring(artifact, runtime)
    further = plan.replayed({stage.fingerprint for stage in stages})
    _log.info("%s", further.search)
    for cell in further.search.ended_in_sft if further.search else ():
        drop(cell.sft)
    if further.fingerprints != plan.fingerprints and further.begun is not None:
        uri = lineage.tracking_uri(runtime)
        lineage.go_on(run, further.begun, uri)
        lineage.link([artifact for artifact, _ in further.artifacts()], run, uri)
    return further


def undecided(error: InputError) -> StageOutcome:
    """What became of a search whose next round cannot be decided on, as of a stage that failed."""
    return StageOutcome(
        stage="search",
        cell=None,
        fingerprint="",
        status="failed",
        message=str(error),
        is_input_error=True,
    )


def outcomes(plan: Plan, futures: dict[str, PrefectFuture]) -> tuple[StageOutcome, ...]:
    """What became of the stages of this run; waits for all of them."""
    wait(list(futures.values()))
    alignments = plan.alignment_of
    return tuple(
        _outcome(
            artifact.stage, str(cell) if cell else None, artifact.fingerprint, future.state
        ).model_copy(update={"alignment": alignments.get(artifact.fingerprint)})
        for artifact, cell in plan.artifacts()
        if (future := futures.get(artifact.fingerprint))
    )


def import_after(stage: PrefectFuture) -> None:
    """Has imported what a report needs before the last stages are made; it takes seconds.

    Args:
        stage: What is waited for: while a run begins, processors have enough to do.
    """
    stage.add_done_callback(lambda _: Thread(target=_import_report, daemon=True).start())


def _import_report() -> None:
    with suppress(ImportError):  # the report says so where it matters
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401

        import wit.analysis.report
        import wit.analysis.summary  # noqa: F401


def conclude(
    plan: Plan, runtime: Runtime, run: lineage.StudyRun, stages: tuple[StageOutcome, ...]
) -> State:
    """Writes the report, and says what became of the study."""
    return ended(report(plan, runtime, run, stages))


def ended(outcome: StudyOutcome) -> State:
    """The state of a run: completed, or failed with every cause in its message."""
    if not outcome.failures:
        return Completed(message=str(outcome), data=outcome)
    causes = "; ".join(f"{s.label}: {s.message}" for s in outcome.failures)
    error = StudyFailedError(f"{outcome}: {causes}"[:1000])
    error.outcome = outcome
    return Failed(message=str(error), data=error)


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
    data = DataSummary.of_plan(_brought(plan, runtime, run))
    lineage.link(artifacts, run, uri)
    scores = lineage.scores_of_run(study, artifacts, run.version, uri)
    extras = Extras(tracking_uri=uri, versions=versions(), data=data)
    page, notes = write_last(
        lambda page: write_report(scores, study, extras, page), folder, data, run
    )
    outcome = StudyOutcome(
        study=study.name,
        version=run.version,
        stages=stages,
        report=str(page),
        tracking_uri=shown(uri),
        mlflow_url=run.url and shown(run.url),
        notes=(*_notes(data), *notes),
    )
    has_failed = any(stage.status in ("failed", "blocked") for stage in stages)
    lineage.end_study(run, uri, is_failed=has_failed, files=[page])
    if unsent := lineage.unsent_note(run.root, uri):
        outcome = outcome.model_copy(update={"notes": (*outcome.notes, unsent)})
    place = outcome.mlflow_url or outcome.tracking_uri
    try:
        show_artifacts(PastReport(page, scores, study), study.name, place, str(outcome))
    except Exception as error:  # a busy server must not fail a study that is done
        _log.warning("what Prefect shows of study %s is not there: %s", study.name, error)
    return outcome


def write_last(
    write: Callable[[Path], Path], folder: Path, data: "DataSummary", run: lineage.StudyRun
) -> tuple[Path, tuple[str, ...]]:
    """Writes a page as the study's report, or beside it if another version was started since.

    Returns:
        Where the page is, and what to tell people.
    """
    label = f"study {run.name} ({run.version})"
    with started_last(folder, run.version) as is_last:
        if is_last:
            data.save(folder, run.version)
            page = write(folder / REPORT)
            _log.info("%s is the report of %s", page, label)
            return page, ()
    page = write(folder / report_name(run.version))
    said = (
        f"{folder / REPORT} is of another run of that name, which was started later; the report "
        f"of {label} is {page.name} beside it"
    )
    _log.warning("%s", said)
    return page, (said,)


def _brought(plan: Plan, runtime: Runtime, run: lineage.StudyRun) -> Plan:
    """Brings the results that only the store has, and the cards of what stays there.

    Returns:
        The plan, with data as a report reads them.
    """
    if runtime.artifact_store is None:
        return plan
    try:
        missing = not_here([artifact for artifact, _ in plan.artifacts()], runtime)
        for artifact in missing:
            if artifact.stage in RESULTS:
                bring(artifact, runtime)
        stays = [artifact for artifact in missing if artifact.stage not in RESULTS]
        link_elsewhere(stays, run, lineage.tracking_uri(runtime), lambda a: outline(a, runtime))
        data = {a.stage: outline(a, runtime) for a in (plan.instructions, plan.preferences)}
        return replace(plan, **data)
    except InputError as error:
        _log.warning("the report is of what is here: %s", error)
        return plan


def show_artifacts(done: PastReport, study_name: str, place: str, said: str) -> None:
    """What the Prefect UI shows of a study: its summary, its cells, and a way to all else.

    Args:
        done: Its report.
        study_name: As its artifacts are called.
        place: Address of its MLflow run, or of the store.
        said: What became of it.
    """
    from wit.analysis.summary import cells_table, markdown_summary, plain

    name, place, about = _slug(study_name), shown(place), plain(said)
    summary = markdown_summary(done.scores, done.page, place, done.study)
    create_markdown_artifact(summary, f"report-{name}", description=about)
    create_table_artifact(cells_table(done.scores), f"cells-{name}", description=about)
    # A browser opens a file of this machine only by hand; a run on a server holds the report too.
    link, text = place, "The study in MLflow, with its report"
    if not link.startswith("http"):
        link, text = done.page.resolve().as_uri(), "The report"
    create_link_artifact(link, text, f"link-{name}", description=about)


@task(task_run_name="report", cache_policy=NO_CACHE)
def report_again(name: str, version: str | None, runtime: Runtime) -> Path:
    """The report of a study that has run, as MLflow knows it now.

    Raises:
        InputError: There is no such study.
    """
    done = rewrite_report(name, version, runtime)
    uri = lineage.tracking_uri(runtime)
    shown_version = done.scores.attrs["version"]
    [url] = [v.run_url for v in lineage.study_versions(name, uri) if v.version == shown_version]
    show_artifacts(done, name, url or uri, "The report, made again")
    return done.page


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
