"""Opening a tracking store: cheap to import, safe in parallel, never somebody else's file."""

import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from forked import run_at_once
from mlflow.exceptions import MlflowException
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError
from tiny_study import STUDY, make, plan

from wit import lineage
from wit.config import Runtime
from wit.errors import InputError, StoreDownError
from wit.lineage.failures import failure
from wit.lineage.place import EXPERIMENT, opened
from wit.lineage.reader import find_runs
from wit.lineage.store import open_store


def test_importing_lineage_does_not_import_mlflow():
    code = "import sys, wit.lineage; sys.exit('mlflow' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tracking_uri_prefers_the_runtime_then_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:1")
    chosen = Runtime(artifact_root=tmp_path, tracking_uri="http://here:2")
    assert lineage.tracking_uri(chosen) == "http://here:2"
    unset = Runtime(artifact_root=tmp_path)
    assert lineage.tracking_uri(unset) == "http://elsewhere:1"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert lineage.tracking_uri(unset) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("wrong", ["./mlruns", "file:///tmp/mlruns", "sqlite://"])
def test_a_store_of_plain_files_is_refused_with_its_remedy(wrong):
    with pytest.raises(InputError, match="sqlite:///"):
        lineage.tracking_uri(Runtime(tracking_uri=wrong))


def _open_new(uri: str, barrier: Barrier) -> None:
    barrier.wait()
    open_store(uri).search("tags.x = 'y'")


def test_six_processes_open_a_new_store_together(tmp_path, forking):
    """They are forked, so they meet at the file."""
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    run_at_once(forking, _open_new, *[(uri,)] * 6)
    assert open_store(uri).client.get_experiment_by_name(EXPERIMENT) is not None


def test_preparing_again_has_mlflow_do_nothing(uri):
    """Its look at its tables would take a second of every command."""
    file = Path(uri.removeprefix("sqlite:///"))
    before = file.read_bytes()
    statements: list[str] = []

    def note(connection, cursor, statement, *_):
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        lineage.prepare(uri)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert statements == []
    assert file.read_bytes() == before


def test_a_database_of_somebody_else_is_not_touched(tmp_path):
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"my diary" * 100)
    with pytest.raises(InputError, match="not an MLflow database"):
        lineage.prepare(f"sqlite:///{file}")
    assert file.read_bytes() == b"my diary" * 100


WRONG_ADDRESSES = {
    "postgresql+psycopg2://u:s3cret@127.0.0.1:notaport/db": "is no address",
    "http://[::1:5000": "is no address",
    "http://127.0.0.1:99999": "a port from 1 to 65535",
    "https://": "is no address",
    "postgresql+nodriver://u:s3cret@host/db": "pip install psycopg2-binary",
}


@pytest.mark.parametrize("wrong", WRONG_ADDRESSES)
def test_a_mistyped_address_is_refused_with_its_remedy(wrong):
    with pytest.raises(InputError, match=WRONG_ADDRESSES[wrong]) as raised:
        lineage.tracking_uri(Runtime(tracking_uri=wrong))
    assert "s3cret" not in str(raised.value)


def test_a_database_that_refuses_does_not_end_a_training(postgresql, tmp_path, caplog):
    artifacts = plan(tmp_path)
    refusing = postgresql.rpartition("/")[0] + "/nosuchdb"
    started = time.perf_counter()
    run = lineage.start_study(STUDY, artifacts.all, refusing)
    make(artifacts.data[0], refusing, run)
    assert time.perf_counter() - started < 30  # MLflow itself tries for 100 s
    assert run.run_id is None
    assert artifacts.data[0].exists()
    assert '"nosuchdb" does not exist' in caplog.text
    with pytest.raises(StoreDownError, match="nosuchdb"):
        lineage.table("tiny", refusing)


def test_files_of_runs_in_a_database_do_not_lie_where_wit_ran(database, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    experiment = open_store(database).client.get_experiment_by_name(EXPERIMENT)
    assert experiment.artifact_location == (tmp_path / "home/.wit/mlartifacts").as_uri()


@pytest.fixture(params=["", "HTTP/1.1 429 Busy", "HTTP/1.1 502 Bad Gateway"])
def dead_behind_something(request) -> Iterator[str]:
    """A proxy that accepts connections though the server behind it is gone."""

    class Proxy(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if request.param:
                self.request.recv(65536)
                self.request.sendall(f"{request.param}\r\nContent-Length: 0\r\n\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_server_that_is_dead_behind_something_is_down(
    dead_behind_something, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    artifacts = plan(tmp_path)
    assert lineage.start_study(STUDY, artifacts.all, dead_behind_something).run_id is None
    with pytest.raises(StoreDownError):
        lineage.sync(dead_behind_something, tmp_path)


def test_a_database_that_is_locked_is_down_and_still_one_of_mlflow(uri, monkeypatch):
    # Else SQLite tries for five seconds.
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0))
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        database.execute("BEGIN EXCLUSIVE")
        lineage.prepare(uri)
    message = "(sqlite3.OperationalError) database is locked"
    locked = OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked"))
    for error in (locked, MlflowException(message)):
        assert isinstance(failure(error, uri), StoreDownError)
    missing = OperationalError("SELECT 1", {}, sqlite3.OperationalError("no such table: runs"))
    assert not isinstance(failure(missing, uri), StoreDownError)


KILLED_WHILE_IT_WRITES = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA cache_size = 1")  # so what is half written is in the file, and counts
database.execute("BEGIN")
database.execute("CREATE TABLE half_written (value)")
database.executemany("INSERT INTO half_written VALUES (randomblob(?))", [(4096,)] * 100)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("ask", [lineage.prepare, find_runs], ids=["write", "read"])
def test_a_database_whose_writer_was_killed_is_still_one_of_mlflow(uri, ask):
    file = Path(uri.removeprefix("sqlite:///"))
    subprocess.run([sys.executable, "-c", KILLED_WHILE_IT_WRITES, file], check=False)
    journal = file.with_name(f"{file.name}-journal")
    assert journal.stat().st_size > 0
    ask(uri)
    assert not journal.exists()


def test_what_is_opened_for_reading_cannot_be_written(uri):
    with (
        closing(opened(Path(uri.removeprefix("sqlite:///")))) as database,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        database.execute("DELETE FROM alembic_version")


def test_whatever_goes_wrong_with_recording_a_training_goes_on(uri, tmp_path, caplog):
    artifact = plan(tmp_path).sft[0]
    with lineage.tracked(artifact, None, uri), artifact.writing() as directory:
        directory.joinpath("history.jsonl").write_text("[]\n")  # nobody foresaw it
    assert artifact.exists()
    assert "is not recorded in MLflow yet" in caplog.text
