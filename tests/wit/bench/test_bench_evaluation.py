"""The benchmark of evaluation: it compares numbers, and reports what it took."""

import pytest

from wit.bench.evaluation import Turn, _check_equal, figures_of, measure
from wit.errors import StageError
from wit.evaluation.results import share_score


def test_the_ratio_is_of_whole_processes_and_cannot_pass_that_of_starting_once() -> None:
    turn = Turn(process=4, load=0.5, benchmarks={"a": 2, "b": 1}, baseline={"a": 10, "b": 14})
    speed, seconds = figures_of([turn], num_items=12)
    assert (speed.ours, speed.baseline, speed.value) == ((3,), (0.5,), 6)
    assert speed.limit == 24  # of the 4 seconds 3 are evaluation
    assert seconds.value == turn.evaluation == 3


def test_numbers_that_differ_stop_it() -> None:
    score = share_score("quiz", "acc", 0.5, 8)
    _check_equal([score], {"acc,none": 0.5})
    with pytest.raises(StageError, match=r"quiz: acc is 0\.5 here and 0\.625 by lm_eval"):
        _check_equal([score], {"acc,none": 0.625})


@pytest.mark.slow  # four processes of lm-eval: two minutes
def test_one_load_for_all_benchmarks_does_what_a_process_for_each_does() -> None:
    found = measure(1)
    assert found.same_work == {"items": 1020, "scores": 4}
