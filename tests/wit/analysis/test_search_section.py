"""The report's section on a search: what it says while scores say something, and while not."""

import pytest
from reported import scores

from wit.analysis.grid import stage_scores
from wit.analysis.search_section import SearchSection, search_section
from wit.config import Study

STUDY = Study.model_validate(
    {
        "name": "searched",
        "base": {"path": "builtin"},
        "instructions": {"path": "builtin"},
        "preferences": {"path": "builtin"},
        "benchmarks": [{"name": "unseen", "role": "select"}],
        "weights": {"search": {"rays": 3, "budget": 5}},
    }
)
CELLS = [(0, 1), (1, 1), (1, 0)]


def section(table) -> SearchSection:
    before, after = (stage_scores(table, stage, ["unseen"]) for stage in ("sft", "dpo"))
    found = search_section(STUDY, before, after, 3)
    assert found is not None
    return found


def test_the_best_by_the_curve_is_named_and_stands_out() -> None:
    found = section(scores(CELLS))
    assert found.sentence.startswith("At most 5 cells may be begun; 6 have a score, of 3 of 3")
    assert "is best at p1-r0. " in found.sentence
    assert found.numbers.best == 2


def test_cells_that_were_stopped_are_counted_apart() -> None:
    table = scores(CELLS)
    is_stopped = (table.stage == "dpo") & table.cell.isin(["p0-r1-s0", "p1-r0-s1"])
    said = section(table[~is_stopped]).sentence
    assert "4 have a score, of 3 of 3 candidates; 2 more have only one before alignment. " in said


@pytest.mark.parametrize("cells", [CELLS, CELLS[:1]])
def test_where_no_two_scores_differ_none_is_best(cells) -> None:
    found = section(scores(cells, seeds=(0,)).assign(score=0.25))
    assert found.sentence.endswith(
        "No two scores differ, so there is no curve over the angle yet, and no best."
    )
    assert found.numbers.best is None
    assert len(found.numbers.rows) == 3
