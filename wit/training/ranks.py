"""One SFT on several processes, one GPU each: the same code as on one, started here.

``python -m wit.training.ranks JOB.json`` is what every rank runs. Ranks share every optimizer step,
so their number changes no result.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist
from accelerate import PartialState

from wit import errors
from wit.artifacts import FAILURE, JOB
from wit.config import WORKER_GPUS, Runtime
from wit.errors import ConfigError, StageError, WitError, WorkerDiedError, first_line
from wit.lifeline import LIFELINE
from wit.models import choose_device
from wit.recipes import SFTRecipe
from wit.settings import Settings
from wit.training.callbacks import Log
from wit.training.sft import train_sft

FIGURES = "wit-figures "  # begins the lines by which the first rank hands on what it measures


class Job(Settings):
    """What ``train_sft`` is told."""

    recipe: SFTRecipe
    base: Path
    instructions: Path
    tokenizer: Path
    out: Path
    runtime: Runtime


def train_sft_on_ranks(
    recipe: SFTRecipe,
    base: Path,
    instructions: Path,
    tokenizer_folder: Path,
    out: Path,
    runtime: Runtime,
    log: Log,
) -> None:
    """As ``train_sft``, on ``runtime.num_processes`` processes.

    Raises:
        ConfigError: There are not as many GPUs.
        WorkerDiedError: A rank was killed; running again resumes it.
        WitError: What a rank raised.
    """
    environment = _environment(runtime)
    job = Job(
        recipe=recipe,
        base=base,
        instructions=instructions,
        tokenizer=tokenizer_folder,
        out=out,
        runtime=runtime,
    )
    (out / JOB).write_text(job.model_dump_json(), encoding="utf-8")
    (out / FAILURE).unlink(missing_ok=True)
    launcher = ["torch.distributed.run", "--standalone"]
    num_ranks = ["--nproc_per_node", str(runtime.num_processes)]
    rank = ["-m", LIFELINE, "wit.training.ranks", str(out / JOB)]
    with subprocess.Popen(
        [sys.executable, "-m", LIFELINE, *launcher, *num_ranks, *rank],
        env=environment,
        stdin=subprocess.PIPE,  # with whose other end they end: no orphan holds a GPU
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            _hand_on(line, log)
    if process.returncode:
        raise _failure(out, process.returncode)


def _environment(runtime: Runtime) -> dict[str, str]:
    """Of the ranks: their GPUs, or their share of the CPU."""
    wanted = runtime.num_processes
    environment = dict(os.environ)
    if choose_device(runtime.device).type == "cpu":
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        return {
            **environment,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": str(max(1, threads // wanted)),
        }
    gpus = [gpu for gpu in os.environ.get(WORKER_GPUS, "").split(",") if gpu]
    if len(gpus) < wanted:
        raise ConfigError(
            f"runtime num_processes is {wanted}, but this worker has {len(gpus)} GPUs; set "
            "num_processes to at most the number of GPUs divided by num_workers"
        )
    return {**environment, "CUDA_VISIBLE_DEVICES": ",".join(gpus[:wanted])}


def _hand_on(line: str, log: Log) -> None:
    if line.startswith(FIGURES):
        figures, step = json.loads(line.removeprefix(FIGURES))
        log(figures, step)
    else:
        sys.stdout.write(line)


def _failure(out: Path, code: int) -> WitError:
    if not (out / FAILURE).exists():
        return WorkerDiedError(
            f"a rank died (exit code {code}): out of memory, or killed. Run again to resume"
        )
    failure = json.loads((out / FAILURE).read_text(encoding="utf-8"))
    kind: Any = getattr(errors, failure["kind"], StageError)
    return kind(failure["message"])


def run_rank(job_file: Path) -> None:
    """Trains as one of several ranks; the first one hands figures on.

    Raises:
        WitError: The training failed; it is written down for the process that started the ranks.
    """
    job = Job.model_validate_json(job_file.read_text(encoding="utf-8"))
    PartialState(cpu=choose_device(job.runtime.device).type == "cpu")  # joins the other ranks

    def log(figures: dict[str, float], step: int) -> None:
        sys.stdout.write(FIGURES + json.dumps([figures, step]) + "\n")
        sys.stdout.flush()

    try:
        train_sft(job.recipe, job.base, job.instructions, job.tokenizer, job.out, job.runtime, log)
    except Exception as error:
        # A rank whose peer was killed: the launcher shall know no more than that one died. Gloo
        # raises plain RuntimeErrors.
        if isinstance(error, dist.DistError) or "gloo/transport" in str(error):
            raise
        is_ours = isinstance(error, WitError)
        failure = {
            "kind": type(error).__name__ if is_ours else StageError.__name__,
            "message": str(error) if is_ours else f"a rank failed: {first_line(error)}",
        }
        with suppress(FileExistsError), (job.out / FAILURE).open("x", encoding="utf-8") as file:
            file.write(json.dumps(failure))
        raise


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]))
