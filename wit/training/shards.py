"""Checkpoints of a training whose weights and optimizer are spread over ranks.

The library leaves these out for a model that was sharded when it was loaded. Every rank writes and
reads its own part; another number of ranks can go on from them.
"""

from pathlib import Path
from typing import Any

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

SHARDS = "shards"  # folder in a checkpoint


def save_shards(checkpoint: Path, model: Any, optimizer: Optimizer, schedule: LRScheduler) -> None:
    """Writes weights, optimizer and schedule; every rank has to call this."""
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "schedule": schedule}
    save(state, checkpoint_id=checkpoint / SHARDS)


def load_shards(checkpoint: Path, model: Any, optimizer: Optimizer, schedule: LRScheduler) -> None:
    """Reads what ``save_shards`` wrote; every rank has to call this."""
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "schedule": schedule}
    load(state, checkpoint_id=checkpoint / SHARDS)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)


def gathered_weights(model: Any) -> dict[str, Any]:
    """All weights, on the CPU of the first rank; every rank has to call this."""
    return get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
