"""How what is measured before DPO relates to the score after it."""

import numpy as np
import pandas as pd
import pytest
from simulated import PAPER_GRID, noisy, rays_of_grid, table_of

from wit.analysis.analyse import analyse
from wit.analysis.grid import stage_scores
from wit.analysis.relation import relate, signals
from wit.analysis.report_findings import constants_sentence
from wit.analysis.report_tables import signals_of
from wit.score_names import ALIGNMENT

EFFECTS = {ray: float(place) for place, ray in enumerate(rays_of_grid())}


def related(sft, dpo, **more):
    table = pd.concat([table_of("sft", sft, **more), table_of("dpo", dpo, **more)])
    return relate(stage_scores(table, "sft"), stage_scores(table, "dpo"))


def test_the_same_order_correlates_by_one_and_costs_nothing():
    scores = noisy(np.random.default_rng(0), EFFECTS, noise=0.1, num_seeds=1)
    found = related(scores, {cell: [s**3 for s in seeds] for cell, seeds in scores.items()})
    assert found.all["spearman"].value == found.all["kendall"].value == pytest.approx(1)
    assert found.all["pearson"].value < 1
    assert (found.same_best, found.regret) == (True, 0.0)


def test_cells_without_loss_on_the_response_are_in_one_figure_and_not_in_the_other():
    scores = noisy(np.random.default_rng(0), EFFECTS, noise=1.0, num_seeds=1)
    found = related(scores, scores)
    assert (found.num_cells, found.num_response_positive) == (35, 30)
    flipped = {cell: [-s if cell[1] else s for s in seeds] for cell, seeds in scores.items()}
    assert related(scores, flipped).response_positive["spearman"].value == pytest.approx(-1)


def test_where_less_is_better_agreement_is_positive_still():
    scores = noisy(np.random.default_rng(0), EFFECTS, noise=1.0, num_seeds=1)
    more, less = related(scores, scores), related(scores, scores, higher_is_better=False)
    for name, value in more.all.items():
        assert less.all[name].value == pytest.approx(value.value)
        assert (less.all[name].low, less.all[name].high) == pytest.approx((value.low, value.high))


def test_two_cells_have_no_correlation_and_equal_scores_neither():
    assert related({(0, 1): [1], (1, 1): [2]}, {(0, 1): [1], (1, 1): [2]}).all == {}
    flat = {cell: [1.0] for cell in PAPER_GRID}
    assert related(flat, flat).all == {}


def test_the_interval_holds_the_value_and_narrows_with_the_relation():
    generator = np.random.default_rng(1)
    before = noisy(generator, EFFECTS, noise=1.0, num_seeds=1)
    near, far = (noisy(generator, EFFECTS, noise=noise, num_seeds=1) for noise in (0.5, 20.0))
    for dpo in (near, far):
        for value in related(before, dpo).all.values():
            assert value.low is not None
            assert value.high is not None
            assert value.low <= value.value <= value.high
    strong, weak = (related(before, dpo).all["spearman"] for dpo in (near, far))
    assert strong.high - strong.low < weak.high - weak.low


def test_regret_has_the_interval_of_the_two_cells():
    sft = {(0, 1): [1.0, 1.0], (1, 1): [2.0, 2.0]}
    dpo = {(0, 1): [5.0, 5.2], (1, 1): [4.0, 4.4]}
    found = related(sft, dpo)
    assert (found.same_best, found.regret) == (False, pytest.approx(0.9))
    # Standard deviation 0.1 within cells and seeds, 1 degree of freedom: t 12.706 * 0.1.
    assert found.regret_half_width == pytest.approx(12.706 * 0.1, rel=1e-3)


def test_the_signal_that_foretells_the_score_comes_first():
    """Prompt NLL falls as the DPO score rises; response NLL says nothing; SFT misleads."""
    generator = np.random.default_rng(2)
    dpo = noisy(generator, EFFECTS, noise=0.1, num_seeds=1)
    tables = [
        table_of("dpo", dpo, role="select"),
        table_of("sft", {c: [-s for s in seeds] for c, seeds in dpo.items()}, role="select"),
        table_of(
            "sft",
            {c: [100 - s for s in seeds] for c, seeds in dpo.items()},
            "nll_prompt",
            role="diagnostic",
            higher_is_better=False,
        ),
        table_of(
            "sft",
            {c: [float(generator.random())] for c in dpo},
            "nll_response",
            role="diagnostic",
            higher_is_better=False,
        ),
    ]
    found = signals(pd.concat(tables))
    assert [signal.name for signal in found] == ["nll_prompt", "nll_response", "SFT score"]
    assert found[0].spearman is not None
    assert (found[0].spearman.value, found[0].regret) == (pytest.approx(1), 0.0)
    assert found[0].higher_is_better is False
    assert found[-1].spearman is not None
    assert found[-1].spearman.value == pytest.approx(-1)
    assert found[-1].regret > 10


def test_what_alignment_changed_foretells_nothing():
    """Of many figures the luckiest would be believed, and of most of them more is not better."""
    cells = {(0, 1): [1.0], (0.5, 1): [2.0], (1, 1): [4.0]}
    names = ("preference_accuracy", *ALIGNMENT)
    tables = [table_of("sft", cells, name, role="diagnostic") for name in names]
    tables += [table_of(stage, cells, role="select") for stage in ("sft", "dpo")]
    found = {signal.name for signal in signals(pd.concat(tables))}
    assert found == {"SFT score", "preference_accuracy"}


def test_without_dpo_nothing_can_be_foretold():
    assert signals(table_of("sft", {(0, 1): [1.0], (1, 1): [2.0]})) == []


def test_what_is_the_same_for_all_cells_is_told_apart_from_what_chooses() -> None:
    cells = {(0, 1): [1.0, 2.0], (0.5, 1): [2.0, 3.0], (1, 1): [4.0, 3.0]}
    same = {cell: [0.1 + 0.2, 0.3] for cell in cells}
    tables = [
        table_of("dpo", cells, role="select"),
        table_of("sft", cells, role="select"),
        table_of("sft", same, "score/empty_responses", role="diagnostic"),
        table_of("sft", {cell: [0.0, 0.0] for cell in cells}, "nll_prompt", role="diagnostic"),
    ]
    table = pd.concat(tables)
    constant = {signal.name: signal.is_constant for signal in signals(table)}
    assert constant == {"SFT score": False, "score/empty_responses": True, "nll_prompt": True}
    [study] = analyse(table).studies.values()
    assert [name for name, *_ in signals_of(study, 2).rows] == ["SFT score"]
    assert constants_sentence(study.signals) == (
        "2 measures are the same for all cells, so left out: prompt NLL, empty responses of score."
    )
    assert constants_sentence(study.signals[:1]) == ""
    # Of a single cell nothing can be said to be the same for all.
    alone = table.loc[table["prompt_weight"] == 0]
    assert not any(signal.is_constant for signal in signals(alone))
