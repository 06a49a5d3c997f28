"""A training on several processes: who may start them, and what becomes of all if one fails."""

import errno
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from forked import Forking
from forked_ranks import run_rank_saying
from found_processes import ranks_in, what_outlives
from trainers import Parts, losses_of, recipe

from wit.artifacts import JOB
from wit.config import WORKER_GPUS, Runtime
from wit.data.splits import TRAIN, lengths_of, read_split, read_table, split_file
from wit.errors import (
    ConfigError,
    DiskFullError,
    OutOfMemoryError,
    StageError,
    TrainingError,
    WitError,
    WorkerDiedError,
)
from wit.recipes import SFTRecipe
from wit.training import ranks
from wit.training.ranks import train_sft_on_ranks
from wit.training.sft import train_sft
from wit.training.steps import Steps

RANK = "wit.training.ranks"


def test_what_one_rank_raises_is_raised_here_and_not_that_the_other_lost_it(
    parts: Parts, tmp_path: Path
) -> None:
    base, instructions, tokenizer = parts
    chosen, out = recipe(num_epochs=1), tmp_path / "out"
    out.mkdir()
    lengths = lengths_of(read_split(instructions, TRAIN), "input_ids")
    second = Steps(lengths, chosen.examples_per_step, chosen.seed, rank=1, num_ranks=2)
    broken = with_unknown_token(instructions, next(iter(second))[0], tmp_path / "instructions")
    runtime = Runtime(device="cpu", num_processes=2)
    with pytest.raises(StageError, match="a rank failed: index out of range"):
        train_sft_on_ranks(chosen, base, broken, tokenizer, out, runtime, lambda *_: None)
    assert not (out / "model").exists()


def with_unknown_token(instructions: Path, row: int, folder: Path) -> Path:
    """Prepared instructions of which one training row ends with a token that no model knows."""
    shutil.copytree(instructions, folder)
    rows = read_table(instructions, TRAIN)
    column = rows.schema.get_field_index("input_ids")
    ids = rows["input_ids"].to_pylist()
    ids[row][-1] = 2**30
    broken = rows.set_column(column, rows.field(column), pa.array(ids, rows.field(column).type))
    with pa.ipc.new_stream(split_file(folder, TRAIN), rows.schema) as writer:
        writer.write_table(broken)
    return folder


def test_ranks_end_with_the_process_that_wants_their_model_even_while_they_import(
    parts: Parts, tmp_path: Path, forking: Forking
) -> None:
    told = recipe(), *parts, tmp_path, Runtime(device="cpu", num_processes=2), print
    owner = forking.Process(target=train_sft_on_ranks, args=told)

    def have_ranks() -> bool:
        return len(ranks_in(tmp_path)) >= 3

    assert what_outlives(owner, once=have_ranks) == []


# That ranks train as one process: test_shards.py. Who starts them changes nothing.
@pytest.mark.slow
def test_ranks_that_accelerate_launches_train_as_one_process(parts: Parts, tmp_path: Path) -> None:
    alone, launched = tmp_path / "alone", tmp_path / "launched"
    for folder in (alone, launched):
        folder.mkdir()
    chosen = recipe(num_epochs=1)
    train_sft(chosen, *parts, alone, Runtime(device="cpu"), lambda *_: None)
    job = write_job(parts, launched, chosen, Runtime(device="cpu", checkpoint_seconds=0.001))
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    ranks = subprocess.run(
        [sys.executable, "-m", *launch, "--main_process_port", str(free_port()), "-m", RANK, job],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ranks.returncode == 0, ranks.stderr
    assert any(launched.rglob("rng_state_1.pth")), "there was no second rank"
    assert losses_of(launched) == pytest.approx(losses_of(alone), rel=2e-4)


def write_job(parts: Parts, out: Path, recipe: SFTRecipe, runtime: Runtime) -> Path:
    base, instructions, tokenizer = parts
    job = ranks.Job(
        recipe=recipe,
        base=base,
        instructions=instructions,
        tokenizer=tokenizer,
        out=out,
        runtime=runtime,
    )
    file = out / JOB
    file.write_text(job.model_dump_json())
    return file


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_rank_that_cannot_join_the_others_says_why_and_may_try_again(
    parts: Parts, tmp_path: Path, forking: Forking
) -> None:
    job = write_job(parts, tmp_path, recipe(), Runtime(device="cpu"))
    rank = forking.Process(target=run_rank_saying, args=(job, tmp_path / "said.txt"))
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        first = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        rank.environment |= {**place, **first, "ACCELERATE_USE_CPU": "true"}
        rank.start()
        rank.join()
    assert rank.exitcode
    said = (tmp_path / "said.txt").read_text()
    [failure] = ranks._hand_on(said.splitlines(keepends=True), lambda *_: None)
    assert type(failure) is WorkerDiedError
    assert "address already in use" in str(failure)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TrainingError("the loss is nan"), TrainingError),
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError),
        (dist.DistBackendError("NCCL error: unhandled cuda error"), WorkerDiedError),
        (dist.DistNetworkError("the client socket has timed out"), WorkerDiedError),
        (RuntimeError("[gloo/transport/tcp/pair.cc:5] Connection closed"), WorkerDiedError),
        (RuntimeError("CUDA out of memory"), OutOfMemoryError),
        (PermissionError(errno.EACCES, "Permission denied", "/base/model"), StageError),
    ],
)
def test_every_failure_of_a_rank_has_a_kind_and_says_its_cause(
    error: Exception, kind: type[WitError], tmp_path: Path
) -> None:
    failure = ranks._as_ours(error, tmp_path)
    assert type(failure) is kind
    assert str(error) in str(failure)


def test_of_nccl_the_cause_is_said_and_not_only_the_place() -> None:
    error = dist.DistBackendError(
        "NCCL error in: x.cpp:94, invalid usage\nncclInvalidUsage: ...\nLast error:\nDuplicate GPU"
    )
    assert "x.cpp:94, invalid usage Duplicate GPU" in str(ranks._as_ours(error, Path("/")))


@pytest.mark.parametrize("begin", ["wit-figures ", "wit-failure "])
def test_a_line_that_a_killed_rank_left_unfinished_hides_no_other(
    begin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = f'{begin}[{{"loss": 1.2, "gr\n'
    logged: list[Any] = []
    lines = ['wit-figures [{"loss": 2}, 3]\n', cut, 'wit-failure ["TrainingError", "nan"]\n']
    [failure] = ranks._hand_on(lines, lambda *said: logged.append(said))
    assert (type(failure), str(failure)) == (TrainingError, "nan")
    assert logged == [({"loss": 2}, 3)]
    assert capsys.readouterr().out == cut


def test_the_cause_is_what_is_raised_and_not_what_follows_from_it() -> None:
    lost, diverged, other = WorkerDiedError("lost"), TrainingError("nan"), StageError("other")
    assert ranks._cause([lost, diverged, lost, other], 1) is diverged
    assert ranks._cause([lost, WorkerDiedError("lost too")], 1) is lost
    assert type(ranks._cause([], -9)) is WorkerDiedError


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(WORKER_GPUS, "3")
    with pytest.raises(ConfigError, match="num_processes is 2"):
        ranks._environment(Runtime(device="cuda", num_processes=2))
    monkeypatch.setenv(WORKER_GPUS, "3,5,7")
    environment = ranks._environment(Runtime(device="cuda", num_processes=2))
    assert environment["CUDA_VISIBLE_DEVICES"] == "3,5"
