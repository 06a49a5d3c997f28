"""Laws of a search that hold whatever the scores are."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from wit.search import Cell, SearchKnobs, Stop, Trial, goes_on, next_round, standings
from wit.search.trials import degrees_of

Outcome = Callable[[Cell], float | None]  # a score; None: the cell fails


def searched(knobs: SearchKnobs, outcome: Outcome) -> list[Trial]:
    """All trials of a search, from its first round to its end."""
    trials: list[Trial] = []
    for number in range(knobs.budget + 1):
        cells = next_round(knobs, trials)
        found = [(cell, outcome(cell)) for cell in cells]
        begun = [Trial(*cell, number, (), None, score is None) for cell, score in found]
        going = [True] * len(begun)
        for rung in range(knobs.stop.num_rungs if knobs.stop else 0):
            begun = [
                trial._replace(rungs=(*trial.rungs, score)) if goes else trial
                for trial, goes, (_, score) in zip(begun, going, found, strict=True)
            ]
            going = [goes_on(knobs, [*trials, *begun], trial.cell, rung) for trial in begun]
        trials += [
            trial._replace(score=score if goes else None)
            for trial, goes, (_, score) in zip(begun, going, found, strict=True)
        ]
    assert next_round(knobs, trials) == ()
    return trials


def of_angle(curve: Callable[[float], float]) -> Outcome:
    return lambda cell: curve(degrees_of(cell[0]))


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    """Scores with two decimals, or a failure, of any cell."""
    hundredths = draw(st.lists(st.none() | st.integers(-100, 100), min_size=7, max_size=40))

    def outcome(cell: Cell) -> float | None:
        found = hundredths[(round(degrees_of(cell[0])) * 7 + cell[1]) % len(hundredths)]
        return None if found is None else found / 100

    return outcome


many_knobs = st.builds(
    SearchKnobs,
    rays=st.integers(1, 9),
    budget=st.integers(1, 12),
    seeds=st.integers(1, 3),
    cells_per_round=st.integers(1, 4),
    stop=st.none()
    | st.builds(
        Stop,
        keep=st.sampled_from([0.3, 0.5, 1.0]),
        least=st.integers(1, 4),
        sft_rungs=st.sampled_from([(), (0.5,), (0.1, 0.4)]),
    ),
)
few = settings(max_examples=30, deadline=None)


@few
@given(many_knobs, outcomes())
def test_no_cell_is_begun_twice_and_no_more_than_the_budget(
    knobs: SearchKnobs, outcome: Outcome
) -> None:
    trials = searched(knobs, outcome)
    assert len(trials) <= min(knobs.budget, knobs.rays * knobs.seeds)
    assert len({str(trial.cell) for trial in trials}) == len(trials)
    sizes = [sum(trial.round == number for trial in trials) for number in range(len(trials))]
    assert max(sizes) <= knobs.cells_per_round


@few
@given(many_knobs, outcomes())
def test_what_succeeds_uses_the_whole_budget(knobs: SearchKnobs, outcome: Outcome) -> None:
    whole = knobs.model_copy(update={"stop": None})
    trials = searched(whole, lambda cell: outcome(cell) or 0.0)
    assert len(trials) == min(knobs.budget, knobs.rays * knobs.seeds)


@few
@given(many_knobs, outcomes(), st.randoms(use_true_random=False))
def test_a_search_that_goes_on_is_one_that_is_replayed(
    knobs: SearchKnobs, outcome: Outcome, random
) -> None:
    trials = searched(knobs, outcome)
    for number in range(max((trial.round for trial in trials), default=-1) + 1):
        before = [trial for trial in trials if trial.round < number]
        random.shuffle(before)
        begun = tuple(trial.cell for trial in trials if trial.round == number)
        assert next_round(knobs, before) == begun


@few
@given(many_knobs, outcomes(), st.sampled_from([0.125, 4.0]), st.integers(-8, 8))
def test_unit_and_level_of_the_scores_do_not_matter(
    knobs: SearchKnobs, outcome: Outcome, unit: float, level: int
) -> None:
    def other(cell: Cell) -> float | None:
        score = outcome(cell)
        return None if score is None else unit * score + level

    one, two = searched(knobs, outcome), searched(knobs, other)
    assert [trial.cell for trial in one] == [trial.cell for trial in two]
    chosen = [[s.weights for s in standings(knobs, ts) if s.is_chosen] for ts in (one, two)]
    assert chosen[0] == chosen[1]


@few
@given(many_knobs, outcomes())
def test_where_all_runs_of_a_ray_fail_it_is_left_alone(
    knobs: SearchKnobs, outcome: Outcome
) -> None:
    trials = searched(knobs, outcome)
    for place, trial in enumerate(trials):
        earlier = [t for t in trials[:place] if t.weights == trial.weights]
        gave_up = bool(earlier) and all(t.has_failed and t.round < trial.round for t in earlier)
        assert not gave_up, f"{trial.cell} was begun after {[t.cell for t in earlier]} failed"


@pytest.mark.parametrize("peak", [0, 11.25, 30, 45, 58, 66, 90])
def test_the_peak_of_a_curve_without_noise_is_found_within_a_few_cells(peak: float) -> None:
    knobs = SearchKnobs(budget=8)
    found = searched(knobs, of_angle(lambda degrees: -(((degrees - peak) / 30) ** 2)))
    [chosen] = [standing for standing in standings(knobs, found) if standing.is_chosen]
    nearest = min(knobs.candidates(), key=lambda weights: abs(degrees_of(weights) - peak))
    assert chosen.weights == nearest


def test_a_hopeless_ray_is_not_tried_again() -> None:
    knobs = SearchKnobs(budget=14)
    noise = [0.3, -0.2, 0.1, -0.4, 0.2, 0.0, -0.1]

    def outcome(cell: Cell) -> float:
        degrees = degrees_of(cell[0])
        return (-50 if degrees == 90 else 0) + noise[(round(degrees) + 3 * cell[1]) % 7]

    trials = searched(knobs, outcome)
    assert [degrees_of(trial.weights) for trial in trials].count(90) == 1


def test_a_winner_is_tried_again() -> None:
    scores = {(0, 0): 0.0, (45, 0): 1.0, (45, 1): -1.0, (90, 0): 0.1, (90, 1): 0.9}
    knobs = SearchKnobs(rays=3, budget=4, cells_per_round=1)
    trials = searched(knobs, lambda cell: scores.get((round(degrees_of(cell[0])), cell[1]), 0.0))
    assert max(trial.seed for trial in trials) == 1


def test_standings_tell_what_was_tried_and_how_sure_it_is() -> None:
    knobs = SearchKnobs(rays=5, budget=6)
    found = standings(knobs, searched(knobs, of_angle(lambda degrees: -abs(degrees - 45) / 10)))
    [chosen] = [standing for standing in found if standing.is_chosen]
    assert chosen.degrees == 45
    assert chosen.score == 0
    untried = [standing for standing in found if not standing.num_runs]
    assert all(standing.score is None and not standing.is_chosen for standing in untried)
    assert all((standing.deviation or 0) > (chosen.deviation or 0) for standing in untried)
    assert [standing.mean for standing in standings(knobs, [])] == [None] * 5


def going_on(knobs: SearchKnobs, rungs: Sequence[float]) -> list[bool]:
    """Whether each of a round's cells goes on from the first rung, in one round of all."""
    cells = [(weights, seed) for seed in range(2) for weights in knobs.candidates()]
    trials = [Trial(*c, 0, (rung,), None, False) for c, rung in zip(cells, rungs, strict=False)]
    return [goes_on(knobs, trials, trial.cell, 0) for trial in trials]


def test_the_better_half_goes_on_and_so_do_ties() -> None:
    knobs = SearchKnobs(budget=9, stop=Stop(keep=0.5, least=4))
    assert going_on(knobs, [1, 2, 3]) == [True, True, True]
    assert going_on(knobs, [3, 2, 1, 4]) == [True, False, False, True]
    assert going_on(knobs, [5, 2, 3, 4, 1]) == [True, False, True, True, False]
    assert going_on(knobs, [3, 1, 3, 3]) == [True, False, True, True]


def test_instruction_tuning_itself_is_never_stopped() -> None:
    knobs = SearchKnobs(budget=9, stop=Stop(keep=0.1, least=1))
    assert going_on(knobs, [1, 2, 3, 4]) == [True, False, False, True], "all are compared with it"
    without = knobs.model_copy(update={"degrees": (10, 90)})
    assert going_on(without, [1, 2, 3, 4]) == [False, False, False, True]


def test_at_a_later_rung_only_those_are_compared_that_came_to_it() -> None:
    knobs = SearchKnobs(budget=9, degrees=(10, 90), stop=Stop(sft_rungs=(0.5,), least=2))
    cells = [(weights, 0) for weights in knobs.candidates()[:4]]
    rungs = [(1.0,), (2.0,), (4.0, 5.0), (3.0, 6.0)]
    trials = [Trial(*cell, 0, at, None, False) for cell, at in zip(cells, rungs, strict=True)]
    assert [goes_on(knobs, trials, cell, 0) for cell in cells] == [False, False, True, True]
    assert [goes_on(knobs, trials, cell, 1) for cell in cells] == [False, False, False, True]


@few
@given(many_knobs, outcomes())
def test_who_is_stopped_at_a_rung_comes_to_no_later_one(
    knobs: SearchKnobs, outcome: Outcome
) -> None:
    trials = searched(knobs, outcome)
    for trial in trials:
        passed = [goes_on(knobs, trials, trial.cell, rung) for rung in range(len(trial.rungs))]
        assert all(passed[:-1])
        assert trial.score is None or all(passed)


def test_what_comes_later_does_not_change_who_goes_on() -> None:
    knobs = SearchKnobs(budget=9, stop=Stop(least=1))
    cells = [(weights, 0) for weights in knobs.candidates()[:4]]
    before = [Trial(*cell, 0, (rung,), None, False) for rung, cell in enumerate(cells)]
    later = [trial._replace(has_failed=trial.at(0) == 3) for trial in before]
    later += [Trial(weights, 0, 1, (9.0,), None, False) for weights in knobs.candidates()[5:7]]
    for trial in before:
        assert goes_on(knobs, later, trial.cell, 0) == goes_on(knobs, before, trial.cell, 0)


def test_who_goes_on_is_not_told_before_the_rungs_of_all_that_come_there_are_known() -> None:
    knobs = SearchKnobs(budget=9, degrees=(10, 90), stop=Stop(sft_rungs=(0.5,), least=1))
    cells = [(weights, 0) for weights in knobs.candidates()[:2]]
    trials = [Trial(*cells[0], 0, (1.0,), None, False), Trial(*cells[1], 0, (), None, False)]
    with pytest.raises(ValueError, match="rung 0"):
        goes_on(knobs, trials, cells[0], 0)
    assert goes_on(knobs, [trials[0], trials[1]._replace(has_failed=True)], cells[0], 0)
    first = trials[0]._replace(rungs=(1.0, 1.0))
    assert goes_on(knobs, [first, trials[1]._replace(rungs=(0.0,))], cells[0], 1), "it was stopped"
    with pytest.raises(ValueError, match="rung 1"):
        goes_on(knobs, [first, trials[1]._replace(rungs=(1.0,))], cells[0], 1)


def test_candidates_are_spread_evenly_with_exact_ends_and_short_names() -> None:
    names = [str(weights) for weights in SearchKnobs(budget=1).candidates()]
    assert names[:5] == ["p0-r1", "p0.199-r1", "p0.414-r1", "p0.668-r1", "p1-r1"]
    assert names[5:] == ["p1-r0.668", "p1-r0.414", "p1-r0.199", "p1-r0"]
    angles = [degrees_of(w) for w in SearchKnobs(budget=1, rays=37).candidates()]
    assert all(abs(angle - 2.5 * step) < 0.03 for step, angle in enumerate(angles))
    assert math.isclose(degrees_of(SearchKnobs(budget=1, degrees=(0, 45)).candidates()[-1]), 45)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"budget": 4, "degrees": (45, 0)}, "lower and an upper angle"),
        ({"budget": 4, "degrees": (0, 91)}, "between 0"),
        ({"budget": 4, "degrees": (45, 45.1)}, "fewer rays or a wider range"),
        ({"budget": 0}, "greater than 0"),
        ({"budget": 4, "stop": {"keep": 0}}, "greater than 0"),
        ({"budget": 4, "stop": {"sft_rungs": [0.5, 0.25]}}, r"\[0.5, 0.25\]: allowed are shares"),
        ({"budget": 4, "stop": {"sft_rungs": [1]}}, "less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused(said, what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        SearchKnobs.model_validate(said)


def test_trials_of_another_search_are_refused() -> None:
    knobs = SearchKnobs(budget=4)
    trial = Trial(SearchKnobs(budget=4, rays=4).candidates()[1], 0, 0, (), 1.0, False)
    with pytest.raises(ValueError, match="no cell of this search"):
        next_round(knobs, [trial])
    own = trial._replace(weights=knobs.candidates()[1])
    with pytest.raises(ValueError, match="twice"):
        next_round(knobs, [own, own])
    with pytest.raises(ValueError, match="nan"):
        next_round(knobs, [own._replace(score=math.nan)])
