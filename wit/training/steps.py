"""Which rows an optimizer step has, and how they are split into micro-batches and ranks."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from accelerate.data_loader import SeedableRandomSampler
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from transformers import TrainingArguments

from wit.data.collate import RoleCollator

Row = Mapping[str, Any]
NUM_WIDTHS = 16  # of bins, that are tried between the longest row and twice that
# Tokens of a sequence whose attention takes as long as all else: six times the hidden size, which
# is 160 of the smallest model. A larger one would rather have wider bins.
AS_COSTLY = 1000


class Steps(Sampler[list[int]]):
    """For every optimizer step the rows that one rank takes of it.

    A step has the rows that a plain shuffle gives it, whatever the number of ranks; the last step
    of an epoch has what is left. The longest rows come first; each rank takes rows of all lengths.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        examples_per_step: int,
        seed: int,
        *,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        """Keeps the lengths.

        Args:
            lengths: Tokens of each row.
            examples_per_step: Rows per optimizer step, over all ranks.
            seed: Of the shuffle; every epoch has its own.
            rank: Of this process.
            num_ranks: Processes that share every step.
        """
        self.lengths = lengths
        self.examples_per_step = examples_per_step
        self.rank = rank
        self.num_ranks = num_ranks
        self.shuffle = SeedableRandomSampler(range(len(lengths)), data_seed=seed)

    def set_epoch(self, epoch: int) -> None:
        """Called before every epoch, also before one that is resumed."""
        self.shuffle.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.examples_per_step)

    def __iter__(self) -> Iterator[list[int]]:
        shuffled = list(self.shuffle)
        for start in range(0, len(shuffled), self.examples_per_step):
            step = shuffled[start : start + self.examples_per_step]
            step.sort(key=lambda row: -self.lengths[row])
            yield step[self.rank :: self.num_ranks]


class SortedSteps(Sampler[int]):
    """Rows of one step after the other, for a trainer that cuts micro-batches off itself."""

    def __init__(self, steps: Steps) -> None:
        """Keeps the steps."""
        self.steps = steps

    def set_epoch(self, epoch: int) -> None:
        """Called before every epoch, also before one that is resumed."""
        self.steps.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.steps.lengths)

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.steps)


def seed_of_order(arguments: TrainingArguments) -> int:
    """Of the shuffle."""
    return arguments.seed if arguments.data_seed is None else arguments.data_seed


class StepCollator:
    """Splits the rows of a step into micro-batches; which one a row is in changes no gradient."""

    def __init__(
        self,
        collator: RoleCollator,
        *,
        micro_batch_size: int,
        packed_tokens: int,
        skips_others: bool = False,
    ) -> None:
        """Keeps the limits.

        Args:
            collator: Makes a micro-batch of rows.
            micro_batch_size: Rows in a padded micro-batch, at most.
            packed_tokens: Tokens in a packed one, at most; a longer row has one to itself.
            skips_others: Whether attention leaves out what a token does not see. Then packed rows
                are one sequence; else several short ones, for attention takes as long as if every
                token saw its whole sequence.
        """
        self.collator = collator
        self.micro_batch_size = micro_batch_size
        self.packed_tokens = packed_tokens
        self.skips_others = skips_others

    def __call__(self, rows: Sequence[Row]) -> list[dict[str, Tensor]]:
        """The micro-batches, the longest rows first: memory runs out in the first step or never."""
        # Rows of similar length together, so that little padding is computed.
        longest_first = sorted(rows, key=lambda row: -len(row["input_ids"]))
        if self.collator.packing:
            return [self.collator.packed(bins) for bins in self._packed(longest_first)]
        starts = range(0, len(rows), self.micro_batch_size)
        return [self.collator(longest_first[s : s + self.micro_batch_size]) for s in starts]

    def _packed(self, rows: list[Row]) -> Iterator[list[list[Row]]]:
        """Of every micro-batch its sequences, each the rows of one bin."""
        while rows:
            lengths = [len(row["input_ids"]) for row in rows]
            if self.skips_others:
                taken = best_fit(lengths, self.packed_tokens)[:1]
            else:
                bins = short_bins(lengths, self.packed_tokens)
                taken = bins[: max(1, self.packed_tokens // _width(bins, lengths))]
            yield [[rows[i] for i in of_bin] for of_bin in taken]
            is_taken = set(chain.from_iterable(taken))
            rows = [row for i, row in enumerate(rows) if i not in is_taken]


class StepLoader(DataLoader[Any]):
    """Loads whole optimizer steps: each item is the list of a step's micro-batches.

    The trainer's own loader would share out single batches, and fill up the last step of an epoch
    with rows that it has had already.
    """

    def set_epoch(self, epoch: int) -> None:
        """Called before every epoch."""
        steps: Any = self.batch_sampler
        steps.set_epoch(epoch)


def short_bins(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Indices in bins for sequences that stand side by side, so that a model takes least time.

    Where few rows are as long as a bin, a bin that is a little longer is better filled; what that
    saves of padding is weighed against what attention takes longer.

    Args:
        lengths: The longest first.
        most: Of a bin; unless a single length is more.
    """

    def cost(bins: list[list[int]]) -> int:
        width = _width(bins, lengths)
        return len(bins) * width * (width + AS_COSTLY)

    tried = widths_between(lengths[0], most)
    return min((best_fit(lengths, width) for width in tried), key=cost)


def widths_between(longest: int, most: int) -> range:
    """Of bins, that are tried: from the longest row on, up to twice that if it is allowed."""
    widest = max(longest, min(2 * longest, most))
    return range(longest, widest + 1, max(1, longest // NUM_WIDTHS))


def _width(bins: list[list[int]], lengths: Sequence[int]) -> int:
    return max(sum(lengths[index] for index in of_bin) for of_bin in bins)


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices in bins of at most ``capacity``, by best-fit decreasing.

    Every length is put, the longest first, where it leaves the least room. What is longer than
    a bin has one to itself.
    """
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # of every bin what is left and which it is, in that order
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        place = bisect_left(rooms, (length, -1))
        if place < len(rooms):
            room, best = rooms.pop(place)
        else:
            room, best = capacity, len(bins)
            bins.append([])
        bins[best].append(index)
        insort(rooms, (room - length, best))
    return bins
