"""From tokenised rows to micro-batches; the only place where weights meet tokens."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wit.losses import IGNORE_INDEX, weights_of_roles
from wit.roles import Role
from wit.weights import TokenWeights

COLUMNS = ("input_ids", "roles", "source", "factors")  # of a row; without one weights would be lost


class RoleCollator:
    """Puts rows side by side or end to end, and gives every token the weight of its role.

    A micro-batch holds ``input_ids``, ``labels``, ``token_weights`` and ``roles``, all
    ``[batch, seq]``; padded ones ``attention_mask``, packed ones ``position_ids`` that begin at 0
    with every row and are 0 where a shorter sequence is filled up. ``labels`` are
    ``IGNORE_INDEX`` exactly where the weight is 0.
    """

    def __init__(self, weights: TokenWeights, pad_token_id: int, *, packing: bool = False) -> None:
        """Keeps tables of weights as float32, so that no weight is rounded to an integer.

        Args:
            weights: Of a cell.
            pad_token_id: Any id will do: padding is ``special``, whose weight is 0.
            packing: Rows end to end in one sequence, without padding.
        """
        self.tables = {name: self._table(weights, name) for name in ("", *weights.sources)}
        self.has_sources = bool(weights.sources)
        self.pad_token_id = pad_token_id
        self.packing = packing

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A micro-batch; without rows, one that has no target.

        Raises:
            KeyError: A row has lost its roles; training on it would ignore the weights.
        """
        if self.packing:
            return self.packed([rows])
        columns = self._columns(rows)
        columns["attention_mask"] = [torch.ones_like(ids) for ids in columns["input_ids"]]
        return self._side_by_side(columns)

    def packed(self, sequences: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Tensor]:
        """A micro-batch of sequences, each of which is rows end to end.

        Attention keeps to a row because positions begin anew where it does.

        Raises:
            KeyError: As above.
        """
        columns: dict[str, list[Tensor]] = defaultdict(list)
        for rows in sequences:
            parts = self._columns(rows)
            parts["position_ids"] = [torch.arange(len(ids)) for ids in parts["input_ids"]]
            for name, tensors in parts.items():
                columns[name].append(torch.cat(tensors))
        return self._side_by_side(columns)

    def _columns(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Tensor]]:
        parts = [self._row(row) for row in rows] or [self._nothing()]
        return {name: [part[name] for part in parts] for name in parts[0]}

    def _row(self, row: Mapping[str, Any]) -> dict[str, Tensor]:
        roles = torch.as_tensor(row["roles"], dtype=torch.long)
        table = self.tables.get(row["source"], self.tables[""]) if self.has_sources else None
        weights = weights_of_roles(roles[None], self.tables[""] if table is None else table)[0]
        if (factors := row.get("factors")) is not None:
            weights *= torch.as_tensor(factors, dtype=torch.float32)
        ids = torch.as_tensor(row["input_ids"], dtype=torch.long)
        return {"input_ids": ids, "roles": roles, "token_weights": weights}

    def _nothing(self) -> dict[str, Tensor]:
        """Two tokens: the fewest of which one is predicted from the other."""
        return {
            "input_ids": torch.full((2,), self.pad_token_id),
            "roles": torch.full((2,), int(Role.SPECIAL)),
            "token_weights": torch.zeros(2),
        }

    def _side_by_side(self, columns: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """Filled up on the right, where nothing that counts attends to it."""
        padding = {"input_ids": self.pad_token_id, "roles": int(Role.SPECIAL)}
        batch = {
            name: pad_sequence(parts, batch_first=True, padding_value=padding.get(name, 0))
            for name, parts in columns.items()
        }
        batch["labels"] = batch["input_ids"].masked_fill(batch["token_weights"] == 0, IGNORE_INDEX)
        return batch

    @staticmethod
    def _table(weights: TokenWeights, source: str) -> Tensor:
        table = weights.table(source)
        return torch.tensor([table[role] for role in Role], dtype=torch.float32)
