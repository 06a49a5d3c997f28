"""Shares of a mixture: as many rows as there can be, in the right proportion."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from wit.data.mixture import rows_by_share
from wit.errors import DataError


@pytest.mark.parametrize(
    ("available", "shares", "max_rows", "rows"),
    [
        ({"a": 100, "b": 100}, {"a": 1, "b": 1}, None, {"a": 100, "b": 100}),
        ({"a": 100, "b": 10}, {"a": 1, "b": 1}, None, {"a": 10, "b": 10}),
        ({"a": 100, "b": 30}, {"a": 0.9, "b": 0.1}, None, {"a": 100, "b": 11}),
        ({"a": 100, "b": 30}, {"a": 9, "b": 1}, None, {"a": 100, "b": 11}),
        ({"a": 100, "b": 100}, {"a": 3, "b": 1}, 40, {"a": 30, "b": 10}),
        ({"a": 100, "b": 100}, {"a": 3, "b": 1}, 1000, {"a": 100, "b": 33}),
        ({"a": 3, "b": 30}, {"a": 0.7, "b": 0.7}, None, {"a": 3, "b": 3}),
    ],
)
def test_rows_by_share(
    available: dict[str, int], shares: dict[str, float], max_rows: int | None, rows: dict[str, int]
) -> None:
    assert rows_by_share(available, shares, max_rows, "mixture") == rows


@given(
    sources=st.lists(
        st.tuples(st.integers(1, 10_000), st.floats(0.01, 100)), min_size=1, max_size=5
    ),
    max_rows=st.none() | st.integers(1, 20_000),
)
def test_no_source_gives_more_than_it_has_and_one_more_row_of_each_would_not_fit(
    sources: list[tuple[int, float]], max_rows: int | None
) -> None:
    available = {str(n): rows for n, (rows, _) in enumerate(sources)}
    shares = {str(n): share for n, (_, share) in enumerate(sources)}
    rows = rows_by_share(available, shares, max_rows, "mixture")
    assert all(rows[name] <= available[name] for name in rows)
    assert sum(rows.values()) <= (max_rows or math.inf)
    total = sum(shares.values())
    wanted = [(rows[name] + 1) / shares[name] for name in rows]  # with one more of that source
    is_used_up = any(available[n] / shares[n] <= min(wanted) + 1e-6 for n in rows)
    assert is_used_up or (max_rows is not None and max_rows / total <= min(wanted) + 1e-6)


def test_a_source_without_rows_can_have_no_share() -> None:
    with pytest.raises(DataError, match=r"^mixture: no row is left of b, so it can have no share"):
        rows_by_share({"a": 5, "b": 0}, {"a": 1, "b": 1}, None, "mixture")
