"""Checkpoints of a training whose weights and optimizer are spread over ranks.

The library leaves these out for a model that was sharded when it was loaded. Every rank writes and
reads its own part. Another number of ranks can go on from them, but not a single one: there is
nothing to shard then, and such a training keeps checkpoints of the usual kind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.optimizer import AcceleratedOptimizer
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from wit.training.shard_reader import DataOnlyPlanner, DataOnlyReader

SHARDS = "shards"  # folder in a checkpoint


def save_shards(checkpoint: Path, model: Any, optimizer: Optimizer, schedule: LRScheduler) -> None:
    """Writes weights, optimizer and schedule; every rank has to call this.

    Raises:
        Exception: A rank could not write; what the first such rank met is raised on all.
    """
    weights, moments = _weights_and_moments(model, _inner(optimizer))
    state = {"model": weights, "optimizer": moments, "schedule": schedule}
    with _ordinary_errors():
        save(state, checkpoint_id=checkpoint / SHARDS)


def load_shards(checkpoint: Path, model: Any, optimizer: Optimizer, schedule: LRScheduler) -> None:
    """Reads what ``save_shards`` wrote; every rank has to call this.

    Raises:
        Exception: A rank could not read; what the first such rank met is raised on all.
    """
    inner = _inner(optimizer)
    weights, moments = _weights_and_moments(model, inner)
    state = {"model": weights, "optimizer": moments, "schedule": schedule}
    with _ordinary_errors():
        load(
            state,
            storage_reader=DataOnlyReader(checkpoint / SHARDS),
            planner=DataOnlyPlanner(),
        )
    set_state_dict(model, inner, model_state_dict=weights, optim_state_dict=moments)


def gathered_weights(model: Any) -> dict[str, Any]:
    """All weights, on the CPU of the first rank; every rank has to call this."""
    return get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )


def _inner(optimizer: Optimizer) -> Optimizer:
    """The optimizer itself: a step of what wraps it would be one of the loss scaler too."""
    return optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer


def _weights_and_moments(model: Any, optimizer: Optimizer) -> tuple[dict[str, Any], Any]:
    """What a checkpoint holds of both, in the tensors that they use themselves.

    torch gives moments to an optimizer that has none by a step without gradients. In float16 the
    first steps may all be skipped; that one must not count for one, or Adam's later ones differ.
    """
    has_stepped = bool(optimizer.state)
    weights, moments = get_state_dict(model, optimizer)
    if not has_stepped:
        for of_weight in optimizer.state.values():
            of_weight["step"].zero_()
    return weights, moments


@contextmanager
def _ordinary_errors() -> Iterator[None]:
    """Raises what the first rank met, and no ``CheckpointException``: that is no ``Exception``."""
    try:
        yield
    except CheckpointException as error:
        cause, _ = error.failures[min(error.failures)]
        raise cause from error
