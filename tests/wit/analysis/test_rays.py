"""Rays: which cells are one objective, what noise is, and what can be told beyond it."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import PAPER_GRID, noisy, rays_of_grid, table_of

from wit.analysis.grid import stage_scores
from wit.analysis.rays import rays_of
from wit.analysis.scores import ray_label
from wit.analysis.selection import recommend

weights = st.integers(0, 20).map(lambda n: n / 20)


def rays(scores):
    return rays_of(stage_scores(table_of("dpo", scores), "dpo"))


@given(weights, weights, st.integers(1, 12))
def test_a_common_factor_leaves_the_ray(prompt, response, factor):
    if prompt or response:
        assert ray_label(prompt, response) == ray_label(factor * prompt, factor * response)


@given(weights, weights, weights, weights)
def test_other_ratios_are_other_rays(p, r, q, s):
    if (p or r) and (q or s):
        is_one = round(20 * p) * round(20 * s) == round(20 * q) * round(20 * r)
        assert (ray_label(p, r) == ray_label(q, s)) is is_one


def test_a_ray_is_named_by_its_ratio():
    pairs = [(0, 0.3), (0.1 + 0.2, 1), (0.2, 0.8), (1, 0), (0.123, 1), (1, 0.414)]
    assert [ray_label(*pair) for pair in pairs] == [
        "0 : 1",
        "3 : 10",
        "1 : 4",
        "1 : 0",
        "0.123 : 1",
        "1 : 0.414",
    ]


@pytest.mark.parametrize("pair", [(0.00001, 1), (0.99999, 1), (0.12341, 1), (1, 0.00001)])
def test_a_ratio_near_a_simple_one_is_another(pair):
    near = [(0, 1), (1, 1), (0.12342, 1), (1, 0)]
    assert ray_label(*pair) not in {ray_label(*other) for other in near}


def test_the_papers_35_cells_are_21_rays():
    assert (len(PAPER_GRID), len(rays_of_grid())) == (35, 21)


def test_the_noise_floor_is_the_spread_within_rays():
    """Ray 0 : 1 has 1 and 3, ray 1 : 1 has 4, 6 and 8; a single cell says nothing.

    Squares 2 + 8 = 10 over 1 + 2 degrees of freedom.
    """
    scores = {(0, 1): [1], (0, 0.5): [3], (1, 1): [4], (0.5, 0.5): [6], (0.2, 0.2): [8]}
    found = rays({**scores, (0.2, 1): [99]})
    assert found.noise.deviation == pytest.approx(math.sqrt(10 / 3))
    assert found.noise.freedom == 3
    assert [(ray.ray, ray.score, ray.num_runs) for ray in found.rays] == [
        ("0 : 1", pytest.approx(2), 2),
        ("1 : 5", pytest.approx(99), 1),
        ("1 : 1", pytest.approx(6), 3),
    ]
    assert [ray.degrees for ray in found.rays] == pytest.approx(
        [0, math.degrees(math.atan(0.2)), 45]
    )


def test_of_two_rays_the_interval_of_their_difference_is_students():
    """Two runs each, variances 2 and 8: s² = 5 with 2 degrees of freedom, error sqrt(5).

    t(0.975, 2) = 4.302653; with a single comparison nothing is added to it.
    """
    found = rays({(0, 1): [0], (0, 0.5): [2], (1, 1): [10], (0.5, 0.5): [14]})
    usual = found.instruction_tuning
    assert usual is not None
    noise = found.noise_of(usual)
    assert noise is not None
    assert noise["1 : 1"] == pytest.approx(4.302653 * math.sqrt(5), rel=0.01)


@settings(max_examples=20)  # of an identity; a wrong one holds for hardly any of them
@given(st.floats(-100, 100), st.floats(-100, 100))
def test_what_a_seed_does_to_all_is_in_no_difference(first, second):
    one = noisy(np.random.default_rng(0), {"1 : 1": 2.0}, noise=0.5, num_seeds=2)
    other = {cell: [a + first, b + second] for cell, (a, b) in one.items()}
    before, after = rays(one), rays(other)
    leads = [[s.lead(ray, s.rays[0]) for ray in s.rays] for s in (before, after)]
    assert leads[0] == pytest.approx(leads[1], abs=1e-9)
    assert before.noise == pytest.approx(after.noise)


def test_with_seeds_the_cells_of_a_ray_are_one_run():
    """Cells of one ray and seed that agree to the last bit are no replicates of training."""
    generator = np.random.default_rng(5)
    by_ray = {ray: list(50 + generator.standard_normal(3)) for ray in rays_of_grid()}
    full = rays({cell: by_ray[ray_label(*cell)] for cell in PAPER_GRID})
    first = {ray_label(*cell): cell for cell in reversed(PAPER_GRID)}
    thin = rays({first[ray]: seeds for ray, seeds in by_ray.items()})
    usual = [s.instruction_tuning for s in (full, thin)]
    assert full.noise.freedom == thin.noise.freedom == 40
    assert full.noise_of(usual[0]) == pytest.approx(thin.noise_of(usual[1]))


def test_runs_that_agree_exactly_say_nothing_of_noise():
    found = rays({(0, 1): [0.1, 0.1], (0, 0.5): [0.1, 0.1], (1, 1): [0.3, 0.3]})
    assert found.instruction_tuning is not None
    assert found.noise_of(found.instruction_tuning) is None


def test_a_seed_that_some_rays_lack_does_not_tilt_the_others():
    """Seed 1 adds 10 to all; ray 1 : 1 ran with seed 0 only and is no worse for it."""
    table = table_of("dpo", {(0, 1): [1, 11], (0.2, 1): [2, 12.1], (1, 1): [3]})
    found = rays_of(stage_scores(table, "dpo"))
    best = found.best
    assert best is not None
    assert best.ray == "1 : 1"
    assert found.lead(best, found.rays[0]) == pytest.approx(2, abs=0.1)


def recommendations(effects, num, *, noise=1.0, num_seeds=1, cells=PAPER_GRID, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(num):
        scores = noisy(generator, effects, noise=noise, num_seeds=num_seeds, cells=cells)
        yield recommend(table_of("dpo", scores))


@pytest.mark.parametrize(
    ("num_seeds", "cells"),
    [(1, PAPER_GRID), (3, PAPER_GRID), (4, [(p / 8, 1) for p in range(9)])],
    ids=["one seed", "three seeds", "a cell per ray"],
)
def test_where_there_is_no_effect_no_difference_is_told(num_seeds, cells):
    found = list(recommendations({}, 100, num_seeds=num_seeds, cells=cells))
    assert sum("no difference can be told" in one.sentence for one in found) >= 95
    assert sum(one.is_better is True for one in found) <= 5


@pytest.mark.parametrize("ray", ["1 : 4", "1 : 1", "3 : 5"])
def test_an_effect_of_three_noise_deviations_is_named(ray):
    found = list(recommendations({ray: 3.0}, 100, num_seeds=3))
    assert sum(one.ray is not None and one.ray.ray == ray for one in found) >= 90
    assert sum(one.is_better is True for one in found) >= 80


def test_with_one_seed_an_effect_on_a_ray_of_several_cells_is_named():
    """A ray of one cell is measured once, and of 20 others one may be lucky: not 90 of 100."""
    found = list(recommendations({"1 : 1": 3.0}, 100))
    assert sum(one.ray is not None and one.ray.ray == "1 : 1" for one in found) >= 90


def test_the_best_ray_is_among_those_within_the_noise():
    """What may be the best holds the true best in 95 of 100 studies (three deviations of 400)."""
    effects = {"1 : 4": 1.0, "1 : 3": 0.9, "1 : 1": 0.5}
    hits = [
        "1 : 4" in {one.ray.ray, *one.within_noise}
        for one in recommendations(effects, 150, seed=7)
        if one.ray is not None
    ]
    assert np.mean(hits) >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 150)


def test_all_differences_from_instruction_tuning_hold_together_in_95_of_100_studies():
    generator = np.random.default_rng(11)
    effects = {ray: place / 5 for place, ray in enumerate(rays_of_grid())}
    hits = []
    for _ in range(400):
        found = rays(noisy(generator, effects, noise=1.0, num_seeds=1))
        usual = found.instruction_tuning
        assert usual is not None
        noise = found.noise_of(usual)
        assert noise is not None
        hits.append(
            all(
                abs(ray.score - usual.score - effects[ray.ray] + effects["0 : 1"]) <= noise[ray.ray]
                for ray in found.rays
                if ray != usual
            )
        )
    assert 0.92 <= np.mean(hits) <= 0.98


def test_a_recipe_in_which_the_scale_counts_makes_rays_of_cells():
    table = pd.concat([table_of("dpo", {(0.2, 0.4): [1.0], (0.5, 1): [2.0]})])
    alone = table.assign(ray=["1 : 2 (p0.2-r0.4)", "1 : 2 (p0.5-r1)"])
    assert len(rays_of(stage_scores(table, "dpo")).rays) == 1
    assert len(rays_of(stage_scores(alone, "dpo")).rays) == 2


@pytest.mark.parametrize("scores", [{(0.2, 0.4): [2.0], (0.5, 1): [1.0]}, {(0.5, 1): [2.0, 1.0]}])
def test_a_single_ray_has_nothing_to_compare_with(scores):
    found = recommend(table_of("dpo", scores))
    assert "with scores, so there is nothing to compare it with" in found.sentence
    assert (found.within_noise, found.interval) == ((), ("1 : 2", "1 : 2"))
