"""Shares of units that come in clusters: instructions of a prompt, turns of a question."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class ClusteredShare(NamedTuple):
    """A share over all units, and how far it may lie from that of other clusters."""

    value: float
    stderr: float | None  # None: a single cluster tells nothing of others
    num_units: int


def clustered_share(clusters: Sequence[Sequence[bool]]) -> ClusteredShare:
    """Share of units that are true, with a standard error that does not take them as independent.

        p = sum_g s_g / N,   stderr² = G / (G - 1) · sum_g (s_g - n_g p)² / N²

    over G clusters of n_g units, s_g of them true, N = sum_g n_g. One prompt's instructions are
    answered by one response, and fail together. With one unit to a cluster it is the usual
    standard error of a mean of zeros and ones.

    Args:
        clusters: Each with at least one unit.

    Source: the linearised variance of a ratio of means; Cochran, Sampling Techniques (1977), 6.
    """
    num_units = sum(map(len, clusters))
    share = sum(map(sum, clusters)) / num_units
    num_clusters = len(clusters)
    if num_clusters < 2:
        return ClusteredShare(share, None, num_units)
    squares = sum((sum(units) - len(units) * share) ** 2 for units in clusters)
    stderr = math.sqrt(num_clusters / (num_clusters - 1) * squares) / num_units
    return ClusteredShare(share, stderr, num_units)
