"""What MoRA does around its square matrix: both ways without a parameter, both linear.

Everything is made of two operations on the last axis, each the transpose of the other: ``cycle``
repeats a vector from its start, ``fold`` adds up what lies a whole number of widths apart.

Letters of shapes: ``in`` and ``out`` are the features of the layer, ``size`` is r_hat, the side of
the matrix M, ``blocks`` are the vectors that M is applied to.

Source: arXiv 2405.12130, Eq. 6 (sharing) and Eq. 9 (rotation), written from the paper and from what
its code computes; no line is copied from that code. Differs, where the code has a fault:

* Rotation uses all input features. There only the first ceil(out / size) blocks of the input reach
  the output: at rank 8, 38% of those from 11008 to 4096. Here block i is added to block i modulo
  ceil(out / size). Where out >= in, nothing differs.
* An input that is shorter than the matrix is repeated as often as it takes, and the matrix is never
  larger than the larger side of the layer.

As in the code, and unlike Eq. 9, blocks are counted from 0: the first is not rotated.
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

MoraType = Literal["sharing", "rotation"]  # types 1 and 6 of the reference
MORA_TYPES: tuple[MoraType, ...] = get_args(MoraType)
ROTATION_BASE = 10_000.0  # of the angles, as in rotary position embeddings


def matrix_size(in_features: int, out_features: int, rank: int, mora_type: MoraType) -> int:
    """Side of the matrix that has about as many parameters as a LoRA of that rank.

        size = floor(sqrt((in + out) * rank) + 1/2)

    Rotation turns pairs of features, so its size is even: the next lower one, which never costs
    more parameters than the rule allows (but at least 2). More than the larger side of the layer
    would only repeat features that the matrix has already, so that is the limit.

    Args:
        in_features: Of the layer.
        out_features: Of the layer.
        rank: Of the LoRA, which has ``rank * (in + out)`` parameters.
        mora_type: Whether it has to be even.
    """
    size = math.floor(math.sqrt((in_features + out_features) * rank) + 0.5)
    size = min(size, max(in_features, out_features))
    return max(2, size - size % 2) if mora_type == "rotation" else size


def compress(
    x: Float[Tensor, "*rows in"], size: int, out_features: int, mora_type: MoraType
) -> Float[Tensor, "*rows blocks size"]:
    """What M is applied to: one block if shared, at most one for each block of the output if not.

    The input is first repeated from its start up to a multiple of ``size`` and cut into blocks.
    Sharing adds them all up. Rotation turns block i by i times the angles and adds up those that
    go to the same block of the output.

    Args:
        x: In the dtype of M, or any if autocast is on.
        size: Side of M.
        out_features: Of the layer.
        mora_type: How.
    """
    num_read, num_applied = _num_blocks(x.shape[-1], out_features, size, mora_type)
    padded = cycle(x, num_read * size)
    if mora_type == "rotation":
        padded = rotate(padded.unflatten(-1, (num_read, size))).flatten(-2)
    return fold(padded, num_applied * size).unflatten(-1, (num_applied, size))


def decompress(
    y: Float[Tensor, "*rows blocks size"], out_features: int
) -> Float[Tensor, "*rows out"]:
    """The blocks one after the other, repeated from the start or cut to the output's features."""
    return cycle(y.flatten(-2), out_features)


def delta_weight(
    matrix: Float[Tensor, "size size"], in_features: int, out_features: int, mora_type: MoraType
) -> Float[Tensor, "out in"]:
    """The matrix that the two ways and M between them amount to, from M itself."""
    size = matrix.shape[0]
    num_read, num_applied = _num_blocks(in_features, out_features, size, mora_type)
    if mora_type == "sharing":
        wide = cycle(matrix, num_read * size)
    else:
        # A row m of M, applied to a block that is turned, is m turned back, applied to the block.
        turned = rotate(matrix.unsqueeze(1).expand(size, num_read, size), back=True)
        read = torch.arange(num_read, device=matrix.device) % num_applied
        applied = torch.arange(num_applied, device=matrix.device)
        meets = (applied[:, None] == read)[:, None, :, None]
        wide = torch.where(meets, turned, 0).flatten(2).flatten(0, 1)
    return cycle(fold(wide, in_features).T, out_features).T


def rotate(
    blocks: Float[Tensor, "*rows blocks size"], *, back: bool = False
) -> Float[Tensor, "*rows blocks size"]:
    """Block i turned by i times the angles: feature j together with feature j + size / 2.

        theta_j = 10000 ** (-2 j / size),  j = 0 ... size / 2 - 1

    Args:
        blocks: Of an even size.
        back: The other way round.
    """
    cosines, sines = _cosines_and_sines(blocks.shape[-2], blocks.shape[-1], blocks)
    sign = -1 if back else 1
    first, second = blocks.chunk(2, -1)
    return torch.cat(
        [
            torch.addcmul(first * cosines, second, sines, value=-sign),
            torch.addcmul(second * cosines, first, sines, value=sign),
        ],
        -1,
    )


def cycle(x: Float[Tensor, "*rows n"], length: int) -> Float[Tensor, "*rows length"]:
    """Entry k is entry k modulo n of ``x``; a view where nothing is repeated."""
    n = x.shape[-1]
    if length <= n:
        return x[..., :length]
    if length < 2 * n:
        return torch.cat([x, x[..., : length - n]], -1)
    times = -(-length // n)
    return x.unsqueeze(-2).expand(*x.shape[:-1], times, n).flatten(-2)[..., :length]


def fold(x: Float[Tensor, "*rows n"], width: int) -> Float[Tensor, "*rows width"]:
    """Entry q is the sum of all entries of ``x`` that are q modulo ``width``, which is <= n."""
    times, rest = divmod(x.shape[-1], width)
    whole = x[..., : times * width]
    folded = whole.unflatten(-1, (times, width)).sum(-2) if times > 1 else whole
    return folded + F.pad(x[..., times * width :], (0, width - rest)) if rest else folded


def _num_blocks(
    in_features: int, out_features: int, size: int, mora_type: MoraType
) -> tuple[int, int]:
    """How many blocks the input is cut into, and to how many M is applied."""
    num_read = -(-in_features // size)
    if mora_type == "sharing":
        return num_read, 1
    return num_read, min(num_read, -(-out_features // size))


def _cosines_and_sines(
    num_blocks: int, size: int, like: Tensor
) -> tuple[Float[Tensor, "blocks half"], Float[Tensor, "blocks half"]]:
    """Of all angles, on the device of ``like``, rounded once to its dtype.

    Computed anew each time, in some tens of microseconds: what is kept would have to be kept by
    number of blocks, size, dtype and device, and not be made under inference mode or by a tracer.
    """
    # Half precision has no integer above 2048, or 256, exactly.
    exact = torch.promote_types(like.dtype, torch.float32)
    halves = torch.arange(size // 2, device=like.device, dtype=exact)
    thetas = ROTATION_BASE ** (-2 * halves / size)
    angles = torch.arange(num_blocks, device=like.device, dtype=exact)[:, None] * thetas
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)
