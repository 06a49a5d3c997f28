"""``wit up``: Prefect server, MLflow server and a worker on this machine, ended together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError
from uuid import uuid4

import yaml
from rich.console import Console

import wit
from wit import deployments, lineage
from wit.config import Runtime
from wit.errors import InputError, StageError
from wit.guard import MARK, end_marked
from wit.lineage.store import EXPERIMENT, UI_MODE

HOST = "127.0.0.1"
PROJECT = Path(wit.__file__).resolve().parent.parent  # where prefect.yaml is
START_SECONDS = 180.0
POLL_SECONDS = 0.2
TIMEOUT_SECONDS = 5.0  # of one question
ENDING_ORDER = ("worker", "mlflow", "prefect")  # so that a run can still say what became of it
SETTINGS = {
    # Nothing that we start phones home.
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # its pages call amplitude.com, those of V1 nobody
    "PREFECT_WORKER_QUERY_SECONDS": "2",  # its 10 would be most of the time until a run starts
    # Eight processes that serve MLflow's agents, not its runs.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


class Servers:
    """Programs that end together, even when this process is killed."""

    def __init__(self, log_folder: Path, environment: Mapping[str, str]) -> None:
        """Starts only the guard, which outlives this process.

        Args:
            log_folder: What a program says goes to ``NAME.log`` there.
            environment: Of all programs.
        """
        self.log_folder = log_folder
        self.environment = environment
        self._mark = uuid4().hex
        guard = [sys.executable, "-m", "wit.guard", self._mark, *ENDING_ORDER]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)
        self._processes = {"guard": self._guard}

    def start(self, name: str, *command: str) -> None:
        """Starts a program of this environment."""
        self._processes[name] = self._popen(name, command)

    def run(self, name: str, *command: str) -> None:
        """Runs a program to its end.

        Raises:
            StageError: It failed; names its log.
        """
        if self._popen(name, command).wait():
            raise StageError(f"{' '.join(command)} failed; see {self._log(name)}")

    def wait_until(self, name: str, is_ready: Callable[[], bool]) -> None:
        """Waits until a program is ready.

        Raises:
            StageError: A program ended, or this one was not ready in time; names its log.
        """
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise StageError(f"{name} did not start in time; see {self._log(name)}")
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Passes while all programs live.

        Raises:
            StageError: One has ended by itself; names its log.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise StageError(f"{name} has ended; see {self._log(name)}")

    def stop(self) -> None:
        """Ends all programs with their children."""
        end_marked(self._mark, *ENDING_ORDER)
        self._guard.communicate()

    def _popen(self, name: str, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with self._log(name).open("ab") as log:
            return subprocess.Popen(
                [str(Path(sys.executable).parent / command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self.environment, MARK: f"{self._mark}/{name}"},
                cwd=PROJECT,
                start_new_session=True,  # Ctrl-C is for us; we end the others in good order
            )

    def _log(self, name: str) -> Path:
        return self.log_folder / f"{name}.log"


def run_servers(console: Console, runtime: Runtime, *, prefect_port: int, mlflow_port: int) -> None:
    """Starts everything, applies the deployments, prints addresses, and waits for Ctrl-C.

    Raises:
        InputError: A port is taken, the artifact root cannot be written, or this is no checkout.
        StageError: A program did not start, or ended by itself.
    """
    if not (PROJECT / "prefect.yaml").is_file():
        raise InputError(f"{PROJECT} holds no prefect.yaml; run wit up from a checkout of wit")
    _check_free({"--prefect-port": prefect_port, "--mlflow-port": mlflow_port})
    folder = _server_folder(runtime)
    store = _store(runtime)
    prefect, mlflow = f"http://{HOST}:{prefect_port}", f"http://{HOST}:{mlflow_port}"
    _end_on_signals()
    servers = Servers(folder, _environment(folder, prefect, mlflow))
    try:
        servers.start("prefect", *_prefect_server(prefect_port))
        servers.start("mlflow", *_mlflow_server(mlflow_port, store, runtime))
        servers.wait_until("prefect", lambda: _answers(f"{prefect}/api/health"))
        _deploy(servers, prefect)
        servers.wait_until("mlflow", lambda: _answers(f"{mlflow}/health"))
        for name, place in (("Prefect", prefect), ("MLflow", _runs_page(mlflow)), ("logs", folder)):
            console.print(f"{name + ':':9}{place}", soft_wrap=True, highlight=False)
        console.print("Start a study in Prefect: Deployments, study, Run. Ctrl-C ends all.")
        while True:
            servers.check()
            time.sleep(1)
    except OSError as error:
        raise StageError(f"a server does not answer as it should: {error}; see {folder}") from error
    except KeyboardInterrupt:
        console.print("ending")
    finally:
        servers.stop()


def _prefect_server(port: int) -> list[str]:
    return ["prefect", "server", "start", "--host", HOST, "--port", str(port)]


def _mlflow_server(port: int, store: str, runtime: Runtime) -> list[str]:
    files = runtime.artifact_root.resolve() / "mlartifacts"  # as in wit.lineage
    place = ["--backend-store-uri", store, "--artifacts-destination", str(files)]
    return ["mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", *place]


def _deploy(servers: Servers, prefect: str) -> None:
    """Applies ``prefect.yaml``, and waits for a worker that takes one run at a time."""
    deployments.make_work_pool(prefect)
    name = socket.gethostname()
    deployments.forget_worker(prefect, name)
    pool = ["--pool", deployments.WORK_POOL, "--type", "process"]
    servers.start("worker", "prefect", "worker", "start", "--name", name, "--limit", "1", *pool)
    before = list(deployments.schedules(prefect))
    servers.run("deploy", "prefect", "--no-prompt", "deploy", "--all")
    deployments.restore_schedules(prefect, before)
    servers.wait_until("worker", lambda: deployments.has_worker(prefect, name))


def _environment(folder: Path, prefect: str, mlflow: str) -> dict[str, str]:
    """What all programs and all that they start, flow runs included, find in their environment."""
    no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY"), HOST, "localhost"]))
    return {
        **os.environ,
        **SETTINGS,
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "PREFECT_API_URL": f"{prefect}/api",
        "MLFLOW_TRACKING_URI": mlflow,
        # For prefect.yaml.
        "WIT_ROOT": str(PROJECT),
        "WIT_RUNTIME": str(folder / "runtime.yaml"),
    }


def _server_folder(runtime: Runtime) -> Path:
    """Logs, and the runtime that deployments use unless told otherwise.

    It does not name the MLflow server; the environment of the worker does.

    Raises:
        InputError: It cannot be written.
    """
    root = runtime.artifact_root.resolve()
    folder = root / "servers"
    values = runtime.model_dump(mode="json", exclude_none=True, exclude={"tracking_uri"})
    content = yaml.safe_dump({**values, "artifact_root": str(root)}, sort_keys=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "runtime.yaml").write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{root}: the artifact root cannot be written ({error.strerror}); "
            "choose another with --set-runtime artifact_root=DIR"
        ) from None
    return folder


def _store(runtime: Runtime) -> str:
    """The database that the MLflow server serves, made if need be.

    Raises:
        InputError: It is a server already.
    """
    store = lineage.tracking_uri(runtime)
    if store.startswith("http"):
        raise InputError(
            f"MLflow shall run at {store}, but wit up starts its own: unset MLFLOW_TRACKING_URI, "
            "or name a database there"
        )
    lineage.prepare(store)
    return store


def _check_free(ports: Mapping[str, int]) -> None:
    """Passes if nobody listens on any of the ports, and no two are the same.

    Raises:
        InputError: Naming the port and the option that chooses another.
    """
    with ExitStack() as stack:
        for option, port in ports.items():
            listener = stack.enter_context(socket.socket())
            # As the servers do: connections of the last session that linger do not count.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or error
                raise InputError(
                    f"{HOST}:{port} cannot be used ({reason}); choose another port with {option}"
                ) from None


def _runs_page(mlflow: str) -> str:
    """Where the runs are; MLflow's own first page leads to empty ones about agents."""
    place = f"{mlflow}/api/2.0/mlflow/experiments/get-by-name?experiment_name={EXPERIMENT}"
    try:
        with deployments.web.open(place, timeout=TIMEOUT_SECONDS) as answer:
            experiment = json.load(answer)["experiment"]["experiment_id"]
    except HTTPError:  # nothing has run yet
        return mlflow
    return f"{mlflow}/#/experiments/{experiment}?{UI_MODE}"


def _answers(url: str) -> bool:
    try:
        deployments.web.open(url, timeout=TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True


def _end_on_signals() -> None:
    """Ctrl-C, a request to end, or a closed terminal ends all in good order."""
    # A shell's background jobs ignore Ctrl-C, and so would the worker, which needs it to end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda *_: sys.exit(0))
