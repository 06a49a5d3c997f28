"""The command lines of the programs of ``wit up``; none has a password in it."""

import socket

from wit.config import Runtime
from wit.deployments import GPU_POOL, WORK_POOL
from wit.serving.access import Access
from wit.serving.programs import WORKER
from wit.serving.standing import Worker
from wit.worker_environment import gpus_of_worker, visible_gpus

GUARDED_SERVER = "tasks.guarded_server:app"  # as uvicorn finds it
PARENTS = 6  # runs at a time of the worker whose runs wait for others; 4 of them are studies


def prefect_server(access: Access, port: int) -> list[str]:
    """Prefect's server; its database is in its environment."""
    place = ["--host", access.host, "--port", str(port)]
    return ["uvicorn", "--factory", GUARDED_SERVER, *place, "--log-level", "warning"]


def mlflow_server(access: Access, port: int, runtime: Runtime) -> list[str]:
    """MLflow's server; its database is in its environment."""
    files = runtime.artifact_root.resolve() / "mlartifacts"  # as in wit.lineage
    command = ["mlflow", "server", "--host", access.host, "--port", str(port), "--workers", "1"]
    auth = ["--app-name", "basic-auth"] if access.mlflow_credentials else []
    return [*command, "--artifacts-destination", str(files), *auth]


def worker(one: Worker) -> list[str]:
    """A worker of Prefect."""
    place = ["--pool", one.pool, "--type", "process"]
    limit = ["--limit", str(one.limit)]
    return ["prefect", "worker", "start", "--name", one.name, *limit, *place]


def workers_here(runtime: Runtime, num_gpu_workers: int | None) -> list[Worker]:
    """The workers of this machine; names are the same at every start.

    Args:
        runtime: Its device, and how many GPUs one training takes.
        num_gpu_workers: Of cells; None: as many as the GPUs here serve at a time, or one.
    """
    host = socket.gethostname()
    gpus = visible_gpus() if runtime.device != "cpu" else []
    if num_gpu_workers is None:
        num_gpu_workers = max(1, len(gpus) // runtime.num_processes)
    parents = Worker(WORKER, host, WORK_POOL, PARENTS)
    cells = (
        Worker(
            program=f"{WORKER}-gpu-{number}",
            name=f"{host}-gpu-{number}",
            pool=GPU_POOL,
            limit=1,  # the worker is the place on the GPU
            gpus=",".join(gpus_of_worker(number, gpus, runtime.num_processes)),
        )
        for number in range(num_gpu_workers)
    )
    return [parents, *cells]
