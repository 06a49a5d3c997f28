"""Where MLflow keeps runs, and whether somebody is there; nothing here imports mlflow."""

import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

from wit.config import Runtime
from wit.errors import InputError
from wit.lineage.addresses import shown

EXPERIMENT = "wit"  # artifacts are shared by studies, so all runs live in one experiment
UI_MODE = "workflowType=machine_learning"  # else MLflow's pages are those for agents and traces
SQLITE = "sqlite:///"
SCHEMES = (SQLITE, "http://", "https://", "postgresql", "mysql", "mssql", "databricks")
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
REMEDY = (
    "Is the server up, is the address right (runtime 'tracking_uri', MLFLOW_TRACKING_URI)? "
    "'wit doctor' looks"
)
EMPTY = (
    "holds nothing of wit, so nothing has run there yet. 'wit run STUDY.yaml' fills it; or name "
    "another by --runtime, --set-runtime artifact_root=DIR or tracking_uri=URI"
)
KNOCK_SECONDS = 3.0  # for a connection; MLflow's own attempts go on for minutes


def tracking_uri(runtime: Runtime) -> str:
    """Where MLflow keeps runs: the runtime's, the environment's, else SQLite in the artifact root.

    Raises:
        InputError: MLflow 3 cannot write there, or it is no address.
    """
    default = f"{SQLITE}{runtime.artifact_root.resolve()}/mlflow.db"
    uri = runtime.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default
    if not uri.startswith(SCHEMES):
        raise InputError(
            f"tracking_uri {shown(uri)!r}: MLflow 3 writes to a database or to a server, not to "
            f"plain files; try {default} or http://HOST:PORT"
        )
    _check_address(uri)
    check_driver(uri)
    file = sqlite_file(uri)
    return uri if file is None else f"{SQLITE}{file}"


def _check_address(uri: str) -> None:
    if uri.startswith((SQLITE, "databricks")):
        return
    try:
        address = urlsplit(uri)
        has_host = bool(address.hostname) or not uri.startswith("http")  # else a socket's file
        is_whole = has_host and address.port != 0  # asking for it raises what is out of range
    except ValueError:
        is_whole = False
    if not is_whole:
        raise InputError(
            f"tracking_uri {shown(uri)!r}: is no address; write http://HOST:PORT or "
            "postgresql+psycopg2://USER@HOST:PORT/DATABASE, a port from 1 to 65535, an IPv6 "
            "address in [ ], and '@', '#', '/' of a password as %40, %23, %2F"
        )


def check_driver(uri: str) -> None:
    """Refuses the address of a database whose driver is unknown or not installed.

    Raises:
        InputError: Names the remedy.
    """
    if uri.startswith((SQLITE, "http", "databricks")):
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except (ImportError, SQLAlchemyError, ValueError):
        raise InputError(
            f"tracking_uri {shown(uri)!r}: its database driver is unknown or not installed; "
            "pip install it, or write postgresql+psycopg2:// (pip install psycopg2-binary)"
        ) from None


def sqlite_file(uri: str) -> Path | None:
    """The database file of an SQLite store, absolute because workers may run elsewhere."""
    if not uri.startswith(SQLITE):
        return None
    return Path(uri.removeprefix(SQLITE).partition("?")[0]).resolve()


def opened(file: Path, timeout: float = 5) -> sqlite3.Connection:
    """A database that is there, for reading alone; ``timeout`` in seconds, while it is locked.

    Whoever was killed while it wrote has left a journal, which SQLite takes back before anything
    is read. For that it has to be allowed to write; where the file forbids it, it is not.
    """
    address = f"file:{quote(str(file))}?mode=rw"
    # Transactions by hand: the statements of one are to see one state.
    database = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None)
    database.execute("PRAGMA query_only = ON")
    return database


def is_initialised(file: Path) -> bool:
    """Whether it holds MLflow's tables; asked without importing mlflow."""
    if not file.is_file():
        return False
    try:
        with closing(opened(file)) as database:
            return bool(database.execute("SELECT count(*) FROM alembic_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if file.stat().st_size == 0 or "no such table" in str(error):
            return False
        if "locked" in str(error):  # whoever uses it now would not lock what is no database
            return True
        raise InputError(f"{file}: is not an MLflow database ({error})") from None


def is_up(uri: str) -> bool:
    """Whether somebody listens where the store should be; a file always does."""
    address = urlsplit(uri)
    port = address.port or PORTS.get(address.scheme.partition("+")[0])
    if address.hostname is None or port is None:
        return True
    try:
        socket.create_connection((address.hostname, port), KNOCK_SECONDS).close()
    except OSError:
        return False
    return True


def unreachable(uri: str) -> str:
    """What to say when nobody listens."""
    return f"MLflow at {shown(uri)} cannot be reached. {REMEDY}"
