"""The benchmark of rays: 21 trainings are planned for a table of all 35 pairs."""

from typing import Any

import pytest

from wit.bench import rays
from wit.bench.rays import NUM_OBJECTIVES, NUM_PAIRS, measure
from wit.errors import StageError


def test_the_papers_grid_is_planned_both_ways() -> None:
    found = measure()
    assert found.same_work == {"rows of the table": NUM_PAIRS}
    trainings, *others = found.figures
    assert trainings.ours == (NUM_OBJECTIVES,)
    assert trainings.baseline == (NUM_PAIRS,)
    for figure in found.figures:
        assert figure.is_reached in (True, None)
        assert figure.value == pytest.approx(0.6)
        assert figure.ours[0] > 0
    assert trainings.is_reached
    assert [figure.quantity.split()[-1] for figure in others] == ["DPO", "tokens", "tokens"]


def test_a_table_that_lacks_a_pair_is_no_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    def smaller(dedupe: str, **other: Any) -> Any:
        axis = rays.AXIS if dedupe == "none" else rays.AXIS[:-1]
        return study(dedupe, weights={"prompt": axis, "response": rays.AXIS}, **other)

    study = rays.study
    monkeypatch.setattr(rays, "study", smaller)
    with pytest.raises(StageError, match="p1-r1"):
        measure()
