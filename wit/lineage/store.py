"""The door to MLflow: opening a tracking store, and few, batched calls to it.

Only this file and those of the database and the logged models import mlflow, and only when a store
is opened: that import takes seconds.
"""

import getpass
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Literal

from wit.errors import InputError, StoreDownError
from wit.lineage.addresses import shown
from wit.lineage.database import artifact_location, prepare, quieten
from wit.lineage.failures import ask_once, failure
from wit.lineage.outcome import DataSet, Point
from wit.lineage.place import (
    EMPTY,
    EXPERIMENT,
    UI_MODE,
    is_up,
    sqlite_file,
    unreachable,
)

if TYPE_CHECKING:  # for types alone; at run time mlflow is imported when a store is opened
    from mlflow.entities import Run

MAX_PER_BATCH = {"metrics": 700, "params": 100, "tags": 100}  # MLflow takes 1000 together
MAX_VALUE = {"params": 6000, "tags": 8000}  # characters; MLflow cuts or refuses longer ones
PAGE = 5000  # runs per answer


class Store:
    """A tracking store that is open in this process."""

    def __init__(self, uri: str, *, creates: bool) -> None:
        """Opens it.

        Args:
            uri: Tracking URI.
            creates: Whether a database and an experiment are made where there are none.
        """
        if creates:
            prepare(uri)
        quieten()
        from mlflow import MlflowClient

        self.uri = uri
        # Runs of artifacts whose children this process records: what they are called does not
        # change any more.
        self.finished: dict[str, Run] = {}
        # What studies name, by their runs: asked once, and not with every run below.
        self.names: dict[str, dict[str, str]] = {}
        with translated(uri):
            ask_once(uri)
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            self.experiment_id = self._find_experiment(creates)

    def _find_experiment(self, creates: bool) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None and not creates:
            raise InputError(f"MLflow at {shown(self.uri)} {EMPTY}")
        if experiment is None:
            is_served = self.uri.startswith(("http", "databricks"))  # it knows a place itself
            location = None if is_served else artifact_location(sqlite_file(self.uri))
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

    def create(self, name: str, tags: Mapping[str, str], started: float | None = None) -> "Run":
        """A new run in state RUNNING; ``started`` in seconds since 1970, unset: now."""
        return self.client.create_run(
            self.experiment_id,
            start_time=None if started is None else round(1000 * started),
            tags=origin() | cut(tags, "tags"),
            run_name=name,
        )

    def end(self, run_id: str, status: str, ended: float | None = None) -> None:
        """Ends a run; ``ended`` in seconds since 1970, unset: now."""
        at = None if ended is None else round(1000 * ended)
        self.client.set_terminated(run_id, status, end_time=at)

    def write(
        self,
        run_id: str,
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Iterable[Point] = (),
        model_id: str | None = None,
        data_of: Mapping[str, DataSet] | None = None,
    ) -> None:
        """Logs params, tags and metrics in few calls.

        Args:
            run_id: Of the run.
            params: That the run does not have yet; MLflow refuses to change one.
            tags: New, or in the place of old ones.
            metrics: Points of any metrics.
            model_id: Of the logged model that was measured, if there is one.
            data_of: On what data a metric was measured; such ones are the model's too.
        """
        from mlflow.entities import Metric, Param, RunTag

        def metric(name: str, value: float, step: int, at: float) -> Metric:
            data = (data_of or {}).get(name) if model_id else None
            about = (model_id, data.name, data.digest) if data else (None, None, None)
            return Metric(name, value, round(1000 * at), step, *about)

        waiting = {
            "params": [Param(k, v) for k, v in cut(params or {}, "params").items()],
            "tags": [RunTag(k, v) for k, v in cut(tags or {}, "tags").items()],
            "metrics": [metric(*point) for point in metrics],
        }
        while any(waiting.values()):
            batch = {kind: rows[: MAX_PER_BATCH[kind]] for kind, rows in waiting.items()}
            waiting = {kind: rows[MAX_PER_BATCH[kind] :] for kind, rows in waiting.items()}
            self.client.log_batch(run_id, **batch)

    def log_inputs(
        self,
        run_id: str,
        data_sets: Iterable[DataSet],
        context: Literal["training", "evaluation"],
        model_id: str | None,
    ) -> None:
        """Names data sets, known by their content, and a logged model as inputs of the run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

        role = InputTag("mlflow.data.context", context)
        inputs = []
        for name, digest, location, profile in data_sets:
            source = json.dumps({"uri": location})
            figures = json.dumps(profile) if profile else None
            data = Dataset(name, digest, source_type="local", source=source, profile=figures)
            inputs.append(DatasetInput(data, [role]))
        models = [LoggedModelInput(model_id)] if model_id else []
        if inputs or models:
            self.client.log_inputs(run_id, datasets=inputs, models=models)

    def logged_points(self, run: "Run") -> set[tuple[str, int]]:
        """Name and step of every metric value that the run has already."""
        return {
            (point.key, point.step)
            for key in run.data.metrics
            for point in self.client.get_metric_history(run.info.run_id, key)
        }

    def run_url(self, run_id: str) -> str | None:
        """Address of the run in MLflow's UI, where a server shows one; without user and password.

        A browser asks for those itself.
        """
        if not self.uri.startswith("http"):
            return None
        server = shown(self.uri).rstrip("/")
        return f"{server}/#/experiments/{self.experiment_id}/runs/{run_id}?{UI_MODE}"


def import_mlflow() -> None:
    """What a store on this machine needs, which takes seconds."""
    quieten()
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def origin() -> dict[str, str]:
    """Tags that MLflow's UI shows as who made a thing, and with what."""
    return {"mlflow.user": getpass.getuser(), "mlflow.source.name": "wit"}


def cut(values: Mapping[str, str], kind: str) -> dict[str, str]:
    """Params or tags with values that are as long as MLflow takes."""
    limit = MAX_VALUE[kind]
    return {k: v if len(v) <= limit else v[: limit - 1] + "…" for k, v in values.items()}


def open_store(uri: str, *, creates: bool = True) -> Store:
    """The store of ``uri``, opened once per process.

    Raises:
        StoreDownError: Nobody listens there.
        InputError: It is not MLflow's, or has nothing of ours and nothing may be made.
    """
    if not is_up(uri):
        raise StoreDownError(unreachable(uri))
    return _open(uri, creates, os.getpid())


@cache
def _open(uri: str, creates: bool, pid: int) -> Store:  # noqa: ARG001  a fork needs its own
    return Store(uri, creates=creates)


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Says in one sentence what is wrong with a store, instead of MLflow's traceback.

    Raises:
        StoreDownError: It is away, or too busy: it may answer later.
        InputError: MLflow or its database raised; names the store and the remedy.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise failure(error, uri) from None
