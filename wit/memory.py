"""Less at once, after memory ran out: half as many rows, down to one.

How many rows are taken at once is the runtime's, so no result changes. How often it was halved
stands with the attempt: the next one, in whatever process, goes on with less. It goes when the
artifact is made.
"""

import errno
import gc
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from wit.artifacts import HALVINGS, Artifact
from wit.config import PACKED_TOKENS, Runtime
from wit.errors import FewerRowsError, OutOfMemoryError, StageError, WitError, first_line
from wit.evaluation_recipes import EvaluationRecipe
from wit.recipes import TrainingKnobs

# What CUDA, its libraries and torch's allocators say, each in an error of another kind.
SAID = re.compile(
    r"(?i)out of memory|(can't|cannot) allocate memory|not enough memory|ALLOC_FAILED"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the machine or of its GPU ran out, or an error was raised because of it."""
    return any(
        isinstance(cause, MemoryError)
        or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        or (not isinstance(cause, WitError) and SAID.search(str(cause)) is not None)
        for cause in _causes(error)
    )


def num_kernel_kills() -> int:
    """How many processes the kernel has killed for their memory; 0 where it does not say.

    To the process that waits for one of them it says no more than that it was killed.
    """
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def release(error: BaseException) -> None:
    """Frees what the attempt held: whoever keeps its error keeps the tensors of all its calls."""
    open_: list[BaseException | None] = [error]
    while open_:
        if (one := open_.pop()) is not None:
            traceback.clear_frames(one.__traceback__)
            open_ += [one.__cause__, None if one.__cause__ else one.__context__]
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # of other processes on this GPU, and in one piece


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def lessened(artifact: Artifact, runtime: Runtime) -> Runtime:
    """The runtime with as few rows at once as the attempts before have left of them."""
    return _halved(artifact, runtime, halvings_of(artifact))


def said_of(artifact: Artifact, runtime: Runtime) -> str:
    """How many rows the next attempt takes at once; nothing where that is as the runtime says."""
    less = lessened(artifact, runtime)
    if less == runtime:
        return ""
    is_training = isinstance(artifact.recipe, TrainingKnobs)
    knob = "micro_batch_size" if is_training else "evaluation_batch_size"
    return f"{knob}={getattr(less, knob)}, for memory ran out"


def halve(artifact: Artifact, runtime: Runtime, num_before: int | None = None) -> bool:
    """Has the next attempt take half as many rows at once. Hold the artifact's lock.

    Where another process has halved it since, that was it.

    Args:
        artifact: That is made.
        runtime: As it was given.
        num_before: How often it was halved for the attempt; unset: as stands with it now.

    Returns:
        False where that is one row already, or where nothing is taken by rows.
    """
    if not isinstance(artifact.recipe, TrainingKnobs | EvaluationRecipe):
        return False
    now = halvings_of(artifact)
    num = now if num_before is None else num_before
    if now > num:
        return True
    less = _halved(artifact, runtime, num)
    is_least = max(_rows_at_once(artifact, less), less.evaluation_batch_size) == 1
    keep_halvings(artifact, num if is_least else num + 1)
    return not is_least


def with_less(
    artifact: Artifact, runtime: Runtime, error: BaseException, num_before: int | None = None
) -> StageError:
    """What to say when memory ran out; the next attempt has less to do at once, if it can."""
    said = f"memory ran out: {first_line(error)}"
    if halve(artifact, runtime, num_before):
        return FewerRowsError(f"{said}. The next attempt has {said_of(artifact, runtime)}")
    if isinstance(artifact.recipe, TrainingKnobs | EvaluationRecipe):
        return StageError(
            f"{said}, although rows are taken one by one. Set max_tokens lower, or take a machine "
            "with more memory; wit plan says about how much"
        )
    return OutOfMemoryError(said)


def halvings_of(artifact: Artifact) -> int:
    """How often the attempts before halved what is taken at once."""
    try:
        return int((artifact.scratch / HALVINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def keep_halvings(artifact: Artifact, num: int) -> None:
    """Writes that down with the attempt, whole or not at all. Hold the artifact's lock."""
    with suppress(OSError):  # a full disk; then the next attempt takes as many as this one
        artifact.scratch.mkdir(parents=True, exist_ok=True)
        aside = artifact.scratch / f"{HALVINGS}.new"
        aside.write_text(str(num), encoding="utf-8")
        aside.replace(artifact.scratch / HALVINGS)


def _halved(artifact: Artifact, runtime: Runtime, num: int) -> Runtime:
    if num == 0:
        return runtime
    less = {
        "micro_batch_size": max(1, _rows_at_once(artifact, runtime) >> num),
        "evaluation_batch_size": max(1, runtime.evaluation_batch_size >> num),
    }
    if runtime.packing is not False:
        from wit.models import choose_device  # imports torch, for which a flow has no other use

        tokens = runtime.packed_tokens or PACKED_TOKENS[choose_device(runtime.device).type]
        less["packed_tokens"] = max(1, tokens >> num)  # a longer row is taken alone
    return runtime.model_copy(update=less)


def _rows_at_once(artifact: Artifact, runtime: Runtime) -> int:
    """Of a training, at most those of a step; what is not trained has no such rows."""
    if isinstance(artifact.recipe, TrainingKnobs):
        return min(runtime.micro_batch_size, artifact.recipe.examples_per_step)
    return 1
