"""How many rows of each source a mixture takes."""

import math
from collections.abc import Mapping

from wit.errors import DataError


def rows_by_share(
    available: Mapping[str, int], shares: Mapping[str, float], max_rows: int | None, where: str
) -> dict[str, int]:
    """Rows of each source, in proportion to the shares and as many as there can be.

    Args:
        available: Rows that each source has.
        shares: Of the mixture's rows, relative to each other.
        max_rows: Of the whole mixture.
        where: Name of the mixture, for messages.

    Raises:
        DataError: A source has no row, so no mixture has its share.
    """
    if empty := [name for name in shares if not available[name]]:
        raise DataError(f"{where}: no row is left of {', '.join(empty)}, so it can have no share")
    total = min(available[name] / shares[name] for name in shares)
    if max_rows is not None:
        total = min(total, max_rows / sum(shares.values()))
    # Without the tolerance, 0.1 of 30 rows would be 2.
    return {
        name: min(available[name], math.floor(total * share + 1e-6))
        for name, share in shares.items()
    }
