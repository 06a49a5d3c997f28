"""Choices over several studies, and which benchmark a gain comes from."""

from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from simulated import PAPER_GRID, noisy, table_of

from wit.analysis.analyse import analyse, as_json
from wit.analysis.parts import parts_of


def studies(num, seed=0, **effects):
    generator = np.random.default_rng(seed)
    frames = []
    for place in range(num):
        own = {"1 : 1": float(generator.normal(0, 5)), **effects}
        for stage in ("sft", "dpo"):
            scores = noisy(generator, own, noise=1.0, num_seeds=1)
            frames.append(table_of(stage, scores).assign(study=f"study {place}"))
    return pd.concat(frames)


def gains(table, stage):
    """By hand: percent over (0, 1), by cell and study."""
    scores = table[table.stage == stage].set_index(["study", "prompt_weight", "response_weight"])
    names = table.study.unique()
    usual = {name: scores.score[name, 0, 1] for name in names}
    return {
        cell: {n: 100 * (scores.score[(n, *cell)] / usual[n] - 1) for n in names}
        for cell in PAPER_GRID
    }


def test_fixed_held_out_and_oracle_choices_are_those_of_a_plain_search():
    table = studies(6)
    found, expected = analyse(table).sft, gains(table, "sft")
    names = list(table.study.unique())
    means = {cell: fmean(by_study.values()) for cell, by_study in expected.items()}
    best = max(means, key=lambda cell: means[cell])
    assert found.cells[0].name == f"p{best[0]:g}-r{best[1]:g}"
    assert found.cells[0].gain_pct.value == pytest.approx(means[best])
    held = []
    for name in names:
        others = [other for other in names if other != name]
        choice = max(expected, key=lambda c, o=others: fmean(expected[c][n] for n in o))
        held.append(expected[choice][name])
    assert found.held_out_cell is not None
    assert found.held_out_cell.gain_pct.value == pytest.approx(fmean(held))
    assert found.oracle_cell is not None
    oracle = fmean(max(expected[cell][name] for cell in PAPER_GRID) for name in names)
    assert found.oracle_cell.value == pytest.approx(oracle)


def test_an_effect_in_all_studies_is_found_without_the_study_and_noise_is_not():
    real = analyse(studies(8, **{"1 : 4": 10.0})).dpo
    assert real.held_out_ray is not None
    assert set(real.held_out_ray.chosen.values()) == {"1 : 4"}
    assert real.held_out_ray.gain_pct.value == pytest.approx(20, abs=3)
    chance = analyse(studies(8, seed=1)).dpo
    assert chance.oracle_cell is not None
    assert chance.held_out_cell is not None
    assert chance.held_out_cell.gain_pct.value < chance.oracle_cell.value


def test_a_cell_that_one_study_lacks_is_no_fixed_choice():
    table = studies(3)
    lacking = (table.study == "study 1") & (table.prompt_weight == 0.2)
    found = analyse(table[~lacking]).sft
    assert not any(choice.name.startswith("p0.2-") for choice in found.cells)


def test_overall_figures_are_means_over_studies():
    content = as_json(analyse(studies(5)))
    for name, value in content["overall"].items():
        each = [study.get(name) for study in content["studies"].values()]
        if name == "same_best":
            assert value == sum(each)
        elif all(isinstance(one, float) for one in each):
            assert value == pytest.approx(fmean(each))
    assert content["overall"]["num_rays"] == 21


def test_one_study_has_figures_and_no_held_out_choice():
    analysis = analyse(studies(1))
    assert analysis.sft.held_out_cell is None
    overall, [study] = as_json(analysis)["overall"], as_json(analysis)["studies"].values()
    assert overall["regret"] == study["regret"]
    assert overall["intervals"]["regret"] == [None, None]


def test_a_table_without_dpo_or_without_any_score_is_analysed():
    table = studies(2)
    before = as_json(analyse(table[table.stage == "sft"]))
    assert before["overall"]["gain_sft_best_pct"] is not None
    assert before["overall"]["gain_dpo_best_pct"] is None
    nothing = as_json(analyse(table.assign(score=float("nan"))))
    assert nothing["overall"]["gain_sft_best_pct"] is None
    assert nothing["studies"]["study 0"]["num_excluded"] == 70


def test_the_benchmark_that_drives_a_gain_is_found():
    """Cell (1, 1) gains 30 points on one of three benchmarks and nothing on the others."""
    pairs = [(0.0, 1.0), (1.0, 1.0)]
    frames = [
        table_of("sft", {pair: [40.0 + 30 * pair[0] * (name == "a")] for pair in pairs}, name)
        for name in ("a", "b", "c")
    ]
    found = parts_of(pd.concat(frames), "sft")
    assert found is not None
    assert (found.best, found.ratio) == ("p1-r1", None)
    assert found.together is not None
    assert found.together.absolute == pytest.approx(10)  # a mean: 30 / 3
    by_name = {part.benchmark: part for part in found.parts}
    assert by_name["a"].without is not None
    assert by_name["a"].without.absolute == 0
    assert by_name["b"].without is not None
    assert by_name["b"].without.absolute == pytest.approx(15)


def test_an_average_that_is_no_mean_shows():
    scores = {(0.0, 1.0): [40.0], (1.0, 1.0): [50.0]}
    parts = [table_of("sft", scores, name, role="part") for name in ("a", "b")]
    wrong = {pair: [1.25 * seeds[0]] for pair, seeds in scores.items()}
    found = parts_of(pd.concat([*parts, table_of("sft", wrong, "average", role="select")]), "sft")
    assert found is not None
    assert found.ratio == pytest.approx(1.25)
