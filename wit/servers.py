"""``wit up``: Prefect server, MLflow server and a worker, as children of this process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console

import wit
from wit import lineage
from wit.config import Runtime
from wit.errors import InputError, StageError

HOST = "127.0.0.1"
PROJECT = Path(wit.__file__).resolve().parent.parent  # where prefect.yaml is
WORK_POOL = "wit"
START_SECONDS = 120.0
STOP_SECONDS = 10.0


class Servers:
    """Child processes that end together."""

    def __init__(self, log_folder: Path, environment: dict[str, str]) -> None:
        self.log_folder = log_folder
        self.environment = environment
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        """Starts a program of this environment; what it says goes to ``NAME.log``."""
        self.log_folder.mkdir(parents=True, exist_ok=True)
        with (self.log_folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                _program(*command),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                cwd=PROJECT,
                start_new_session=True,  # its own children end with it
                preexec_fn=_die_with_parent,
            )

    def run(self, *command: str) -> None:
        """Runs a program to its end.

        Raises:
            StageError: It failed; with what it said.
        """
        done = subprocess.run(
            _program(*command),
            env=self.environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StageError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")

    def wait_for(self, name: str, url: str) -> None:
        """Waits until ``url`` answers.

        Raises:
            StageError: The server ended or did not answer in time; names its log.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.processes[name].poll() is None:
            try:
                with urlopen(url, timeout=2):
                    return
            except (URLError, OSError):
                time.sleep(0.2)
        raise StageError(f"{name} did not start; see {self.log_folder / f'{name}.log'}")

    def ended(self) -> str | None:
        """Name of a program that has ended by itself."""
        return next((n for n, p in self.processes.items() if p.poll() is not None), None)

    def stop(self) -> None:
        """Ends all programs with their children, workers before servers."""
        for name in reversed(list(self.processes)):
            process = self.processes[name]
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()


def run_servers(console: Console, runtime: Runtime, *, prefect_port: int, mlflow_port: int) -> None:
    """Starts everything, applies the deployments, prints addresses, and waits for Ctrl-C.

    Raises:
        InputError: A port is taken.
        StageError: A server did not start, or ended.
    """
    prefect, mlflow = f"http://{HOST}:{prefect_port}", f"http://{HOST}:{mlflow_port}"
    for address in (prefect, mlflow):
        _check_free(address)
    root = runtime.artifact_root.resolve()
    store = lineage.tracking_uri(runtime)
    if store.startswith("http"):
        raise InputError(f"MLflow runs already at {store}; wit up would start a second one")
    lineage.prepare(store)
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": mlflow,
        "WIT_ROOT": str(PROJECT),
    }
    servers = Servers(root / "servers", environment)
    _on_termination(lambda: sys.exit(0))
    try:
        port = str(prefect_port)
        servers.start("prefect", "prefect", "server", "start", "--host", HOST, "--port", port)
        _start_mlflow(servers, store, root, mlflow_port)
        servers.wait_for("prefect", f"{prefect}/api/health")
        servers.wait_for("mlflow", f"{mlflow}/health")
        servers.run("prefect", "work-pool", "create", WORK_POOL, "--type", "process", "--overwrite")
        servers.run("prefect", "--no-prompt", "deploy", "--all")
        servers.start("worker", "prefect", "worker", "start", "--pool", WORK_POOL)
        console.print(f"Prefect: {prefect}\nMLflow:  {mlflow}\nlogs:    {servers.log_folder}")
        console.print("Ctrl-C ends all.")
        while not (ended := servers.ended()):
            time.sleep(1)
        raise StageError(f"{ended} ended; see {servers.log_folder / f'{ended}.log'}")
    except KeyboardInterrupt:
        console.print("ending")
    finally:
        servers.stop()


def _start_mlflow(servers: Servers, store: str, root: Path, port: int) -> None:
    servers.start(
        "mlflow",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--backend-store-uri",
        store,
        "--artifacts-destination",
        str(root / "mlflow-artifacts"),
        "--workers",
        "1",
    )


def _program(name: str, *arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / name), *arguments]


def _check_free(address: str) -> None:
    try:
        urlopen(address, timeout=2).close()
    except URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return
    except OSError:
        pass
    raise InputError(f"{address} is taken; choose another with --prefect-port or --mlflow-port")


def _on_termination(act: Callable[[], None]) -> None:
    def handle(_signal: int, _frame: FrameType | None) -> None:
        act()

    signal.signal(signal.SIGTERM, handle)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _die_with_parent() -> None:
    """Linux only: the child is killed when ``wit up`` is, even by SIGKILL."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
