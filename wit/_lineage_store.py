"""The one door to MLflow: opening a tracking store, and few, batched calls to it.

Only this file imports mlflow, and only when a store is opened: that import takes over a second.
"""

import getpass
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from filelock import FileLock

from wit.config import Runtime
from wit.errors import InputError

if TYPE_CHECKING:  # for types alone; at run time mlflow is imported when a store is opened
    from mlflow.entities import Run

# MLflow reports usage to its makers unless told otherwise; both switches are needed.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# Its default of 7 tries with growing pauses would hold a stage for minutes when a server is down.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

EXPERIMENT = "wit"  # artifacts are shared by studies, so all runs live in one experiment
UI_MODE = "workflowType=machine_learning"  # else MLflow's pages are those for agents and traces
SQLITE = "sqlite:///"
SCHEMES = ("sqlite:///", "http://", "https://", "postgresql", "mysql", "mssql", "databricks")
MAX_PER_BATCH = {"metrics": 700, "params": 100, "tags": 100}  # MLflow takes 1000 together
MAX_VALUE = {"params": 6000, "tags": 8000}  # characters; MLflow cuts or refuses longer ones
PAGE = 5000  # runs per answer


def tracking_uri(runtime: Runtime) -> str:
    """Where MLflow keeps runs: the runtime's, the environment's, else SQLite in the artifact root.

    Raises:
        InputError: MLflow 3 cannot write there.
    """
    default = f"{SQLITE}{runtime.artifact_root.resolve()}/mlflow.db"
    uri = runtime.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default
    if not uri.startswith(SCHEMES):
        raise InputError(
            f"tracking_uri {uri!r}: MLflow 3 writes to a database or to a server, not to plain "
            f"files; try {default} or http://HOST:PORT"
        )
    file = sqlite_file(uri)
    return uri if file is None else f"{SQLITE}{file}"


def sqlite_file(uri: str) -> Path | None:
    """The database file of an SQLite store, absolute because workers may run elsewhere."""
    if not uri.startswith(SQLITE):
        return None
    return Path(uri.removeprefix(SQLITE).partition("?")[0]).resolve()


def prepare(uri: str) -> None:
    """Creates the SQLite database of ``uri`` if there is none; call it before parallel use.

    MLflow itself cannot: processes that open a new file together spoil it for each other. So it
    is made aside, under a lock, and renamed: the file is complete or absent.
    """
    file = sqlite_file(uri)
    if file is None or is_initialised(file):
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock")):
            if not is_initialised(file):
                _create_database(file)
    except OSError as error:
        raise InputError(f"{file}: the MLflow database cannot be written ({error})") from None


def is_initialised(file: Path) -> bool:
    """Whether it holds MLflow's tables; asked without importing mlflow."""
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as database:
            return bool(database.execute("SELECT count(*) FROM alembic_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if file.stat().st_size == 0 or "no such table" in str(error):
            return False
        raise InputError(f"{file}: is not an MLflow database ({error})") from None


def _create_database(file: Path) -> None:
    if file.is_file() and file.stat().st_size > 0:
        raise InputError(f"{file}: is a database, but not one of MLflow; choose another file")
    _quieten()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    aside = file.with_name(f".{file.name}.partial")
    aside.unlink(missing_ok=True)  # what a killed process left
    store = SqlAlchemyStore(f"{SQLITE}{aside}", _artifact_location(file))
    store.create_experiment(EXPERIMENT, artifact_location=_artifact_location(file))
    store.engine.dispose()
    aside.rename(file)


def _artifact_location(file: Path) -> str:
    """Beside the database; MLflow's own default would be ``mlruns`` wherever the process runs."""
    return (file.parent / "mlartifacts").as_uri()


def _quieten() -> None:
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Store:
    """A tracking store that is open in this process."""

    def __init__(self, uri: str) -> None:
        prepare(uri)
        _quieten()
        from mlflow import MlflowClient

        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        with translated(uri):
            self.experiment_id = self._find_or_create_experiment()

    def _find_or_create_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            file = sqlite_file(self.uri)
            location = None if file is None else _artifact_location(file)
            try:
                return self.client.create_experiment(EXPERIMENT, location)
            except MlflowException:  # another process was quicker
                experiment = self.client.get_experiment_by_name(EXPERIMENT)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            self.client.restore_experiment(experiment.experiment_id)
        return experiment.experiment_id

    def search(self, condition: str, limit: int | None = None) -> list["Run"]:
        """Runs that fulfil ``condition``, oldest first: all processes agree which is the first."""
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                condition,
                max_results=min(limit or PAGE, PAGE),
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token or (limit and len(found) >= limit):
                return found

    def find(self, fingerprint: str) -> "Run | None":
        """The run of an artifact."""
        found = self.search(f"tags.`wit.fingerprint` = '{fingerprint}'", limit=1)
        return found[0] if found else None

    def create(self, name: str, tags: Mapping[str, str]) -> "Run":
        """A new run in state RUNNING."""
        basic = {"mlflow.user": getpass.getuser(), "mlflow.source.name": "wit"}
        return self.client.create_run(
            self.experiment_id, tags={**basic, **_cut(tags, "tags")}, run_name=name
        )

    def write(
        self,
        run_id: str,
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Iterable[tuple[str, float, int, float]] = (),
    ) -> None:
        """Logs params, tags and metrics (name, value, step, seconds since 1970) in few calls."""
        from mlflow.entities import Metric, Param, RunTag

        waiting = {
            "params": [Param(k, v) for k, v in _cut(params or {}, "params").items()],
            "tags": [RunTag(k, v) for k, v in _cut(tags or {}, "tags").items()],
            "metrics": [Metric(k, v, round(1000 * at), step) for k, v, step, at in metrics],
        }
        while any(waiting.values()):
            batch = {kind: rows[: MAX_PER_BATCH[kind]] for kind, rows in waiting.items()}
            waiting = {kind: rows[MAX_PER_BATCH[kind] :] for kind, rows in waiting.items()}
            self.client.log_batch(run_id, **batch)

    def log_dataset(
        self, run_id: str, name: str, digest: str, location: str, profile: Mapping[str, Any]
    ) -> None:
        """Names a data set, known by its content and with its figures, as an input of the run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": location})
        figures = json.dumps(profile) if profile else None
        data = Dataset(name, digest, source_type="local", source=source, profile=figures)
        context = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(run_id, datasets=[DatasetInput(data, context)])

    def logged_points(self, run: "Run") -> set[tuple[str, int]]:
        """Name and step of every metric value that the run has already."""
        return {
            (point.key, point.step)
            for key in run.data.metrics
            for point in self.client.get_metric_history(run.info.run_id, key)
        }

    def run_url(self, run_id: str) -> str | None:
        """Address of the run in MLflow's UI, where a server shows one."""
        if not self.uri.startswith("http"):
            return None
        return f"{self.uri.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{run_id}?{UI_MODE}"

    def charts_link(self, condition: str, metric: str) -> str:
        """Place in the UI, after the server's address, of charts over the runs of ``condition``.

        Sorted by a metric: else the UI folds runs into that of their study and draws nothing.
        """
        query = {
            "searchFilter": condition,
            "orderByKey": f"metrics.`{metric}`",
            "orderByAsc": "false",
            "compareRunsMode": "CHART",
        }
        place = f"#/experiments/{self.experiment_id}/runs"
        return f"{place}?{UI_MODE}&{urlencode(query, quote_via=quote)}"


def _cut(values: Mapping[str, str], kind: str) -> dict[str, str]:
    limit = MAX_VALUE[kind]
    return {k: v if len(v) <= limit else v[: limit - 1] + "…" for k, v in values.items()}


def open_store(uri: str) -> Store:
    """The store of ``uri``, opened once per process.

    Raises:
        InputError: It cannot be reached, or is not MLflow's.
    """
    return _open(uri, os.getpid())


@cache
def _open(uri: str, pid: int) -> Store:  # noqa: ARG001  a forked child needs its own connections
    return Store(uri)


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Says in one sentence what is wrong with a store, instead of MLflow's traceback.

    Raises:
        InputError: MLflow raised; names the store and the remedy.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise InputError(
            f"MLflow at {uri} does not answer as it should: {reason}. Is the server up, is the "
            "address right (runtime 'tracking_uri', MLFLOW_TRACKING_URI)?"
        ) from None
