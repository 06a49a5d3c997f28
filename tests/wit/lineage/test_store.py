"""Opening a tracking store: cheap to import, safe in parallel, never somebody else's file."""

import multiprocessing
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from wit import lineage
from wit.config import Runtime
from wit.errors import InputError
from wit.lineage.place import EXPERIMENT
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


def test_six_processes_open_a_new_store_together(tmp_path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    context = multiprocessing.get_context("forkserver")
    # Imported once, not six times; so the six meet at the file.
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store"])
    barrier = context.Barrier(6)
    processes = [context.Process(target=_open_new, args=(uri, barrier)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 6
    assert open_store(uri).client.get_experiment_by_name(EXPERIMENT) is not None


def test_preparing_again_is_fast_and_changes_nothing(uri):
    file = Path(uri.removeprefix("sqlite:///"))
    before = file.read_bytes()
    started = time.perf_counter()
    lineage.prepare(uri)
    assert time.perf_counter() - started < 0.1
    assert file.read_bytes() == before


def test_a_database_of_somebody_else_is_not_touched(tmp_path):
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"my diary" * 100)
    with pytest.raises(InputError, match="not an MLflow database"):
        lineage.prepare(f"sqlite:///{file}")
    assert file.read_bytes() == b"my diary" * 100
