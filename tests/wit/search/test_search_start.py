"""A search begins what its budget allows, and every cell once."""

from wit.search import SearchKnobs, Trial, goes_on, next_round, standings


def searched(knobs: SearchKnobs) -> list[Trial]:
    trials: list[Trial] = []
    round_ = 0
    while cells := next_round(knobs, trials):
        for weights, seed in cells:
            score = -abs(weights.prompt / max(weights.response, 0.01) - 0.4)
            trials.append(Trial(weights, seed, round_, None, score, False))
        round_ += 1
    return trials


def test_a_search_uses_its_budget_and_no_cell_twice() -> None:
    trials = searched(SearchKnobs(budget=11))
    assert len(trials) == 11
    assert len({(str(trial.weights), trial.seed) for trial in trials}) == 11


def test_the_peak_of_a_curve_without_noise_is_chosen() -> None:
    knobs = SearchKnobs(budget=9)
    [chosen] = [s for s in standings(knobs, searched(knobs)) if s.is_chosen]
    assert str(chosen.weights) == "p0.414-r1"


def test_without_early_stopping_every_cell_is_aligned() -> None:
    knobs = SearchKnobs(budget=11)
    trials = searched(knobs)
    assert all(goes_on(knobs, trials, trial.cell) for trial in trials)
