"""Tracking stores: an empty one, one of a finished study, and a real server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from postgresql_cluster import cluster
from sqlalchemy import create_engine, text
from tiny_study import STUDY, Plan, make, plan

from wit import lineage


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    lineage.prepare(f"sqlite:///{file}")
    return file


@pytest.fixture
def uri(empty_store, tmp_path) -> str:
    file = tmp_path / "mlflow.db"
    shutil.copy(empty_store, file)  # 3 ms; making one takes a second
    return f"sqlite:///{file}"


@pytest.fixture(scope="session")
def finished(empty_store, tmp_path_factory) -> tuple[Plan, str]:
    """A study that ran to its end; read it, do not write to it."""
    root = tmp_path_factory.mktemp("finished")
    shutil.copy(empty_store, root / "mlflow.db")
    artifacts, uri = plan(root), f"sqlite:///{root}/mlflow.db"
    run = lineage.start_study(STUDY, artifacts.all, uri)
    for artifact in artifacts.all:
        make(artifact, uri, run)
    lineage.end_study(run, uri, is_failed=False)
    return artifacts, uri


@contextmanager
def served(backend: str, folder: Path, port: int | None = None) -> Iterator[str]:
    """A real MLflow server on a loopback port."""
    port = port or free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend]
    command += ["--artifacts-destination", str(folder / "files"), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    quick = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # nobody asks for jobs
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=quick
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{uri}/health", process, folder / "log")
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its own session: nobody else's processes
        process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")  # not for the session: tests plan the same artifacts
def server(empty_store, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "server.db")
    with served(f"sqlite:///{folder}/server.db", folder) as uri:
        yield uri


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The first database of a PostgreSQL cluster that belongs to this session."""
    with cluster() as port:
        yield f"postgresql+psycopg2://wit@127.0.0.1:{port}/postgres"


@pytest.fixture(scope="module")
def database(postgresql, request) -> str:
    """A PostgreSQL database that only the tests of this file use."""
    name = request.module.__name__
    engine = create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{postgresql.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="module")
def postgresql_server(database, tmp_path_factory) -> Iterator[str]:
    """A real MLflow server on PostgreSQL."""
    with served(database, tmp_path_factory.mktemp("postgresql")) as uri:
        yield uri


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(800):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    raise TimeoutError(log.read_text())
