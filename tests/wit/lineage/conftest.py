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
from pathlib import Path

import pytest
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


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """A real MLflow server on a free loopback port."""
    folder = tmp_path_factory.mktemp("server")
    database = f"sqlite:///{folder}/server.db"
    lineage.prepare(database)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
    command += ["--artifacts-destination", str(folder / "files"), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{uri}/health", process, folder / "log")
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its own session: nobody else's processes
        process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    raise TimeoutError(log.read_text())
