"""MLflow's SQLite database, made where there is none."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from wit.errors import InputError
from wit.lineage.place import EXPERIMENT, SQLITE, is_initialised, sqlite_file

# MLflow reports usage to its makers unless told otherwise; both switches are needed.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # our output is ours
# Its default of 7 tries with growing pauses would hold a stage for minutes when a server is down.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # seconds; its default is 120


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


def _create_database(file: Path) -> None:
    if file.is_file() and file.stat().st_size > 0:
        raise InputError(f"{file}: is a database, but not one of MLflow; choose another file")
    quieten()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    aside = file.with_name(f".{file.name}.partial")
    aside.unlink(missing_ok=True)  # what a killed process left
    with _without_waiting():
        store = SqlAlchemyStore(f"{SQLITE}{aside}", artifact_location(file))
    store.create_experiment(EXPERIMENT, artifact_location=artifact_location(file))
    store.engine.dispose()
    with aside.open("rb+") as made:
        os.fsync(made.fileno())
    aside.rename(file)


@contextmanager
def _without_waiting() -> Iterator[None]:
    """A database that nobody knows yet waits for the disk once, not after each of its tables."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def go_on(connection: Any, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", go_on)
    try:
        yield
    finally:
        event.remove(Engine, "connect", go_on)


def artifact_location(file: Path | None) -> str:
    """Beside the database; of one on a server, in the home of who comes first.

    MLflow's own default would be ``mlruns`` wherever the process runs.
    """
    folder = Path.home() / ".wit" if file is None else file.parent
    return (folder / "mlartifacts").as_uri()


def quieten() -> None:
    """MLflow tells of every migration."""
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
