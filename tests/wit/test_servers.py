"""`wit up` for real: started, used, ended, started again and killed, on free ports."""

import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil
import pytest
from samples import ROOT
from scheduled_study import Scheduled
from wit_up import CRASHED_AFTER, LOOPBACK, WIT, Up, call, free_port, wait_for

from wit.deployments import CRASH_AUTOMATION, GPU_POOL, WORK_POOL
from wit.serving.environment import SETTINGS

pytestmark = pytest.mark.timeout(900)
WORKERS = ("worker", "worker-gpu-0", "worker-gpu-1")


def test_addresses_are_printed_and_answer(up: Up) -> None:
    assert f"Prefect: {up.prefect}\n" in up.said()
    assert f"MLflow:  {up.mlflow}/#/experiments/1?" in up.said()
    assert f"logs:    {up.root / 'servers'}\n" in up.said()
    assert call(f"{up.prefect}/api/health") is True
    experiments = call(f"{up.mlflow}/api/2.0/mlflow/experiments/search?max_results=9")
    assert {"Default", "wit"} == {found["name"] for found in experiments["experiments"]}
    assert (up.root / "mlflow.db").is_file(), "MLflow serves the store of the artifact root"
    logs = {file.stem for file in (up.root / "servers").glob("*.log")}
    assert logs == {"prefect", "mlflow", *WORKERS, "deploy"}


def test_of_many_who_write_at_once_prefect_refuses_none(up: Up) -> None:
    """With more than one connection to its SQLite it refuses most of them."""

    def post(path: str, content: Any) -> Any:
        data = json.dumps(content).encode()
        request = Request(f"{up.prefect}/api{path}", data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:  # none of our clients, which ask again
            return json.load(answer)

    flow = post("/flows/", {"name": "asked"})["id"]

    def refusal(_: int) -> str | None:
        try:
            run = post("/flow_runs/", {"flow_id": flow})["id"]
            for state in ("PENDING", "RUNNING", "COMPLETED"):
                post(f"/flow_runs/{run}/set_state", {"state": {"type": state}, "force": True})
        except OSError as error:
            return str(error)

    with ThreadPoolExecutor(6) as clients:
        assert list(clients.map(refusal, range(30))) == [None] * 30


def test_health_is_shown_of_every_part(up: Up) -> None:
    name = socket.gethostname()
    workers = [f"worker {name}{worker.removeprefix('worker')} " for worker in WORKERS]
    for part in ("Prefect ", "MLflow ", *workers, "deployments "):
        [line] = [line for line in up.said().splitlines() if line[4:].startswith(part)]
        assert line.startswith("ok  "), line
        assert (up.root / "servers" / line.split()[-1]).is_file()
    assert f"export PREFECT_API_URL={up.prefect}/api MLFLOW_TRACKING_URI={up.mlflow}" in up.said()


def test_only_loopback_is_bound(up: Up) -> None:
    bound = [
        connection.laddr
        for process in up.relatives()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(up.ports) <= {address.port for address in bound}
    assert {address.ip for address in bound} <= LOOPBACK


def test_nothing_phones_home(up: Up) -> None:
    assert up.api("GET", "/admin/settings")["server"]["analytics_enabled"] is False
    pages = call(f"{up.prefect}/ui-settings")["available_uis"]
    assert pages == ["v1"], "those of v2 call amplitude.com"
    assert call(f"{up.mlflow}/ajax-api/3.0/mlflow/ui-telemetry")["disable_ui_telemetry"] is True
    found = [p for p in up.relatives() if p.pid != up.process.pid]
    num_asked = 0
    for process in found:
        with suppress(psutil.Error):  # a run that has just ended
            command, environment = process.cmdline(), process.environ()
            if "wit.guard" in command:
                continue
            # Prefect hands its settings to the processes of runs as "False" and "2.0".
            its = {n: value.lower().removesuffix(".0") for n, value in environment.items()}
            assert SETTINGS.items() <= its.items(), command
            num_asked += 1
    assert num_asked >= 3


@pytest.fixture(scope="module")
def killed(up: Up, small_study: Path) -> str:
    """A study in one place that was killed together with its worker."""
    settings = ["name=dead", "instructions.max_rows=46"]
    request = {"study_file": str(small_study), "execution": "local", "settings": settings}
    run = up.run("study", request=request)
    wait_for("a process that makes stages", up.makers)
    for process in up.of_program("worker"):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return run


def test_a_worker_that_was_killed_with_its_run_is_started_again(up: Up, killed: str) -> None:
    """One that was killed alone, and its run with it: test_handed_out.py."""
    wait_for("a new worker", lambda: "\nworker had ended and was started" in up.said())
    assert not up.makers()
    assert up.of_program("worker")


def test_a_cell_that_another_terminal_asks_for_runs_in_a_pool_of_its_own(
    up: Up, scheduled: Scheduled, small_study: Path, killed: str
) -> None:
    """Else parents that wait for their cells could take all places that these need."""
    [line] = [line for line in up.said().splitlines() if "export PREFECT_API_URL=" in line]
    exported = dict(pair.split("=", 1) for pair in line.partition("export ")[2].split())
    request = {"study_file": str(small_study), "weights": {"prompt": 0.5}}
    parameters = json.dumps({"request": request})
    prefect = str(Path(sys.executable).parent / "prefect")
    command = [prefect, "deployment", "run", "cell/cell", "--params", parameters]
    subprocess.run(
        command, cwd=ROOT, env={**up.environment, **exported}, check=True, capture_output=True
    )
    runs = up.api("POST", "/flow_runs/filter", {"deployments": {"name": {"any_": ["cell"]}}})
    [cell] = [
        run for run in runs if run["parameters"]["request"].get("study_file") == str(small_study)
    ]
    assert cell["work_pool_name"] == GPU_POOL
    assert up.wait_for_end(cell["id"])["message"] == "18 reused"
    assert up.api("GET", f"/flow_runs/{killed}")["work_pool_name"] == WORK_POOL


# While what was killed gives no sign of life:


def test_a_second_wit_up_shows_the_first_and_starts_nothing(up: Up) -> None:
    before = {process.pid for process in up.relatives()}
    others = ["--prefect-port", str(free_port()), "--mlflow-port", str(free_port())]
    command = [*up.command(), *others]
    done = subprocess.run(command, env=up.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"process {up.process.pid}:" in done.stdout.splitlines()[0]
    assert up.prefect in done.stdout
    assert up.mlflow in done.stdout
    assert done.stdout.count("ok  ") == 3 + len(WORKERS)
    assert {process.pid for process in up.relatives()} <= before, "others may end meanwhile"


def test_the_doctor_finds_both_servers_well(up: Up) -> None:
    found = {"PREFECT_API_URL": f"{up.prefect}/api", "MLFLOW_TRACKING_URI": up.mlflow}
    command = [*WIT, "doctor", "--json", "--set-runtime", f"artifact_root={up.root}"]
    done = subprocess.run(
        command, env={**up.environment, **found}, capture_output=True, text=True, check=False
    )
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0
    assert findings["Prefect"]["found"] == f"{up.prefect}/api"
    assert findings["MLflow"]["found"] == up.mlflow
    assert findings["wit up"]["found"] == f"{up.prefect}, 3 of 3 workers poll"


def refused(up: Up, tmp_path: Path, *ports: int) -> str:
    """What a `wit up` of another artifact root says."""
    options = ["--set-runtime", f"artifact_root={tmp_path}"]
    for option, port in zip(("--prefect-port", "--mlflow-port"), ports, strict=True):
        options += [option, str(port)]
    command = [*up.command(), *options]
    done = subprocess.run(command, env=up.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = (done.stdout + done.stderr).strip().splitlines()
    assert up.process.poll() is None
    return line


def test_a_taken_port_is_one_clear_error(up: Up, tmp_path: Path) -> None:
    prefect, mlflow = up.ports
    line = refused(up, tmp_path, prefect, free_port())
    assert line.startswith(f"error: 127.0.0.1:{prefect} ")
    assert "--prefect-port" in line
    line = refused(up, tmp_path, free_port(), mlflow)
    assert line.startswith(f"error: 127.0.0.1:{mlflow} ")
    assert "--mlflow-port" in line


def test_two_never_share_a_database_of_prefect(up: Up, tmp_path: Path) -> None:
    line = refused(up, tmp_path, free_port(), free_port())
    assert line.startswith(f"error: another wit up has Prefect's database in {up.root.parent}/home")


def test_mlflow_is_started_again(up: Up, killed: str) -> None:
    """Runs go on without it, and tell it later: test_run_command.py."""
    psutil.Process(up.standing()["pids"]["mlflow"]).kill()
    wait_for("its news", lambda: "mlflow had ended and was started again" in up.said())

    def names() -> set[str] | None:
        with suppress(URLError):
            place = f"{up.mlflow}/api/2.0/mlflow/experiments/search?max_results=9"
            return {experiment["name"] for experiment in call(place)["experiments"]}

    assert wait_for("MLflow", names) == {"Default", "wit"}


def test_a_run_that_was_killed_with_its_worker_is_marked_as_crashed(up: Up, killed: str) -> None:
    state = up.wait_for_end(killed)
    assert state["type"] == "CRASHED"
    assert state["message"].startswith(f"No sign of life for {CRASHED_AFTER} seconds")
    named = {"automations": {"name": {"any_": [CRASH_AUTOMATION]}}}
    assert len(up.api("POST", "/automations/filter", named)) == 1


def test_a_run_that_was_taken_and_never_started_is_marked_as_crashed(up: Up, taken: str) -> None:
    """A study that has handed it out would wait for it for ever."""
    state = up.wait_for_end(taken)
    assert state["type"] == "CRASHED"
    assert state["message"].startswith(f"Not started {2 * CRASHED_AFTER} seconds after a worker")


def test_a_run_whose_worker_was_gone_before_it_could_cancel_it_is_cancelled(
    up: Up, cancelling: str
) -> None:
    """Its study, started again, would wait for it for ever; Prefect lets nobody mark it crashed."""
    state = up.wait_for_end(cancelling)
    assert state["type"] == "CANCELLED"
    assert state["message"].startswith(f"Not cancelled {CRASHED_AFTER} seconds after")


def lasting(value: Any) -> Any:
    """What a restart must leave as it is: all but times and states."""
    passing = ("updated", "last_polled", "status", "active_slots")
    if isinstance(value, dict):
        return {name: lasting(v) for name, v in value.items() if name not in passing}
    if isinstance(value, list):  # Prefect keeps names of events in no order
        items = [lasting(item) for item in value]
        return sorted(items) if all(isinstance(item, str) for item in items) else items
    return value


def settings(up: Up) -> list[dict]:
    kinds = ("deployments", "work_pools", "automations")
    return lasting([found for kind in kinds for found in up.api("POST", f"/{kind}/filter", {})])


def set_by_people(up: Up) -> tuple[bool, int]:
    """Whether the nightly schedule is active, and how many runs the pool takes."""
    [nightly] = up.deployment("study")["schedules"]
    return nightly["active"], up.api("GET", "/work_pools/wit")["concurrency_limit"]


def test_ended_in_the_middle_of_a_run_and_started_again(up: Up, small_study: Path) -> None:
    deployment = up.deployment("study")
    [nightly] = deployment["schedules"]
    assert nightly["active"] is False
    # What people do in the UI: they resume the nightly run, and limit the pool.
    schedule = f"/deployments/{deployment['id']}/schedules/{nightly['id']}"
    up.api("PATCH", schedule, {"active": True})
    up.api("PATCH", "/work_pools/wit", {"concurrency_limit": 3})
    before = settings(up)
    settings_ = ["name=ended", "instructions.max_rows=40"]
    request = {"study_file": str(small_study), "execution": "local", "settings": settings_}
    run = up.run("study", request=request)
    wait_for("a process that makes stages", up.makers)

    assert up.end(signal.SIGTERM) == 0
    assert up.relatives() == [], "SIGTERM leaves nothing"

    up.start()
    up.wait_until_ready()
    state = up.state(run)
    assert state["type"] == "CRASHED", "not Running for ever"
    assert set_by_people(up) == (True, 3)
    assert settings(up) == before
    up.api("PATCH", schedule, {"active": False})


def test_killed_it_leaves_nothing(up: Up) -> None:
    """That what makes stages ends with it: as above, test_workers.py and test_lifeline.py."""
    assert len(up.relatives()) > len(WORKERS)
    up.end(signal.SIGKILL)
    assert wait_for("an empty machine", lambda: not up.relatives())
