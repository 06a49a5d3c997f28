"""Which rows a step has is decided by the seed alone, however it is split."""

from collections import Counter
from itertools import chain, pairwise
from typing import Literal, get_args

import hypothesis.strategies as st
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given
from torch import Tensor

from wit.data.collate import RoleCollator
from wit.roles import Role
from wit.training.steps import AS_COSTLY, SortedSteps, StepCollator, Steps, best_fit, short_bins
from wit.weights import TokenWeights

lengths_of_rows = st.lists(st.integers(1, 50), min_size=1, max_size=60)


def chunks(order: list[int], size: int) -> list[list[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def padded_tokens(steps: list[list[int]], lengths: list[int], micro_batch: int) -> int:
    batches = [batch for rows in steps for batch in chunks(rows, micro_batch)]
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


@given(lengths_of_rows, st.integers(1, 20), st.integers(0, 9), st.integers(0, 3), st.integers(1, 4))
def test_the_ranks_of_a_step_have_the_rows_of_a_plain_shuffle(
    lengths: list[int], size: int, seed: int, epoch: int, num_ranks: int
) -> None:
    ranks = [
        Steps(lengths, size, seed, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)
    ]
    plain = SeedableRandomSampler(range(len(lengths)), data_seed=seed)
    for sampler in (*ranks, plain):
        sampler.set_epoch(epoch)
    expected = chunks(list(plain), size)
    of_ranks = [list(rank) for rank in ranks]
    assert [len(rank) for rank in ranks] == [len(expected)] * num_ranks
    for number, rows in enumerate(expected):
        shares = [steps[number] for steps in of_ranks]
        assert sorted(chain(*shares)) == sorted(rows)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        for share in shares:
            assert [lengths[row] for row in share] == sorted(map(lengths.__getitem__, share))[::-1]


@given(lengths_of_rows, st.integers(1, 5), st.integers(1, 5))
def test_sorting_never_pads_more_than_a_plain_shuffle(
    lengths: list[int], micro_batch: int, num_micro_batches: int
) -> None:
    size = micro_batch * num_micro_batches
    plain = chunks(list(SeedableRandomSampler(range(len(lengths)), data_seed=0)), size)
    ours = list(Steps(lengths, size, 0))
    # A short last micro-batch holds the shortest rows here, and any rows there.
    if len(lengths) % micro_batch == 0:
        assert padded_tokens(ours, lengths, micro_batch) <= padded_tokens(
            plain, lengths, micro_batch
        )


def test_epochs_and_seeds_differ_and_repeat() -> None:
    lengths = list(range(1, 65))

    def order(seed: int, epoch: int) -> tuple[int, ...]:
        sampler = SortedSteps(Steps(lengths, 8, seed))
        sampler.set_epoch(epoch)
        assert len(sampler) == 64
        return tuple(sampler)

    keys = [(seed, epoch) for seed in (0, 100) for epoch in (0, 1)]
    assert len({order(*key) for key in keys}) == 4
    assert all(order(*key) == order(*key) for key in keys)


@given(lengths_of_rows, st.integers(1, 120))
def test_best_fit_puts_every_row_into_one_bin_and_opens_none_in_vain(
    lengths: list[int], capacity: int
) -> None:
    bins = best_fit(lengths, capacity)
    assert sorted(chain(*bins)) == list(range(len(lengths)))
    filled = [sum(lengths[row] for row in rows) for rows in bins]
    assert all(
        total <= capacity or len(rows) == 1 for rows, total in zip(bins, filled, strict=True)
    )
    # A row that opened a bin fitted into none of those before it, nor does any of two bins.
    open_bins = sorted(total for total in filled if total <= capacity)
    assert all(a + b > capacity for a, b in pairwise(open_bins))


def test_best_fit_takes_the_fullest_bin_that_has_room() -> None:
    assert best_fit([7, 5, 5, 3, 2], 10) == [[0, 3], [1, 2], [4]]
    assert best_fit([6, 8, 2], 10) == [[1, 2], [0]]


@given(lengths_of_rows, st.integers(1, 120))
def test_short_bins_cost_no_more_than_those_of_the_longest_row(
    lengths: list[int], most: int
) -> None:
    lengths = sorted(lengths, reverse=True)

    def filled(bins: list[list[int]]) -> list[int]:
        return [sum(lengths[row] for row in rows) for rows in bins]

    def cost(bins: list[list[int]]) -> int:
        width = max(filled(bins))
        return len(bins) * width * (width + AS_COSTLY)

    bins = short_bins(lengths, most)
    assert sorted(chain(*bins)) == list(range(len(lengths)))
    assert max(filled(bins)) <= max(lengths[0], min(2 * lengths[0], most))
    assert cost(bins) <= cost(best_fit(lengths, lengths[0]))


def test_short_bins_are_longer_where_that_saves_padding_and_not_where_attention_pays() -> None:
    assert short_bins([40, 20, 20], 2048) == [[0], [1, 2]]
    assert short_bins([30, 20, 20, 20], 2048) == [[0, 1], [2, 3]], "2 x 50, not 4 x 30"
    assert short_bins([30, 20, 20, 20], 49) == [[0], [1], [2], [3]], "50 are too many"
    assert short_bins([3000, 2000, 2000, 2000], 9000) == [[0], [1], [2], [3]]


def rows_of(lengths: list[int]) -> list[dict[str, object]]:
    return [
        {
            "input_ids": [number] * length,
            "roles": [int(Role.RESPONSE)] * length,
            "source": "",
            "factors": None,
        }
        for number, length in enumerate(lengths)
    ]


Layout = Literal["padded", "packed side by side", "packed into one sequence"]


def rows_in(batch: dict[str, Tensor]) -> list[list[int]]:
    """Of a packed micro-batch, told by its positions; padding is rows of one token."""
    rows: list[list[int]] = []
    for ids, positions in zip(batch["input_ids"], batch["position_ids"], strict=True):
        for token, position in zip(ids.tolist(), positions.tolist(), strict=True):
            if position == 0:
                rows.append([])
            assert len(rows[-1]) == position
            rows[-1].append(token)
    assert all(len(set(row)) == 1 for row in rows), "each has a token of its own here"
    return rows


@given(lengths_of_rows, st.integers(1, 9), st.integers(1, 80), st.sampled_from(get_args(Layout)))
def test_micro_batches_hold_every_token_of_a_step_once(
    lengths: list[int], micro_batch_size: int, packed_tokens: int, layout: Layout
) -> None:
    packing = layout != "padded"
    collator = RoleCollator(TokenWeights(prompt=0, response=1), pad_token_id=99, packing=packing)
    split = StepCollator(
        collator,
        micro_batch_size=micro_batch_size,
        packed_tokens=packed_tokens,
        skips_others=layout == "packed into one sequence",
    )
    micro_batches = split(rows_of(lengths))
    found = Counter(
        token for batch in micro_batches for token in batch["input_ids"].flatten().tolist()
    )
    num_padding = found.pop(99, 0)
    assert found == dict(enumerate(lengths))
    targets = sum((batch["labels"] != -100).sum().item() for batch in micro_batches)
    assert targets == sum(lengths) - len(lengths), "of every row all but the first"
    if packing:
        sizes = [batch["input_ids"].shape for batch in micro_batches]
        longest = [max(len(row) for row in rows_in(batch)) for batch in micro_batches]
        assert longest == sorted(longest, reverse=True), "memory runs out at once or never"
        if layout == "packed into one sequence":
            assert num_padding == 0
            assert all(shape[0] == 1 for shape in sizes)
        else:
            assert all(
                shape[1] <= 2 * length for shape, length in zip(sizes, longest, strict=True)
            ), "attention is over hardly more than it needs"
        assert all(
            shape.numel() <= packed_tokens or shape == (1, length)
            for shape, length in zip(sizes, longest, strict=True)
        )
    else:
        assert all(len(batch["input_ids"]) <= micro_batch_size for batch in micro_batches)
