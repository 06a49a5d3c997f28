"""The Prefect server of a single run: what it is told, when there is none, and when it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_DATABASE_NAME, get_current_settings, temporary_settings

from tasks.own_server import KIND, environment_of
from wit.serving.environment import NAMES_DATABASE, PREFECT_DATABASE, one_connection
from wit.serving.programs import PROJECT

RUN = """
from tasks.server import alone_with, started_meanwhile
with started_meanwhile() as server:
    pass
import httpx
from prefect.settings import get_current_settings
url = get_current_settings().api.url
with alone_with(server):
    print(get_current_settings().flows.heartbeat_frequency)
print(url, httpx.get(f"{url}/health").json() if "127.0.0.1" in url else "")
"""
PROFILE = """
active = "theirs"
[profiles.theirs]
PREFECT_API_URL = "http://prefect.invalid/api"
"""


def run_with(home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A process that starts a server, says whom Prefect asks from then on, and ends."""
    inherited = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT")}
    environment = {**inherited, **settings, "PREFECT_HOME": str(home), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", RUN]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_it_is_of_the_kind_that_prefect_starts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(SubprocessASGIServer, "_instances", {})
    theirs = SubprocessASGIServer(4321)
    monkeypatch.setattr(subprocess, "Popen", lambda args, env: started.append((args, env)))
    theirs._run_uvicorn_command()
    [(command, environment)] = started
    settings = get_current_settings()
    given = {**os.environ, **settings.to_environment_variables(exclude_unset=True)}
    added = {name: value for name, value in environment.items() if given.get(name) != value}
    if NAMES_DATABASE.isdisjoint(settings.server.database.model_fields_set):  # other tests name one
        added[PREFECT_DATABASE] = one_connection(settings.home)
    assert environment_of(settings) == added
    assert command[-4:] == ["--log-level", "error", "--lifespan", "on"]


def test_a_database_that_the_user_names_stays() -> None:
    with temporary_settings({PREFECT_API_DATABASE_NAME: "theirs"}):
        assert environment_of(get_current_settings()) == KIND


def test_prefect_asks_it_and_it_ends_with_its_run(tmp_path: Path) -> None:
    done = run_with(tmp_path)
    assert done.stdout.split()[-1] == "True", done.stderr
    heartbeat, url, _ = done.stdout.split(maxsplit=2)
    assert heartbeat == "None"  # nobody could miss it, and the run would end a second later
    assert url.startswith("http://127.0.0.1:")
    assert (tmp_path / "prefect.db").exists()
    port = int(done.stdout.split("/api")[0].rsplit(":", 1)[1])
    probe = f"import socket; socket.create_server(('127.0.0.1', {port})).close()"
    assert subprocess.run([sys.executable, "-c", probe]).returncode == 0, "somebody listens still"


def test_a_server_that_a_profile_names_is_asked_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text(PROFILE)
    done = run_with(tmp_path)
    heartbeat, url = done.stdout.split()
    assert (int(heartbeat) >= 30, url) == (True, "http://prefect.invalid/api"), done.stderr
    assert not (tmp_path / "prefect.db").exists()


def test_one_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    nowhere = f"sqlite+aiosqlite:///{tmp_path}/nowhere/prefect.db"
    done = run_with(tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL=nowhere)
    assert done.returncode == 1
    assert "RuntimeError: Prefect's server did not come up" in done.stderr
