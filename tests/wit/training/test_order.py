"""Which rows a step has is decided by the seed alone; sorting saves padding and moves no row."""

import hypothesis.strategies as st
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given

from wit.training.order import SortedSteps

lengths_of_rows = st.lists(st.integers(1, 50), min_size=1, max_size=60)


def steps(order: list[int], size: int) -> list[list[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def padded_tokens(order: list[int], lengths: list[int], step: int, micro_batch: int) -> int:
    batches = [batch for rows in steps(order, step) for batch in steps(rows, micro_batch)]
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


@given(lengths_of_rows, st.integers(1, 20), st.integers(0, 9), st.integers(0, 3))
def test_a_step_has_the_rows_of_a_plain_shuffle(
    lengths: list[int], step: int, seed: int, epoch: int
) -> None:
    ours = SortedSteps(lengths, step, seed)
    plain = SeedableRandomSampler(range(len(lengths)), data_seed=seed)
    ours.set_epoch(epoch)
    plain.set_epoch(epoch)
    found = list(ours)
    assert len(found) == len(ours)
    for rows, expected in zip(steps(found, step), steps(list(plain), step), strict=True):
        assert sorted(rows) == sorted(expected)
        assert [lengths[row] for row in rows] == sorted(map(lengths.__getitem__, rows))[::-1]


@given(lengths_of_rows, st.integers(1, 5), st.integers(1, 5))
def test_it_never_pads_more_than_a_plain_shuffle(
    lengths: list[int], micro_batch: int, num_micro_batches: int
) -> None:
    step = micro_batch * num_micro_batches
    plain = list(SeedableRandomSampler(range(len(lengths)), data_seed=0))
    ours = list(SortedSteps(lengths, step, 0))
    cost = [padded_tokens(order, lengths, step, micro_batch) for order in (ours, plain)]
    # A short last micro-batch holds the shortest rows here, and any rows there.
    if len(lengths) % micro_batch == 0:
        assert cost[0] <= cost[1]


def test_epochs_and_seeds_differ_and_repeat() -> None:
    lengths = list(range(1, 65))

    def order(seed: int, epoch: int) -> tuple[int, ...]:
        sampler = SortedSteps(lengths, 8, seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    keys = [(seed, epoch) for seed in (0, 100) for epoch in (0, 1)]
    assert len({order(*key) for key in keys}) == 4
    assert all(order(*key) == order(*key) for key in keys)
