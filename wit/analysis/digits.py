"""How many digits a number is worth: 0.823 of a share, 31.9 of a hundred."""

import math
from collections.abc import Iterable

SIGNIFICANT = 3  # digits of the largest score
OF_SPREAD = 2  # significant digits of the difference of the best and the worst
MOST = 9  # decimals


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


def with_interval(value: float | None, half_width: float | None, decimals: int) -> str:
    """The number and the half-width of its interval, if that is known."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.{decimals}f}" + ("" if half_width is None else f" ± {half_width:.{decimals}f}")


def _magnitude(value: float) -> int:
    """Power of ten of the first digit; of 0 that of 1."""
    return math.floor(math.log10(value)) if value else 0
