"""How the parts of a running ``wit up`` are."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple
from urllib.error import HTTPError

import psutil
from rich.console import Console

from wit.deployments import PrefectServer
from wit.serving.access import PREFECT_CLIENT_AUTH
from wit.serving.standing import Standing
from wit.serving.web import answers

TIMEOUT_SECONDS = 5.0  # of one question


class Part(NamedTuple):
    """One part of ``wit up``, as it was found."""

    name: str
    is_well: bool
    about: str  # its address, or what it is for
    log: str  # name of its file


def look(standing: Standing, credentials: str | None) -> list[Part]:
    """Looks at servers, workers and deployments; changes nothing."""
    prefect = PrefectServer(standing.prefect, credentials)
    is_up = answers(f"{standing.prefect}/api/health", TIMEOUT_SECONDS)
    polling: set[tuple[str, str]] = set()
    deployments: list[str] = []
    refusal = ""
    try:
        if is_up:
            deployments = prefect.deployments(TIMEOUT_SECONDS)
            polling = _polling(prefect, standing)
    except HTTPError as error:
        is_up = False
        refusal = f", answers {error.code} {error.reason}"
        if error.code == HTTPStatus.UNAUTHORIZED:
            refusal += f" (set {PREFECT_CLIENT_AUTH})"
    except OSError as error:
        is_up = False
        refusal = f", {getattr(error, 'reason', error)}"
    is_mlflow_up = answers(f"{standing.mlflow}/health", TIMEOUT_SECONDS)
    about = _with_pid(standing.prefect, standing, "prefect") + refusal
    return [
        Part("Prefect", is_up, about, "prefect.log"),
        Part("MLflow", is_mlflow_up, _with_pid(standing.mlflow, standing, "mlflow"), "mlflow.log"),
        *_workers(standing, polling),
        Part("deployments", bool(deployments), ", ".join(deployments) or "none", "deploy.log"),
    ]


def show(console: Console, parts: list[Part]) -> None:
    """Prints a line for each part, which no terminal cuts."""
    name_width = max(len(part.name) for part in parts)
    about_width = max(len(part.about) for part in parts)
    for part in parts:
        mark = "[green]ok[/green]" if part.is_well else "[red]no[/red]"
        line = f"{mark}  {part.name:{name_width}}  {part.about:{about_width}}  {part.log}"
        console.print(line, soft_wrap=True, highlight=False)


def _workers(standing: Standing, polling: set[tuple[str, str]]) -> Iterator[Part]:
    for worker in standing.workers:
        pid = standing.pids.get(worker.program, -1)
        lives = psutil.pid_exists(pid) or not standing.is_here
        runs = "1 run at a time" if worker.limit == 1 else f"{worker.limit} runs at a time"
        about = f"pool {worker.pool}, {runs}" + (f", GPU {worker.gpus}" if worker.gpus else "")
        yield Part(
            f"worker {worker.name}",
            lives and (worker.pool, worker.name) in polling,
            _with_pid(about, standing, worker.program),
            f"{worker.program}.log",
        )


def _polling(prefect: PrefectServer, standing: Standing) -> set[tuple[str, str]]:
    """Pool and name of each worker that polls."""
    pools = {worker.pool for worker in standing.workers}
    return {(p, name) for p in pools for name in prefect.polling_workers(p, TIMEOUT_SECONDS)}


def _with_pid(about: str, standing: Standing, program: str) -> str:
    pid = standing.pids.get(program)
    return f"{about}, process {pid}" if pid else about
