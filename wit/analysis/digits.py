"""Numbers as a person reads them, and how many digits they are worth: 0.823 of a share, 31.9."""

import math
from collections.abc import Iterable

SIGNIFICANT = 3  # digits of the largest score
OF_SPREAD = 2  # significant digits of the difference of the best and the worst
MOST = 9  # decimals
MINUS = "\N{MINUS SIGN}"  # a hyphen is too short, and lines break behind it


def decimals_of(scores: Iterable[float]) -> int:
    """Decimals with which scores of one kind are written; enough to see how they differ."""
    finite = [score for score in scores if math.isfinite(score)]
    if not finite:
        return SIGNIFICANT
    largest, spread = max(map(abs, finite)), max(finite) - min(finite)
    # A share of 1 is written as one of 0.999 is.
    needed = SIGNIFICANT if largest <= 1 else SIGNIFICANT - 1 - _magnitude(largest)
    if spread > 1e-9 * largest:
        needed = max(needed, OF_SPREAD - 1 - _magnitude(spread))
    return min(max(needed, 0), MOST)


def number(value: float, decimals: int = 2, *, is_signed: bool = False) -> str:
    """The number as a person reads it."""
    rounded = round(value, decimals) + 0.0  # no minus before a zero
    return f"{rounded:{'+' * is_signed}.{decimals}f}".replace("-", MINUS)


def plus_minus(
    value: float | None, half_width: float | None, decimals: int, *, is_signed: bool = False
) -> str:
    """The number and the half-width of its interval, if that is known."""
    if value is None:
        return "\N{EN DASH}"
    text = number(value, decimals, is_signed=is_signed)
    return text + ("" if half_width is None else f" ± {number(half_width, decimals)}")


def _magnitude(value: float) -> int:
    """Power of ten of the first digit; of 0 that of 1."""
    return math.floor(math.log10(value)) if value else 0
