"""How many rows fit into memory at once: found once for a model that is loaded, then kept."""

import logging
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel

from wit.memory import is_out_of_memory

logger = logging.getLogger(__name__)
Found = TypeVar("Found")

# Rows per forward pass, of models whose memory did not hold as many as were wanted.
_fitting: WeakKeyDictionary[PreTrainedModel, int] = WeakKeyDictionary()


def fitting_batch_size(model: PreTrainedModel, batch_size: int) -> int:
    """Of so many rows per forward pass, how many this model's memory was found to hold."""
    return min(batch_size, _fitting.get(model, batch_size))


def with_as_many_as_fit(
    model: PreTrainedModel, batch_size: int, attempt: Callable[[int], Found]
) -> Found:
    """What ``attempt`` gives with the most rows per forward pass that the memory holds.

    Args:
        model: For which that is remembered, whatever is measured on it next.
        batch_size: Rows to begin with; halved as long as they are too many.
        attempt: Takes the number of rows, and can be repeated.

    Raises:
        Exception: Memory ran out for a single row, or what ``attempt`` raises for other reasons.
    """
    while True:
        num_rows = fitting_batch_size(model, batch_size)
        try:
            return attempt(num_rows)
        except Exception as error:
            if num_rows == 1 or not is_out_of_memory(error):
                raise
        # Not before the error is gone: with it go the tensors of all its calls.
        _fitting[model] = num_rows // 2
        logger.warning("%d rows do not fit into memory; now %d", num_rows, _fitting[model])
