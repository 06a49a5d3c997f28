"""What the libraries of a worker find when they are loaded: threads, GPUs, and no chatter."""

import os
import subprocess

from wit.config import WORKER_GPUS, Runtime

DYNAMO = "TORCHDYNAMO_DISABLE"  # nothing is compiled by PyTorch where it is 1
# Nothing that we start phones home or draws progress bars.
QUIET = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets counts at amazonaws.com, local files too
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


def read_when_loaded(runtime: Runtime, gpus: list[str]) -> dict[str, str]:
    """What libraries look for in their environment when they are loaded, and never again."""
    num_threads = threads_per_worker(runtime)
    threads = {name: str(num_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if not gpus:
        # bitsandbytes has functions compiled as soon as it is loaded, and PEFT loads it where it
        # is; to import what compiles takes a second. On a CPU only one attention is compiled.
        is_compiled = runtime.attention == "flex_attention"
        compiler = {} if is_compiled else {DYNAMO: os.environ.get(DYNAMO, "1")}
        return {**QUIET, **threads, **compiler}
    # A trainer that saw several would use them all; ranks are given theirs.
    seen = {"CUDA_VISIBLE_DEVICES": gpus[0], WORKER_GPUS: ",".join(gpus)}
    return {**QUIET, **threads, **seen}


def threads_per_worker(runtime: Runtime) -> int:
    """CPU threads of one worker."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return runtime.threads_per_worker or max(1, (cores or 1) // runtime.num_workers)


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, without importing torch."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip()]
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


def gpus_of_worker(number: int, gpus: list[str], num_processes: int = 1) -> list[str]:
    """The GPUs of a worker, in turn: as many as its trainings have ranks, if there are so many."""
    num_places = max(1, len(gpus) // num_processes)
    start = number % num_places * num_processes
    return gpus[start : start + num_processes]
