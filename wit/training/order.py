"""The order of rows: shuffled by seed, and within an optimizer step sorted by length."""

from collections.abc import Iterator, Sequence

from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler
from transformers import TrainingArguments


class SortedSteps(Sampler[int]):
    """Each optimizer step has the rows that a plain shuffle gives it, the longest first.

    Micro-batches then hold rows of similar length, so that little padding is computed. Which
    micro-batch of its step a row is in changes neither loss nor gradients.
    """

    def __init__(self, lengths: Sequence[int], examples_per_step: int, seed: int) -> None:
        """Keeps the lengths.

        Args:
            lengths: Tokens of each row.
            examples_per_step: Rows per optimizer step, over all devices.
            seed: Of the shuffle; every epoch has its own.
        """
        self.lengths = lengths
        self.examples_per_step = examples_per_step
        self.shuffle = SeedableRandomSampler(range(len(lengths)), data_seed=seed)

    def set_epoch(self, epoch: int) -> None:
        """Called before every epoch, also before one that is resumed."""
        self.shuffle.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        shuffled = list(self.shuffle)
        for start in range(0, len(shuffled), self.examples_per_step):
            step = shuffled[start : start + self.examples_per_step]
            yield from sorted(step, key=lambda row: -self.lengths[row])


def sorted_steps(lengths: Sequence[int], arguments: TrainingArguments) -> SortedSteps:
    """The order that a trainer's arguments ask for."""
    examples_per_step = (
        arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    )
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    return SortedSteps(lengths, examples_per_step, seed)
