"""Memory that runs out: known whoever says so, and then less is taken at once."""

import mmap
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from found_processes import marked_environment
from hypothesis import given
from tiny import make_tiny_base

from tasks.stage import MAX_HALVINGS
from wit.alignment_recipes import DPORecipe
from wit.artifacts import HALVINGS, Artifact, Source
from wit.config import PACKED_TOKENS, Runtime
from wit.errors import BaseModelError, FewerRowsError, OutOfMemoryError, StageError, WorkerDiedError
from wit.evaluation_recipes import BenchmarkEvaluation, BenchmarkRecipe
from wit.memory import (
    halve,
    halvings_of,
    is_out_of_memory,
    keep_halvings,
    lessened,
    release,
    said_of,
    with_less,
)
from wit.recipes import SFTRecipe, TokenizerRecipe
from wit.weights import TokenWeights

ABSURD = 2**58  # bytes
BASE = Source(kind="model", fingerprint="ba5eba5eba5e", location="/models/base")
WEIGHTS = TokenWeights(prompt=0, response=1)


def python() -> object:
    return bytearray(ABSURD)


def numpy() -> object:
    return np.empty(ABSURD // 8)


def cpu_of_torch() -> object:
    return torch.empty(ABSURD // 4)


def system() -> object:
    return mmap.mmap(-1, ABSURD)


def base_that_does_not_fit() -> object:
    try:
        return torch.empty(ABSURD // 4)
    except RuntimeError as error:
        raise BaseModelError("no causal language model can be loaded") from error


@pytest.mark.parametrize("allocate", [python, numpy, cpu_of_torch, system, base_that_does_not_fit])
def test_that_memory_ran_out_is_known_whoever_says_so(allocate: Callable[[], object]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011  of five kinds
        allocate()
    assert is_out_of_memory(caught.value)


def test_what_cuda_says_is_known() -> None:
    for said in ("CUDA out of memory. Tried to allocate 2.00 GiB.", "CUDA error: out of memory"):
        assert is_out_of_memory(torch.OutOfMemoryError(said))
        assert is_out_of_memory(RuntimeError(said))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("index out of range"),
        OSError(28, "No space left on device"),
        WorkerDiedError("the process died (out of memory, or killed)"),
        BaseModelError("out of memory of whoever wrote this"),
    ],
)
def test_another_failure_is_not_blamed_on_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


# --- less at once -------------------------------------------------------------------------------


def sft(root: Path, examples_per_step: int = 64) -> Artifact:
    recipe = SFTRecipe(weights=WEIGHTS, seed=0, examples_per_step=examples_per_step)
    return Artifact(root=root, recipe=recipe, parents={"base": BASE})


@given(
    rows=st.integers(1, 4096),
    evaluated=st.integers(1, 4096),
    examples_per_step=st.integers(1, 300),
    packing=st.sampled_from([None, True]),
)
def test_rows_are_halved_down_to_one_and_then_no_more(
    rows: int,
    evaluated: int,
    examples_per_step: int,
    packing: bool | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    artifact = sft(tmp_path_factory.mktemp("root"), examples_per_step)
    runtime = Runtime(
        device="cpu", micro_batch_size=rows, evaluation_batch_size=evaluated, packing=packing
    )
    assert lessened(artifact, runtime) == runtime
    assert said_of(artifact, runtime) == ""
    seen = [(min(rows, examples_per_step), evaluated)]
    while halve(artifact, runtime):
        less = lessened(artifact, runtime)
        seen.append((less.micro_batch_size, less.evaluation_batch_size))
        others = {"micro_batch_size", "evaluation_batch_size", "packed_tokens"}
        assert less.model_dump(exclude=others) == runtime.model_dump(exclude=others)
        assert f"micro_batch_size={less.micro_batch_size}" in said_of(artifact, runtime)
        assert less.packed_tokens == max(1, PACKED_TOKENS["cpu"] >> len(seen) - 1)
    assert seen[-1] == (1, 1)
    assert len(seen) - 1 <= MAX_HALVINGS
    for before, after in pairwise(seen):
        assert after == (max(1, before[0] // 2), max(1, before[1] // 2))
    shutil.rmtree(artifact.root)


def test_all_that_takes_rows_takes_less_and_nothing_else_does(tmp_path: Path) -> None:
    benchmark = BenchmarkRecipe(name="x", num_fewshot=0, limit=None)
    recipes = {
        "micro_batch_size=16": DPORecipe(seed=0),
        "evaluation_batch_size=32": BenchmarkEvaluation(benchmark=benchmark),
    }
    for said, recipe in recipes.items():
        artifact = Artifact(root=tmp_path, recipe=recipe, parents={"base": BASE})
        error = with_less(artifact, Runtime(), OutOfMemoryError("so much"), 0)
        assert type(error) is FewerRowsError
        assert said in str(error)
        last = with_less(artifact, Runtime(), OutOfMemoryError("so much"), 9)
        assert type(last) is StageError
        assert not last.may_pass
        assert "one by one" in str(last)
    tokenizer = Artifact(root=tmp_path, recipe=TokenizerRecipe(), parents={"base": BASE})
    error = with_less(tokenizer, Runtime(), OutOfMemoryError("so much"), 0)
    assert type(error) is OutOfMemoryError, "it may pass, but there is nothing to halve"
    assert not tokenizer.scratch.exists()


def test_of_two_who_ran_out_of_memory_with_as_many_rows_one_halves_them(tmp_path: Path) -> None:
    artifact, runtime = sft(tmp_path), Runtime(micro_batch_size=4, evaluation_batch_size=1)
    for num_before, num in ((0, 1), (0, 1), (1, 2), (0, 2), (1, 2)):
        error = with_less(artifact, runtime, OutOfMemoryError("so much"), num_before)
        assert type(error) is FewerRowsError, "the next attempt has fewer than this one had"
        assert halvings_of(artifact) == num
    assert type(with_less(artifact, runtime, OutOfMemoryError("so much"), 2)) is StageError


def test_halvings_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A kill amid the writing must leave the number as it was."""
    artifact = sft(tmp_path)
    keep_halvings(artifact, 3)
    before = (artifact.scratch / HALVINGS).stat().st_ino
    keep_halvings(artifact, 4)
    assert halvings_of(artifact) == 4
    assert (artifact.scratch / HALVINGS).stat().st_ino != before, "it was written in place"
    assert [file.name for file in artifact.scratch.iterdir()] == [HALVINGS]


# --- a training whose memory is limited by the kernel -------------------------------------------

# Prints what each attempt ended with. Of its memory only so much more may be used than it has
# once all is imported and the data are prepared.
LIMITED = """
import resource, sys
from pathlib import Path
import psutil, torch
from wit.config import Runtime
from wit.loading import load_study
from wit.memory import said_of
from wit.plan import make_plan
from wit.stages import make_artifact
import wit.training.sft

study, root, megabytes = sys.argv[1:]
runtime = Runtime(
    artifact_root=Path(root), device="cpu", tracking_uri="http://127.0.0.1:9",
    packing=False, micro_batch_size=1024, data_workers=1,
)
plan = make_plan(load_study(Path(study)), runtime)
for artifact in (plan.tokenizer, plan.instructions):
    make_artifact(artifact, runtime)
limit = psutil.Process().memory_info().vms + int(megabytes) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for attempt in range(12):
    print("begins with", said_of(plan.cells[0].sft, runtime), flush=True)
    try:
        print(make_artifact(plan.cells[0].sft, runtime), flush=True)
        break
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    base = make_tiny_base(tmp_path / "base")
    file = tmp_path / "study.yaml"
    file.write_text(
        f"name: x\nbase: {{path: {base}}}\npreferences: {{path: builtin, max_rows: 8}}\n"
        "instructions: {path: builtin, max_rows: 1024, held_out_fraction: 0}\n"
        "weights: [instruction-tuning]\nsft: {num_epochs: 1, examples_per_step: 1024}\n"
        "benchmarks: [{name: wit_cloze, role: select}]\n"
    )
    return file


def attempts(study_file: Path, root: Path, megabytes: int) -> list[str]:
    command = [sys.executable, "-c", LIMITED, str(study_file), str(root), str(megabytes)]
    done = subprocess.run(
        command, env=marked_environment(), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


# Half a minute, and proven twice: flows/test_retries.py has the kernel take the memory away.
@pytest.mark.slow
def test_a_training_that_runs_out_of_memory_is_made_with_fewer_rows_at_once(
    study_file: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    lines = attempts(study_file, root, 400)
    assert lines[-1] == "made", lines
    failures = [line for line in lines if line.startswith("FewerRowsError memory ran out")]
    assert 1 <= len(failures) <= 8, lines
    sizes = [1024 >> n for n in range(len(failures) + 1)]
    begins = [line for line in lines if line.startswith("begins")]
    assert begins[0] == "begins with "
    for line, size in zip(begins[1:], sizes[1:], strict=True):
        assert f"micro_batch_size={size}," in line
    assert not list(root.rglob(HALVINGS)), "it is no part of the artifact"


class Held(Exception):
    pass


def test_what_an_attempt_held_is_freed_though_its_error_is_kept() -> None:
    """A worker keeps the last error until its next stage ends: a model beside the next one's."""
    tensors: list[weakref.ref[torch.Tensor]] = []

    def inner() -> None:
        large = torch.zeros(10)
        tensors.append(weakref.ref(large))
        torch.empty(ABSURD // 4)

    def outer() -> None:
        model = torch.zeros(10)
        tensors.append(weakref.ref(model))
        try:
            inner()
        except RuntimeError as error:
            raise Held from error

    try:
        outer()
    except Held as error:
        kept = error
    assert all(tensor() is not None for tensor in tensors)
    release(kept)
    assert [tensor() for tensor in tensors] == [None, None]
