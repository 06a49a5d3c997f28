"""The common form of benchmarks: ratios, aims, equal work, and the table that shows them."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from wit.bench.result import BenchResult, Figure, same_work, show
from wit.errors import StageError

TURNS = st.lists(st.tuples(*[st.floats(0.1, 1e6)] * 2), min_size=1, max_size=5)


def make_result(*figures: Figure) -> BenchResult:
    return BenchResult(
        name="sft",
        ours="ours",
        baseline="theirs",
        figures=figures,
        sizes={"rows": 512},
        same_work={"rows": 512},
        machine="a machine",
        versions={"torch": "2"},
    )


@given(TURNS, st.floats(0.01, 100))
def test_a_ratio_does_not_know_the_unit_nor_the_speed_of_the_machine(
    turns: list[tuple[float, float]], unit: float
) -> None:
    ours, baseline = zip(*turns, strict=True)
    figure = Figure(quantity="q", ours=ours, baseline=baseline)
    other = Figure(
        quantity="q", ours=tuple(unit * o for o in ours), baseline=tuple(unit * b for b in baseline)
    )
    assert figure.values == pytest.approx(other.values)
    assert min(figure.values) <= figure.value <= max(figure.values)


def test_the_median_turn_decides_whether_the_aim_is_reached() -> None:
    slow_once = Figure(quantity="q", ours=(1, 4, 4), baseline=(2, 2, 2), at_least=2)
    assert (slow_once.value, slow_once.is_reached) == (2, True)
    assert Figure(quantity="q", ours=(3,), at_most=2).is_reached is False
    assert Figure(quantity="q", ours=(3,)).is_reached is None


def test_every_turn_needs_both_sides() -> None:
    with pytest.raises(ValidationError, match="every turn has a value of both"):
        Figure(quantity="q", ours=(1, 2), baseline=(1,))


def test_arms_that_did_not_do_the_same_have_no_ratio() -> None:
    assert same_work({"a": {"rows": 8, "steps": 2}, "b": {"steps": 2, "rows": 8}})["rows"] == 8
    with pytest.raises(StageError, match=r"a did .*8.*, and b did .*7"):
        same_work({"a": {"rows": 8}, "b": {"rows": 7}})


def test_the_table_says_what_was_missed_and_what_it_rests_on() -> None:
    speed = Figure(quantity="tokens/s", ours=(150, 300), baseline=(100, 100), at_least=3, limit=4)
    memory = Figure(quantity="MiB", ours=(50,), at_most=60)
    show(Console(file=(page := io.StringIO()), width=160), [make_result(speed, memory)])
    text = re.sub(r"[^\S\n]+", " ", page.getvalue())
    assert "2.25 x (missed)" in text
    assert "1.5 to 3" in text
    assert text.count("(missed)") == 1
    assert "ours, against theirs (rows 512)" in text
