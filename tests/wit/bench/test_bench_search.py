"""The contest of a search: every way begins as many cells, and regret is of what it chose."""

from pathlib import Path

import numpy as np
import pytest
from commands import wit

from wit.bench import search as bench
from wit.bench.search import measure, regrets_of
from wit.bench.search_figure import write_figure
from wit.bench.search_settings import Setting, drawn_settings, paper_settings
from wit.bench.search_ways import (
    GRID,
    RANDOM,
    SEARCH,
    STOPPED,
    Begun,
    Way,
    by_chance,
    chosen,
    regret,
)
from wit.errors import InputError, StageError

SCORES = Path(__file__).parents[4] / "shared" / "paper" / "wit_scores.csv"
needs_paper = pytest.mark.skipif(
    not SCORES.is_file(), reason="the paper's scores are not beside this repository"
)
SMALL = Setting(
    name="three rays",
    degrees=(0.0, 45.0, 90.0),
    places=(0, 0, 1, 1, 2, 2),
    rungs=(1.0, 1.0, 2.0, 2.0, 3.0, 3.0),
    scores=(4.0, 5.0, 7.0, 1.0, 6.0, 6.0),
    truth=(4.5, 4.0, 6.0),
    noise=2.0,
)


def test_regret_is_counted_in_noise_from_the_best_cell_and_from_the_best_ray() -> None:
    assert regret(SMALL, 2) == (0.0, 1.0)
    assert regret(SMALL, 4) == (0.5, 0.0)
    assert regret(SMALL, 0) == (1.5, 0.75)


def test_the_luckiest_run_is_chosen_by_score_and_not_by_the_curve() -> None:
    whole = [Begun(run, is_aligned=True) for run in range(6)]
    assert chosen(SMALL, whole, by_curve=False) == 2
    assert SMALL.places[chosen(SMALL, whole, by_curve=True)] == 2


def test_what_is_not_aligned_is_not_chosen() -> None:
    begun = [Begun(0, True), Begun(2, False), Begun(1, True)]
    assert chosen(SMALL, begun, by_curve=False) == 1


@pytest.mark.parametrize("way", [SEARCH, STOPPED, RANDOM, GRID])
def test_every_way_begins_what_the_budget_allows_and_no_cell_twice(way: Way) -> None:
    for setting in drawn_settings(0):
        runs = [one.run for one in way.begin(setting, np.random.default_rng(1), 9)]
        assert len(set(runs)) == len(runs) == 9
        if way is not RANDOM:
            counts = np.bincount(np.take(setting.places, runs))
            assert counts.max() <= 2


@pytest.mark.parametrize("way", [SEARCH, RANDOM])
def test_what_is_begun_with_a_budget_comes_first_with_a_larger_one(way: Way) -> None:
    setting = drawn_settings(0)[1]
    more, less = (way.begin(setting, np.random.default_rng(3), budget) for budget in (9, 6))
    assert more[:6] == less


def test_a_grid_of_all_rays_has_each_of_them_once() -> None:
    setting = drawn_settings(0)[0]
    begun = GRID.begin(setting, np.random.default_rng(0), 9)
    assert sorted(setting.places[one.run] for one in begun) == list(range(9))


def test_where_there_is_no_noise_to_speak_of_the_best_ray_is_found() -> None:
    sure = [setting for setting in drawn_settings(0) if setting.noise == 0.02][:2]
    regrets, _ = regrets_of(SEARCH, sure, [10], range(2))
    assert regrets[:, 0, 1].max() < 1


def test_the_benchmark_runs_on_drawn_curves_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "NUM_DRAWS", 1)
    found = measure(None, repeats=2, budget=6)
    [figure] = found.figures
    assert found.same_work == {"cells begun": 2 * 9 * 6, "cells aligned": 2 * 9 * 6}
    turns = [regrets_of(RANDOM, drawn_settings(turn), [6], [turn])[0] for turn in range(2)]
    assert figure.baseline == tuple(regrets[:, 0, 1].mean() for regrets in turns)


def test_a_way_that_begins_fewer_cells_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = Way(lambda setting, generator, budget: by_chance(setting, generator, budget - 1))
    monkeypatch.setattr(bench, "NUM_DRAWS", 1)
    monkeypatch.setattr(bench, "SEARCH", lazy)
    with pytest.raises(StageError, match="cells begun"):
        measure(None, repeats=1, budget=6)


@pytest.mark.parametrize("budget", [3, 19])
def test_a_budget_that_cannot_be_simulated_is_refused(budget: int) -> None:
    with pytest.raises(InputError, match="4 to 18"):
        measure(None, budget=budget)


def test_a_figure_without_scores_is_refused() -> None:
    ended = wit("bench", "search", "--figure", "regret.png")
    assert ended.returncode == 2
    assert "--scores" in ended.stderr


@needs_paper
def test_the_settings_are_the_papers() -> None:
    found = paper_settings(SCORES)
    assert len(found) == 15
    assert all(len(setting.scores) == 35 and len(setting.degrees) == 21 for setting in found)
    gemma = next(setting for setting in found if setting.name == "Gemma-2-2B/Alpaca-Cleaned")
    assert gemma.noise == pytest.approx(0.27, abs=0.005)  # docs/paper-reanalysis.md
    assert all(np.all(np.diff(setting.degrees) > 0) for setting in found)


@needs_paper
def test_at_ten_of_35_cells_the_choice_is_within_the_noise_of_the_best() -> None:
    regrets, _ = regrets_of(SEARCH, paper_settings(SCORES), [10], range(3))
    assert regrets[:, 0, 0].mean() <= 1


@needs_paper
def test_the_curve_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = paper_settings(SCORES)[:2]
    monkeypatch.setattr("wit.bench.search_figure.paper_settings", lambda _: some)
    monkeypatch.setattr("wit.bench.search_figure.BUDGETS", range(4, 6))
    monkeypatch.setattr("wit.bench.search_figure.BUDGETS_OF_DRAWN", range(4, 6))
    found = write_figure(SCORES, tmp_path / "regret.png", num_draws=1)
    assert (tmp_path / "regret.png").stat().st_size > 10_000
    assert {len(ways) for ways in found.values()} == {4}
