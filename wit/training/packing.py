"""Whether a model keeps rows apart that it reads end to end."""

import inspect
from itertools import chain
from typing import Any

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence

from wit.models import evaluating

# Nats by which rounding may change a log-probability; rows that see each other are off by more.
TOLERANCE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.25}
DENSE = ("sdpa", "eager")  # every token is multiplied with its whole sequence, and masked then


def skips_others(model: Any) -> bool:
    """Whether its attention leaves out what a token does not see: a sequence may be any length.

    Args:
        model: Of the library.
    """
    return model.config._attn_implementation not in DENSE


def problem_with_packing(model: Any, precision: str) -> str | None:
    """Why rows of a model cannot be packed: it has them read as it would be trained, and apart.

    Args:
        model: Of the library, on its device.
        precision: In which it is trained.

    Returns:
        None if they can be.
    """
    plain = model.get_base_model() if isinstance(model, PeftModel) else model
    name = type(plain).__name__
    if "position_ids" not in inspect.signature(plain.forward).parameters:
        return f"{name} takes no position_ids"
    # In float32 if attention can: rounding of less hides what passes from row to row.
    if not model.config._attn_implementation.startswith("flash"):
        precision = "float32"
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    autocast = torch.autocast(model.device.type, dtype=dtype, enabled=precision != "float32")
    with evaluating(model), autocast:
        off = _off_by(model)
    if off <= TOLERANCE[precision]:
        return None
    return (
        f"rows that {name} reads end to end see each other (log-probabilities are off by {off:.3g})"
    )


def _off_by(model: Any) -> float:
    """The largest difference of a log-probability, in nats."""
    sequences = [(7, 5)] if skips_others(model) else [(7, 5), (6,)]  # lengths of their rows
    ids, positions = (
        pad_sequence(
            [torch.cat([torch.arange(n) + begin for n in lengths]) for lengths in sequences],
            batch_first=True,
        ).to(model.device)
        for begin in (3, 0)
    )
    packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    apart = [
        model(input_ids=torch.arange(3, 3 + n, device=model.device)[None]).logits[0]
        for n in chain.from_iterable(sequences)
    ]
    read = [logits[: sum(lengths)] for logits, lengths in zip(packed, sequences, strict=True)]
    packed, apart = (torch.cat(rows).float().log_softmax(-1) for rows in (read, apart))
    return (packed - apart).abs().max().item()
