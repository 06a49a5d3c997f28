"""Micro-batches with rows of every cell: as many tokens of each, padding counted."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Sampler

from wit.data.collate import RoleCollator
from wit.losses import IGNORE_INDEX
from wit.roles import Role
from wit.training.steps import AS_COSTLY, Row, Steps, best_fit, widths_between

Bins = list[list[int]]


class StepsOfCells(Sampler[list[int]]):
    """For every optimizer step the rows of the first cell, then those of the next, as many each."""

    def __init__(self, of_cells: Sequence[Steps]) -> None:
        """Keeps the steps of each cell, which differ in their order."""
        self.of_cells = of_cells

    def set_epoch(self, epoch: int) -> None:
        """Called before every epoch, also before one that is resumed."""
        for steps in self.of_cells:
            steps.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.of_cells[0])

    def __iter__(self) -> Iterator[list[int]]:
        for steps in zip(*self.of_cells, strict=True):
            yield list(chain.from_iterable(steps))


class CollatorOfCells:
    """Splits a step's rows into micro-batches; which one a row is in changes no gradient."""

    def __init__(
        self,
        collators: Sequence[RoleCollator],
        *,
        micro_batch_size: int,
        packed_tokens: int,
        skips_others: bool = False,
    ) -> None:
        """Keeps the limits, of which every cell has an equal share.

        Args:
            collators: Of each cell.
            micro_batch_size: Rows of all cells in a padded micro-batch, but one of each at least.
            packed_tokens: Tokens of all cells in a packed one; as of ``StepCollator``.
            skips_others: As of ``StepCollator``; then all cells are in one sequence.
        """
        self.collators = collators
        self.rows_of_cell = max(1, micro_batch_size // len(collators))
        self.tokens_of_cell = max(1, packed_tokens // len(collators))
        self.skips_others = skips_others

    def __call__(self, rows: Sequence[Row]) -> list[dict[str, Tensor]]:
        """The micro-batches, the longest rows first.

        Args:
            rows: Of all cells, as ``StepsOfCells`` names them.
        """
        num_of_cell = len(rows) // len(self.collators)
        of_cells = [
            sorted(rows[start : start + num_of_cell], key=lambda row: -len(row["input_ids"]))
            for start in range(0, len(rows), num_of_cell)
        ]
        is_packed = self.collators[0].packing
        return list(self._packed(of_cells) if is_packed else self._padded(of_cells))

    def _padded(self, of_cells: list[list[Row]]) -> Iterator[dict[str, Tensor]]:
        for start in range(0, len(of_cells[0]), self.rows_of_cell):
            chunks = [rows[start : start + self.rows_of_cell] for rows in of_cells]
            pairs = zip(self.collators, chunks, strict=True)
            yield self._together([collator(rows) for collator, rows in pairs])

    def _packed(self, of_cells: list[list[Row]]) -> Iterator[dict[str, Tensor]]:
        while any(of_cells):
            lengths = [[len(row["input_ids"]) for row in rows] for rows in of_cells]
            if self.skips_others:
                taken = [best_fit(of_cell, self.tokens_of_cell)[:1] for of_cell in lengths]
            else:
                bins, width = bins_of_cells(lengths, self.tokens_of_cell)
                taken = [of_cell[: max(1, self.tokens_of_cell // width)] for of_cell in bins]
            parts, left = [], []
            for collator, rows, bins in zip(self.collators, of_cells, taken, strict=True):
                sequences = [[rows[index] for index in of_bin] for of_bin in bins]
                parts.append(collator.packed(sequences) if bins else _nothing_of(collator))
                is_taken = set(chain.from_iterable(bins))
                left.append([row for index, row in enumerate(rows) if index not in is_taken])
            of_cells = left
            yield self._together(parts)

    def _together(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """One micro-batch of those of all cells, which are made equally large by padding."""
        padding = {
            "input_ids": self.collators[0].pad_token_id,
            "roles": int(Role.SPECIAL),
            "labels": IGNORE_INDEX,
        }
        num_rows, width = (max(p["input_ids"].shape[axis] for p in parts) for axis in (0, 1))
        found = {}
        for name in parts[0]:
            padded = [
                F.pad(
                    part[name],
                    (0, width - part[name].shape[1], 0, num_rows - part[name].shape[0]),
                    value=padding.get(name, 0),
                )
                for part in parts
            ]
            found[name] = torch.cat(padded)
        if self.skips_others and self.collators[0].packing:  # it reads one sequence only
            return {name: column.reshape(1, -1) for name, column in found.items()}
        return found


def _nothing_of(collator: RoleCollator) -> dict[str, Tensor]:
    """A sequence without tokens, which is padded to those of other cells."""
    return {name: column[:, :0] for name, column in collator.packed([[]]).items()}


def cells_of_targets(shape: Sequence[int], num_cells: int, device: Any) -> Int[Tensor, "batch _"]:
    """Which cell each target of a micro-batch is of, by its place.

    Args:
        shape: Rows, and targets of each; every row has a token more.
        num_cells: In the micro-batch.
        device: Of the result.
    """
    num_rows, num_targets = shape
    places = torch.arange(num_rows * (num_targets + 1), device=device) * num_cells
    cells = places.div(len(places), rounding_mode="floor")
    return cells.reshape(num_rows, -1)[:, 1:]


def bins_of_cells(lengths: Sequence[Sequence[int]], most: int) -> tuple[list[Bins], int]:
    """Indices in bins for sequences of all cells, so that a model takes least time; their width.

    Args:
        lengths: Of each cell's rows, the longest first; a cell may have none.
        most: Of a bin; unless a single length is more.
    """

    def width_of(bins: list[Bins]) -> int:
        pairs = zip(bins, lengths, strict=True)
        return max(sum(of_cell[i] for i in one) for found, of_cell in pairs for one in found)

    def cost(bins: list[Bins]) -> int:
        width = width_of(bins)
        return max(map(len, bins)) * width * (width + AS_COSTLY)

    longest = max(of_cell[0] for of_cell in lengths if of_cell)
    tried = ([best_fit(one, width) for one in lengths] for width in widths_between(longest, most))
    best = min(tried, key=cost)
    return best, width_of(best)
