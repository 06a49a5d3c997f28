"""MoRA's maps are those of the paper, written as loops and by hand."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from mora_models import generic
from torch import Tensor

from wit.training.mora import delta_weight, matrix_size
from wit.training.mora.operators import MORA_TYPES, MoraType, compress, decompress

TYPES = pytest.mark.parametrize("mora_type", MORA_TYPES)
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-5}

# Smaller and larger than the output, equal, remainders, and matrices larger than either side.
SHAPES = [
    (12, 12, 4),
    (13, 29, 4),
    (29, 13, 4),
    (40, 8, 6),
    (41, 9, 6),
    (8, 40, 6),
    (7, 7, 7),
    (5, 31, 12),
    (31, 5, 12),
    (3, 20, 20),
    (20, 3, 20),
    (1, 1, 2),
]
SIZED = pytest.mark.parametrize(("num_in", "num_out", "size"), SHAPES)


def even(size: int, mora_type: MoraType) -> int:
    return size + size % 2 if mora_type == "rotation" else size


def turn(index: int, size: int) -> Tensor:
    """What block ``index`` is multiplied by: [[cos, -sin], [sin, cos]] of features j, j + half."""
    found = torch.zeros(size, size, dtype=torch.float64)
    half = size // 2
    for j in range(half):
        angle = index * 10000 ** (-2 * j / size)
        found[j, j] = found[j + half, j + half] = math.cos(angle)
        found[j, j + half], found[j + half, j] = -math.sin(angle), math.sin(angle)
    return found


def by_loops(matrix: Tensor, num_in: int, num_out: int, mora_type: MoraType) -> Tensor:
    """The update as loops over blocks and features, of what each entry reads and writes."""
    size = matrix.shape[0]
    num_read, num_written = -(-num_in // size), -(-num_out // size)
    height = 1 if mora_type == "sharing" else min(num_read, num_written)
    stacked = torch.zeros(height * size, num_in, dtype=torch.float64)
    for i in range(num_read):
        block = matrix if mora_type == "sharing" else matrix @ turn(i, size)
        top = (i % height) * size
        for q in range(size):
            stacked[top : top + size, (i * size + q) % num_in] += block[:, q]
    return torch.stack([stacked[k % (height * size)] for k in range(num_out)])


def forward(x: Tensor, matrix: Tensor, num_out: int, mora_type: MoraType) -> Tensor:
    blocks = compress(x, matrix.shape[0], num_out, mora_type)
    return decompress(blocks @ matrix.T, num_out)


@TYPES
@SIZED
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_forward_and_merged_are_what_loops_over_blocks_give(
    num_in: int, num_out: int, size: int, dtype: torch.dtype, mora_type: MoraType
) -> None:
    matrix = generic(even(size, mora_type), even(size, mora_type), dtype=dtype) / size
    x = generic(2, 3, num_in, seed=1, dtype=dtype)
    merged = delta_weight(matrix, num_in, num_out, mora_type)
    assert merged.shape == (num_out, num_in)
    assert merged.dtype == dtype
    bounds = {"atol": TOLERANCES[dtype], "rtol": 0}
    torch.testing.assert_close(forward(x, matrix, num_out, mora_type), x @ merged.T, **bounds)
    loops = by_loops(matrix.double(), num_in, num_out, mora_type).to(dtype)
    torch.testing.assert_close(merged, loops, **bounds)


@given(data=st.data(), mora_type=st.sampled_from(MORA_TYPES))
@settings(max_examples=40, deadline=None)
def test_the_same_for_any_shape_and_rank(data: st.DataObject, mora_type: MoraType) -> None:
    num_in, num_out = (data.draw(st.integers(1, 40)) for _ in range(2))
    size = matrix_size(num_in, num_out, data.draw(st.integers(1, 40)), mora_type)
    matrix, x = generic(size, size), generic(2, num_in, seed=1)
    merged = delta_weight(matrix, num_in, num_out, mora_type)
    torch.testing.assert_close(merged, by_loops(matrix, num_in, num_out, mora_type))
    torch.testing.assert_close(forward(x, matrix, num_out, mora_type), x @ merged.T)


def test_sharing_by_hand() -> None:
    # x = 1 ... 5 is padded to 1 2 3 4 5 1, in blocks 1 2 | 3 4 | 5 1, whose sum is 9 7.
    x = torch.tensor([1.0, 2, 3, 4, 5])
    matrix = torch.tensor([[1.0, 10], [100, 1000]])
    assert compress(x, 2, 3, "sharing").tolist() == [[9, 7]]
    assert forward(x, matrix, 3, "sharing").tolist() == [79, 7900, 79]  # the first again
    # Feature 0 is read at places 0 and 5, so by both columns of the matrix.
    assert delta_weight(matrix, 5, 3, "sharing").tolist() == [
        [11, 10, 1, 10, 1],
        [1100, 1000, 100, 1000, 100],
        [11, 10, 1, 10, 1],
    ]


def test_rotation_by_hand() -> None:
    # Size 2 has one angle, 10000 ** 0 = 1: block i is turned by i radians.
    x = torch.tensor([1.0, 0, 1, 0, 0, 2], dtype=torch.float64)
    matrix = torch.tensor([[1.0, 0], [0, 10]], dtype=torch.float64)
    turned = [1, 0, math.cos(1), 10 * math.sin(1), -2 * math.sin(2), 20 * math.cos(2)]
    assert forward(x, matrix, 6, "rotation").tolist() == pytest.approx(turned)
    assert forward(x, matrix, 5, "rotation").tolist() == pytest.approx(turned[:5])
    # Longer: the first again. Shorter by a block: the third is added to the first.
    assert forward(x, matrix, 9, "rotation").tolist() == pytest.approx(turned + turned[:3])
    added = [turned[0] + turned[4], turned[1] + turned[5], *turned[2:4]]
    assert forward(x, matrix, 4, "rotation").tolist() == pytest.approx(added)


@TYPES
@given(num_in=st.integers(1, 3000), num_out=st.integers(1, 3000), rank=st.integers(1, 64))
def test_a_matrix_has_about_the_parameters_of_a_lora(
    num_in: int, num_out: int, rank: int, mora_type: MoraType
) -> None:
    of_lora = (num_in + num_out) * rank
    size = matrix_size(num_in, num_out, rank, mora_type)
    below = 1.5 if mora_type == "rotation" else 0.5  # of the root: rounded, then made even
    assert size * size <= (math.sqrt(of_lora) + 0.5) ** 2 or size == 2
    if size < max(num_in, num_out) - 1:
        assert size * size >= (math.sqrt(of_lora) - below) ** 2 * (1 - 1e-12)
    assert size <= max(2, num_in, num_out)
    assert mora_type == "sharing" or size % 2 == 0


def test_sizes_of_the_paper() -> None:
    assert matrix_size(4096, 4096, 8, "sharing") == matrix_size(4096, 4096, 8, "rotation") == 256
    assert matrix_size(4096, 4096, 256, "rotation") == 1448
    assert matrix_size(4096, 11008, 8, "sharing") == 348  # of 347.6
    assert matrix_size(10, 11, 1, "sharing") == 5  # of 4.58
    assert matrix_size(10, 11, 1, "rotation") == 4  # down, as in the reference
    assert matrix_size(8, 9, 1000, "sharing") == 9
    assert matrix_size(8, 9, 1000, "rotation") == 8


def test_rank_of_the_update() -> None:
    matrix = generic(8, 8)
    for shape in ((32, 32), (29, 45), (45, 29)):
        rank = torch.linalg.matrix_rank
        assert rank(delta_weight(matrix, *shape, "sharing")) == 8
        assert rank(delta_weight(matrix, *shape, "rotation")) > 8
    assert torch.linalg.matrix_rank(delta_weight(matrix, 32, 32, "rotation")) == 32


@TYPES
@SIZED
def test_every_input_feature_reaches_the_output(
    num_in: int, num_out: int, size: int, mora_type: MoraType
) -> None:
    matrix = generic(even(size, mora_type), even(size, mora_type))
    assert delta_weight(matrix, num_in, num_out, mora_type).abs().sum(0).min() > 1e-3


@TYPES
@SIZED
def test_gradients_are_those_of_finite_differences(
    num_in: int, num_out: int, size: int, mora_type: MoraType
) -> None:
    size = even(size, mora_type)
    matrix = generic(size, size).requires_grad_()
    x = generic(2, num_in, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, matrix: forward(x, matrix, num_out, mora_type), (x, matrix), fast_mode=True
    )


def test_angles_are_rounded_once() -> None:
    # 301 is no number of bfloat16, and the angle of block 301 is 301 radians.
    x = torch.zeros(302 * 2, dtype=torch.bfloat16)
    x[602] = 1
    turned = forward(x, torch.eye(2, dtype=torch.bfloat16), 604, "rotation")[602:]
    exact = torch.tensor([math.cos(301), math.sin(301)])
    torch.testing.assert_close(turned, exact.bfloat16(), atol=0, rtol=0)
