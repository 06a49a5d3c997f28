"""From tokenised rows to padded batches; the only place where weights meet tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wit.config import TokenWeights
from wit.losses import IGNORE_INDEX, weights_of_roles
from wit.roles import Role


class RoleCollator:
    """Pads rows of ``input_ids`` and ``roles``, and gives every token the weight of its role.

    The batch holds ``input_ids``, ``attention_mask``, ``labels``, ``token_weights`` and ``roles``,
    all ``[batch, seq]``. ``labels`` are ``IGNORE_INDEX`` exactly where the weight is 0: the count
    of targets that ``Trainer`` takes over all micro-batches of a step rests on this.
    """

    def __init__(self, weights: TokenWeights, pad_token_id: int) -> None:
        """Keeps the table of weights as float32, so that no weight is rounded to an integer."""
        table = weights.by_role()
        self.weight_by_role = torch.tensor([table[role] for role in Role], dtype=torch.float32)
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch, padded on the right.

        Raises:
            KeyError: A row has lost its roles; training on it would ignore the weights.
        """
        input_ids = [torch.as_tensor(row["input_ids"], dtype=torch.long) for row in rows]
        roles = [torch.as_tensor(row["roles"], dtype=torch.long) for row in rows]
        batch = {
            "input_ids": pad_sequence(input_ids, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(ids) for ids in input_ids], True),
            # Padding is `special`, whose weight is 0, whatever id the tokenizer pads with.
            "roles": pad_sequence(roles, batch_first=True, padding_value=int(Role.SPECIAL)),
        }
        batch["token_weights"] = weights_of_roles(batch["roles"], self.weight_by_role)
        batch["labels"] = batch["input_ids"].masked_fill(batch["token_weights"] == 0, IGNORE_INDEX)
        return batch
