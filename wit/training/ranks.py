"""One SFT on several processes, one GPU each: the same code as on one, started here.

``python -m wit.training.ranks JOB.json`` is what every rank runs. Ranks share every optimizer step,
so their number changes no result. ``accelerate launch --multi_gpu --num_processes 2 -m
wit.training.ranks JOB.json`` starts them too, on CPUs with ``ACCELERATE_USE_CPU=true`` in the
environment (its ``--cpu`` starts a single one). Only the job's runtime says whether to shard.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from accelerate import PartialState

from wit import errors
from wit.artifacts import JOB
from wit.config import WORKER_GPUS, Runtime
from wit.errors import (
    ArtifactError,
    ConfigError,
    DiskFullError,
    OutOfMemoryError,
    StageError,
    WitError,
    WorkerDiedError,
    first_line,
)
from wit.files import is_full, is_unwritable
from wit.lifeline import LIFELINE
from wit.memory import is_out_of_memory
from wit.models import choose_device
from wit.recipes import RungRecipe, SFTRecipe
from wit.settings import Settings
from wit.training.callbacks import Log
from wit.training.sft import train_sft

# What lines begin with by which ranks hand on what the first one measures, and what ends any of
# them. Not files: the disk may be full.
FIGURES, FAILURE = "wit-figures ", "wit-failure "
MOST_SAID = 3000  # characters: a longer line could be cut by that of another rank


class Job(Settings):
    """What ``train_sft`` is told."""

    recipe: RungRecipe | SFTRecipe
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
        WorkerDiedError: A rank was killed, or lost the others; running again resumes it.
        ArtifactError: A rank could not write; running again resumes it.
        WitError: What else a rank raised.
    """
    environment = _environment(runtime)
    job = Job(
        recipe=recipe,
        base=base,
        instructions=instructions,
        tokenizer=tokenizer_folder,
        out=out,
        runtime=runtime.model_copy(update={"tracking_uri": None}),  # it may hold a password
    )
    (out / JOB).write_text(job.model_dump_json(), encoding="utf-8")
    launcher = ["torch.distributed.run", "--standalone"]
    num_ranks = ["--nproc_per_node", str(runtime.num_processes)]
    rank = ["-m", LIFELINE, "wit.training.ranks", str(out / JOB)]
    with subprocess.Popen(
        [sys.executable, "-m", LIFELINE, *launcher, *num_ranks, *rank],
        env=environment,
        stdin=subprocess.PIPE,  # with whose other end they end: no orphan holds a GPU
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",  # of a rank that was killed, the last character may be half
    ) as process:
        assert process.stdout is not None
        failures = _hand_on(process.stdout, log)
    if process.returncode:
        raise _cause(failures, process.returncode)


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


def _hand_on(lines: Iterable[str], log: Log) -> list[WitError]:
    """Logs figures and shows what else is said, to the end; gives what ended ranks, in order."""
    failures = []
    for line in lines:
        begin = next((begin for begin in (FIGURES, FAILURE) if line.startswith(begin)), None)
        try:
            said = json.loads(line.removeprefix(begin)) if begin else None
        except ValueError:  # a rank was killed in the middle of it
            said = None
        if said and begin == FIGURES:
            log(*said)
        elif said:
            name, message = said
            kind: Any = getattr(errors, name, StageError)
            failures.append(kind(message))
        elif line.strip():
            sys.stdout.write(line)
    return failures


def _cause(failures: list[WitError], code: int) -> WitError:
    """The first failure, unless it follows from another one: where a rank fails, others lose it."""
    killed = WorkerDiedError(
        f"a rank died (exit code {code}): out of memory, or killed. Run again to resume"
    )
    causes = (failure for failure in failures if not isinstance(failure, WorkerDiedError))
    return next(causes, next(iter(failures), killed))


def run_rank(job_file: Path) -> None:
    """Trains as one of several ranks; the first one hands figures on.

    Raises:
        Exception: The training failed; the process that started the ranks is told why.
    """
    try:
        job = Job.model_validate_json(job_file.read_text(encoding="utf-8"))
        PartialState(cpu=choose_device(job.runtime.device).type == "cpu")  # joins the other ranks
        train_sft(job.recipe, job.base, job.instructions, job.tokenizer, job.out, job.runtime, _log)
    except Exception as error:
        failure = _as_ours(error, job_file.parent)
        _say(FAILURE, [type(failure).__name__, str(failure)[:MOST_SAID]])
        raise


def _log(figures: dict[str, float], step: int) -> None:
    _say(FIGURES, [figures, step])


def _say(begin: str, what: Any) -> None:
    """Writes a line of its own, even where a library has left one unfinished."""
    sys.stdout.write(f"\n{begin}{json.dumps(what)}\n")
    sys.stdout.flush()


def _as_ours(error: Exception, out: Path) -> WitError:
    """What a rank raised, as what a stage may raise."""
    if is_out_of_memory(error):
        return OutOfMemoryError(first_line(error))
    if isinstance(error, WitError):
        return error
    # NCCL's errors begin with a place in its code, and say at their end what was wrong.
    said = " ".join([first_line(error), *str(error).partition("Last error:")[2].split()])
    if is_full(out, error):
        return DiskFullError(f"{out}: cannot be written: {said}")
    if is_unwritable(out, error):
        return ArtifactError(f"{out}: cannot be written: {said}")
    if isinstance(error, dist.DistError) or "gloo/transport" in str(error):  # a plain RuntimeError
        return WorkerDiedError(
            "a rank lost the others, be it that one died (out of memory, or killed) or that they "
            f"cannot reach each other: {said}. Run again to resume"
        )
    return StageError(f"a rank failed: {said}")


if __name__ == "__main__":
    gc.freeze()  # what was imported stays, and need not be looked at again
    gc.set_threshold(700, 10, 10)  # Python's own; ``wit.lifeline`` set another while we imported
    run_rank(Path(sys.argv[1]))
