"""After a stage has failed: what its scratch directory keeps, and what people are told."""

import shutil

from wit.artifacts import CHECKPOINTS, Artifact
from wit.config import Runtime
from wit.errors import (
    ArtifactError,
    DiskFullError,
    HandOverError,
    OutOfMemoryError,
    StageError,
    TrainingError,
    WitError,
    first_line,
)
from wit.files import is_full, is_unwritable
from wit.memory import halvings_of, is_out_of_memory, keep_halvings, with_less


def after_failure(artifact: Artifact, runtime: Runtime, error: Exception) -> Exception:
    """Keeps what the next attempt can go on from and nothing else; says what there is to say.

    Args:
        artifact: What was not made. Hold its lock.
        runtime: Where and how.
        error: What the stage raised.

    Returns:
        What to raise; ``error`` itself where there is no more to say.
    """
    failure = as_ours(artifact, error)
    # A wrong device, a full disk or a rank that was killed says nothing against hours of training
    # before it.
    is_at_fault = isinstance(failure, TrainingError | HandOverError)
    is_resumable = not is_at_fault and _keep_checkpoint(artifact)
    num_halvings = halvings_of(artifact)
    if not is_resumable:
        shutil.rmtree(artifact.scratch, ignore_errors=True)
    if isinstance(failure, OutOfMemoryError):
        return with_less(artifact, runtime, failure, num_halvings)
    if num_halvings and not is_at_fault:
        keep_halvings(artifact, num_halvings)
    is_ours = isinstance(failure, WitError) and type(failure) is not StageError
    return failure if is_ours or not is_resumable else _resumable(artifact, failure)


def as_ours(artifact: Artifact, error: Exception) -> Exception:
    """What a stage raised; where that is known, as what it means."""
    if is_out_of_memory(error):
        return OutOfMemoryError(first_line(error))
    if isinstance(error, WitError):
        return error
    said = f"{artifact.scratch}: cannot be written: {first_line(error)}"
    if is_full(artifact.root, error):
        return DiskFullError(f"{said}. 'wit gc' lists what no study needs")
    return ArtifactError(said) if is_unwritable(artifact.root, error) else error


def _keep_checkpoint(artifact: Artifact) -> bool:
    """Deletes all checkpoints but the last complete one; whether there is one."""
    if not artifact.is_resumable():
        return False
    from wit.training.checkpoints import resumable_checkpoint

    newest, _ = resumable_checkpoint(artifact.scratch)
    return newest is not None


def _resumable(artifact: Artifact, error: Exception) -> StageError:
    """What failed, and what to do: nobody knows whether the checkpoint is at fault."""
    return StageError(
        f"{first_line(error)}. Run again to go on from {artifact.scratch / CHECKPOINTS}; if it "
        "fails again, delete that folder to begin anew"
    )
