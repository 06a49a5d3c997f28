"""What ``wit doctor`` says of ``wit up``: the one that runs here, and what another would need."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

from wit.config import Runtime
from wit.deployments import GPU_POOL
from wit.findings import Finding
from wit.serving.access import PREFECT_AUTH, PREFECT_CLIENT_AUTH, what_is_missing
from wit.serving.commands import workers_here
from wit.serving.health import look
from wit.serving.postgres import missing_drivers
from wit.serving.standing import read_standing, server_folder


def diagnose_up(runtime: Runtime) -> Iterator[Finding]:
    """The ``wit up`` of this artifact root, and what its options would need; changes nothing."""
    yield _running(runtime)
    yield _gpu_workers(runtime)
    drivers = missing_drivers()
    found = f"needs: pip install {' '.join(drivers)}" if drivers else "its drivers are installed"
    yield Finding("wit up --postgres", True, found)
    missing = what_is_missing(os.environ)
    found = f"beyond this machine needs: {'; '.join(missing)}" if missing else "may be any address"
    yield Finding("wit up --host", True, found)


def _running(runtime: Runtime) -> Finding:
    folder = server_folder(runtime)
    standing = read_standing(folder)
    if standing is None:
        return Finding("wit up", True, "does not run here")
    if not standing.lives():
        return Finding("wit up", True, "was killed; the next start ends what is left of it")
    credentials = os.environ.get(PREFECT_CLIENT_AUTH) or os.environ.get(PREFECT_AUTH)
    parts = look(standing, credentials)
    ill = [part for part in parts if not part.is_well]
    polling = sum(part.name.startswith("worker") and part.is_well for part in parts)
    found = f"{standing.prefect}, {polling} of {len(standing.workers)} workers poll"
    if ill:
        names = ", ".join(part.name for part in ill)
        return Finding(
            "wit up", False, f"{found}; not well: {names}", f"less {folder}/{ill[0].log}"
        )
    return Finding("wit up", True, found)


def _gpu_workers(runtime: Runtime) -> Finding:
    """One worker for each GPU that nvidia-smi or the environment names."""
    workers = [worker for worker in workers_here(runtime, None) if worker.pool == GPU_POOL]
    if all(worker.gpus for worker in workers):
        gpus = "; ".join(worker.gpus for worker in workers)
        return Finding("wit up --gpu-workers", True, f"{len(workers)}, on GPU {gpus}")
    num_gpus = _num_gpus() if runtime.device != "cpu" else 0
    if num_gpus:
        remedy = f"export CUDA_VISIBLE_DEVICES={','.join(map(str, range(num_gpus)))}"
        found = f"nvidia-smi does not name the {num_gpus} GPUs that torch sees"
        return Finding("wit up --gpu-workers", False, found, remedy)
    return Finding("wit up --gpu-workers", True, "1, on the CPU")


def _num_gpus() -> int:
    if find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count()
