"""``wit run``: the study flow, in this process or against ``PREFECT_API_URL``, watched live."""

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from uuid import uuid4

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wit.config import Runtime, Study
from wit.doctor import problem_with_prefect
from wit.errors import InputError, StageError, StoreDownError, StudyFailedError, WitError
from wit.evaluation.catalogue import local_data_files, resolve_benchmark
from wit.forms import StudyRequest
from wit.guard import MARK
from wit.lifeline import RARELY
from wit.lineage import open_store, tracking_uri
from wit.lineage.addresses import shown
from wit.lineage.place import sqlite_file
from wit.loading import load_runtime, load_study
from wit.machine import check_machine
from wit.outcome import StudyOutcome
from wit.plan import Plan, make_plan
from wit.progress import read_progress

REFRESH_SECONDS = 0.5
_guards: list[subprocess.Popen[bytes]] = []  # kept, or their pipes would close


def run_here(
    console: Console,
    study_file: Path,
    overrides: list[str] | None,
    runtime_file: Path | None,
    runtime_overrides: list[str] | None,
) -> StudyOutcome:
    """Runs a study to its end, prints its table, and says where everything is.

    Raises:
        InputError: The study or what it names is wrong; nothing was made then.
        StageError: The flow itself broke.
    """
    gc.set_threshold(*RARELY)  # what is imported from here on is a third of the time until it runs
    request = StudyRequest(
        study_file=str(study_file),
        settings=overrides or [],
        runtime_file=str(runtime_file) if runtime_file else None,
        runtime_settings=runtime_overrides or [],
    )
    # Not by the request, whose complaints name the fields of a form.
    study = load_study(study_file, overrides or [])
    runtime = load_runtime(runtime_file, runtime_overrides or [])
    plan = make_plan(study, runtime)
    _set_environment(study)
    _check_prefect(runtime)
    keyed = with_secrets(plan, runtime)
    _guard_children()
    from tasks.server import alone_with, started_meanwhile

    with started_meanwhile() as server:
        _import_early(plan, runtime)
        if runtime.execution == "local":
            check_machine(plan, keyed)  # as the flow does, but before anything is made
        from flows.study import run_study  # imports Prefect, which takes seconds

        _open_store(console, runtime)

    started = time.monotonic()
    with _live(console, plan), alone_with(server):
        state = run_study(request, return_state=True)
    ended = state.result(raise_on_failure=False)
    outcome = ended.outcome if isinstance(ended, StudyFailedError) else ended
    if isinstance(outcome, WitError):
        raise outcome
    if not isinstance(outcome, StudyOutcome):
        cause = ended if isinstance(ended, BaseException) else None
        raise StageError(f"the study did not reach its end: {state.message}") from cause
    uri = tracking_uri(runtime)
    _show_outcome(console, plan, outcome, uri, time.monotonic() - started)
    return outcome


def _import_early(plan: Plan, runtime: Runtime) -> None:
    if runtime.execution == "local" and not all(plan.is_made(a) for a, _ in plan.artifacts()):
        from wit.workers import import_early

        import_early(runtime)


def _open_store(console: Console, runtime: Runtime) -> None:
    try:
        open_store(tracking_uri(runtime))
    except StoreDownError as error:
        said = f"note: {error}. The study runs; what MLflow should know is kept until it is up"
        console.print(said, style="yellow", markup=False, soft_wrap=True)


def with_secrets(plan: Plan, runtime: Runtime) -> Runtime:
    """The runtime with what Prefect's server keeps for it; asked only where a setting says so.

    Raises:
        InputError: The server does not have it, or there is none.
    """
    if runtime.judge is None or runtime.judge.key_secret is None:
        return runtime
    from tasks.secrets import with_judge_key  # imports Prefect, which takes seconds

    return with_judge_key(plan, runtime)


def _check_prefect(runtime: Runtime) -> None:
    """Asks the server of ``PREFECT_API_URL`` for a sign of life.

    Raises:
        InputError: It gives none; or there is no such server, and others shall make the cells.
    """
    url = os.environ.get("PREFECT_API_URL")
    if not url and runtime.execution == "deployments":
        raise InputError(
            "runtime execution = deployments: that needs a Prefect server with workers, and "
            "PREFECT_API_URL is not set. 'wit up' starts one and says its address; or "
            "--set-runtime execution=local"
        )
    problem = problem_with_prefect(url) if url else None
    if problem is not None:
        raise InputError(
            f"PREFECT_API_URL = {shown(url or '')}: {problem}. Start that server ('wit up' "
            "starts one), or unset PREFECT_API_URL: then every run has a server of its own"
        )


def _set_environment(study: Study) -> None:
    """What the libraries read when they are imported; what the user has set stays."""
    rows = (data.by_source().values() for data in (study.instructions, study.preferences))
    places = [study.base, *chain(*rows), *([study.text] if study.text else [])]
    is_local = all(place.repo is None for place in places)
    asked = [resolve_benchmark(b.name, b.path) for b in study.benchmarks if b.data is None]
    benchmarks = [benchmark.yaml_path for benchmark in asked]
    if is_local and all(path and local_data_files(path) is not None for path in benchmarks):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # The terminal shows our own progress and errors; Prefect's log is in its UI.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _guard_children() -> None:
    """Has all that we start end with us, even if we are killed: workers, and Prefect's server."""
    mark = uuid4().hex
    outside = {key: value for key, value in os.environ.items() if key != MARK}
    command = [sys.executable, "-m", "wit.guard", mark]
    # It waits for the end of this process, which closes the pipe; nobody waits for it.
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, env=outside)
    _guards.append(guard)
    os.environ[MARK] = f"{mark}/run"


@contextmanager
def _live(console: Console, plan: Plan) -> Iterator[None]:
    """Shows from another thread what is being made; reads the artifact root, asks nobody."""
    if not console.is_terminal:
        num_stages = len(list(plan.artifacts()))
        more = " to begin with" if plan.search is not None else ""
        console.print(f"{plan.study.name}: {num_stages} stages{more} in {plan.tokenizer.root}")
        yield
        return
    is_over, picture = threading.Event(), Picture(plan)
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def watch() -> None:
            started = time.monotonic()
            while not is_over.wait(REFRESH_SECONDS):
                live.update(picture.after(time.monotonic() - started), refresh=True)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()


class Picture:
    """How far a run is. A search may come to any of its candidates, so all of them are watched."""

    def __init__(self, plan: Plan) -> None:
        """Looks what is there already."""
        at_most = [artifact for artifact, _ in plan.at_most.artifacts()]
        self.plan, self.num_stages = plan.every, len(at_most)
        self.num_others = self._num_made() - sum(map(plan.is_made, at_most))

    def _num_made(self) -> int:
        return sum(self.plan.is_made(artifact) for artifact, _ in self.plan.artifacts())

    def after(self, seconds: float) -> Group:
        """What is complete, and what runs now."""
        done = self._num_made() - self.num_others
        running, labels = Table.grid(padding=(0, 2)), self.plan.labels
        for artifact, _ in self.plan.artifacts():
            if artifact.scratch.exists() and not (artifact.exists() or artifact.is_paused()):
                progress = read_progress(artifact.scratch)
                name = f"{artifact.stage} {labels.get(artifact.fingerprint, '')}"
                share = (progress.step, progress.num_steps) if progress else (0, 1)
                bar = ProgressBar(total=share[1], completed=share[0], width=30, pulse=not progress)
                running.add_row(name, bar, str(progress or ""))
        head = Text(f"{done} of {self.num_stages} stages complete, {seconds:.0f} s", style="bold")
        return Group(head, ProgressBar(total=self.num_stages, completed=done), running)


def _show_outcome(
    console: Console, plan: Plan, outcome: StudyOutcome, uri: str, seconds: float
) -> None:
    from wit.display import show_comparison
    from wit.lineage import scores_of_run

    plan = plan.replayed({stage.fingerprint for stage in outcome.stages})
    artifacts = [artifact for artifact, _ in plan.artifacts()]
    scores = scores_of_run(plan.study, artifacts, outcome.version, uri)
    show_comparison(console, scores, plan.study)
    if plan.search is not None:
        console.print(str(plan.search), highlight=False)
    for failure in outcome.failures:
        said = f"failed: {failure.label}: {failure.message}"
        console.print(said, style="red", markup=False, soft_wrap=True)
    for note in outcome.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    console.print(f"{outcome} in {seconds:.0f} s", highlight=False)
    console.print(f"report: {outcome.report}", soft_wrap=True, highlight=False)
    where = outcome.mlflow_url or shown(outcome.tracking_uri)
    if sqlite_file(uri) is not None:
        where += f"  (look at it: wit up --set-runtime artifact_root={artifacts[0].root})"
    console.print(f"MLflow: {where}", soft_wrap=True, highlight=False)
