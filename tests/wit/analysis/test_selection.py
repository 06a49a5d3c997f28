"""What is recommended, and when it must be said that no difference can be told."""

import math
import random
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit.analysis.selection import recommend

WEIGHTS = [(0, 1), (0.2, 1), (0.5, 1), (1, 1), (0.2, 0.4)]


def study(means, seeds=2, noise=0.0, rng=None, stderr=math.nan):
    """A table with a select and a report benchmark after DPO, one row per seed each."""
    rng = rng or random.Random(0)
    return pd.DataFrame(
        [
            {
                "stage": "dpo",
                "prompt_weight": prompt,
                "response_weight": response,
                "seed": seed,
                "benchmark": benchmark,
                "role": benchmark,
                "score": mean + more + rng.gauss(0, noise),
                "stderr": stderr,
                "status": "finished",
                "fingerprint": f"{prompt}-{response}-{seed}",
            }
            for (prompt, response), mean in zip(WEIGHTS, means, strict=False)
            for seed in range(seeds)
            for benchmark, more in (("select", 0.0), ("report", 0.2))
        ]
    )


def test_the_best_select_score_is_recommended_and_its_report_score_is_shown():
    table = study([0.5, 0.8, 0.6, 0.4, 0.7], noise=0.001)
    found = recommend(table)
    assert found.best is not None
    assert found.best.weights == "p0.2-r1"
    assert found.is_better is True
    assert "it is better" in found.sentence
    [report] = found.report_scores
    assert report.score == pytest.approx(1.0, abs=0.01)
    assert report.instruction_tuning == pytest.approx(0.7, abs=0.01)
    assert found.fingerprints == ("0.2-1-0", "0.2-1-1")


def test_a_report_score_has_no_say():
    table = study([0.5, 0.8], noise=0.001)
    table.loc[(table.role == "report") & (table.prompt_weight == 0), "score"] = 99.0
    best = recommend(table).best
    assert best is not None
    assert best.weights == "p0.2-r1"


def test_within_the_noise_no_difference_can_be_told():
    found = recommend(study([0.60, 0.61, 0.60, 0.59, 0.60], noise=0.05))
    assert found.is_better is False
    assert "no difference can be told" in found.sentence
    assert "0 : 1" in found.within_noise


def test_instruction_tuning_wins_by_no_more_than_the_noise():
    found = recommend(study([0.61, 0.60, 0.60], noise=0.05))
    assert found.ray == found.instruction_tuning
    assert "no difference can be told" in found.sentence


def test_instruction_tuning_can_win():
    found = recommend(study([0.9, 0.5], noise=0.001))
    assert found.ray == found.instruction_tuning
    assert "does not help" in found.sentence


@pytest.mark.parametrize(
    ("means", "seeds", "stderr", "words"),
    [
        ([0.5, 0.6], 1, math.nan, "more than noise is unknown"),
        ([0.5, 0.6], 1, 0.01, "it is better"),
        ([0.5, 0.6], 1, 0.1, "no difference can be told"),
        ([0.5], 2, math.nan, "only objective"),
        ([], 2, math.nan, "Nothing can be recommended yet"),
    ],
)
def test_it_says_what_it_knows(means, seeds, stderr, words):
    columns = study([0.5]).columns
    table = study(means, seeds, stderr=stderr) if means else pd.DataFrame(columns=columns)
    assert words in recommend(table).sentence


@given(st.floats(0, 1), st.integers(1, 4))
def test_one_item_of_255_is_never_a_gain_even_if_all_seeds_agree(score, seeds):
    stderr = math.sqrt(max(score * (1 - score), 1 / 255) / 254)
    found = recommend(study([score, score + 1 / 255], seeds, stderr=stderr))
    assert found.is_better is False
    assert "no difference can be told" in found.sentence


def test_seeds_that_agree_and_no_standard_errors_prove_nothing():
    found = recommend(study([0.5, 0.6], seeds=3))
    assert found.is_better is None
    assert "whether that is more than noise is unknown" in found.sentence


def test_where_nothing_is_known_of_noise_instruction_tuning_has_not_won_either():
    found = recommend(study([50, 49.999, 49.998], seeds=1))
    assert "does not help" not in found.sentence
    assert "whether that is more than noise is unknown" in found.sentence


def test_where_all_score_alike_nothing_is_best():
    found = recommend(study([0.5, 0.5, 0.5], seeds=3))
    assert found.within_noise == ("1 : 5", "1 : 2")
    assert "All 3 score the same, so no difference can be told" in found.sentence
    assert found.best is not None
    assert found.best.weights == "p0-r1"  # the usual loss needs no reason


def test_of_some_that_share_the_best_score_the_others_are_named():
    found = recommend(study([0.5, 0.6, 0.6], noise=0, seeds=1, stderr=0.01))
    assert "(as do 1 : 2)" in found.sentence


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_items_that_all_fail_are_no_certainty(score):
    """0 of 20: Wilson's interval ends at 1.96² / (20 + 1.96²) = 0.161, and not at 0."""
    table = study([score], seeds=1, stderr=0.0).assign(num_items=20)
    found = recommend(table)
    assert found.best is not None
    assert found.best.half_width == pytest.approx(0.161, abs=0.001)
    unknown = recommend(study([score], seeds=1, stderr=0.0))
    assert unknown.best is not None
    assert unknown.best.half_width is None


def test_of_what_is_no_share_an_error_of_0_is_not_known():
    """10 points of 10, and 100 percent: nothing tells where their scales end."""
    for score in (10.0, 100.0):
        found = recommend(study([score], seeds=1, stderr=0.0).assign(num_items=80))
        assert found.best is not None
        assert found.best.half_width is None


def test_one_seed_is_said_to_be_one():
    assert "There is one seed" in recommend(study([0.5, 0.6], 1, stderr=0.01)).sentence
    assert "There is one seed" not in recommend(study([0.5, 0.6], 2, stderr=0.01)).sentence


def test_rays_next_to_the_best_and_within_the_noise_are_an_interval():
    """Angles 0, 1 : 5, 1 : 2 (twice) and 1 : 1; the far end is as good, but not next to it."""
    found = recommend(study([0.50, 0.60, 0.61, 0.20, 0.61], noise=0.002, seeds=3))
    assert found.ray is not None
    assert (found.ray.ray, found.interval) == ("1 : 2", ("1 : 2", "1 : 2"))
    near = recommend(study([0.20, 0.61, 0.612, 0.61, 0.611], noise=0.02, seeds=3))
    assert near.interval == ("1 : 5", "1 : 1")


def test_a_perplexity_keeps_its_sign_and_the_lowest_is_best():
    table = study([15, 12, 14], noise=0.01).assign(higher_is_better=False)
    found = recommend(table)
    assert found.best is not None
    assert (found.best.weights, found.is_better) == ("p0.2-r1", True)
    assert found.difference == pytest.approx(-3, abs=0.1)
    assert "\N{MINUS SIGN}" not in found.sentence
    assert re.search(r": 1[12]\.\d+ ± .* below instruction tuning", found.sentence)


def test_where_both_directions_select_each_benchmark_keeps_its_own_score():
    perplexity = study([15, 12, 14], seeds=1).assign(higher_is_better=False, benchmark="ppl")
    accuracy = study([0.5, 0.6, 0.5], seeds=1).assign(higher_is_better=True)
    sentence = recommend(pd.concat([accuracy, perplexity[perplexity.role == "select"]])).sentence
    assert ": ppl 12.000, select 0.600 (one seed)" in sentence
    assert "the mean of minus ppl, select is 1.55 above instruction tuning" in sentence


def test_without_instruction_tuning_there_is_nothing_to_compare_with():
    table = study([0.5, 0.6, 0.7])
    found = recommend(table[table.prompt_weight > 0])
    assert found.is_better is None
    assert "has no score to compare it with" in found.sentence


def test_without_any_effect_it_rarely_finds_one():
    """Best of five cells: not allowing for the choice would call some 10 of 100 better."""
    rng = random.Random(7)
    better = [recommend(study([0.6] * 5, noise=0.02, rng=rng)).is_better for _ in range(100)]
    assert better.count(True) <= 5


def test_an_effect_of_many_noises_is_found():
    rng = random.Random(8)
    means = [0.5, 0.6, 0.5, 0.5, 0.5]
    found = [recommend(study(means, noise=0.01, rng=rng, seeds=3)) for _ in range(50)]
    assert sum(f.is_better is True and f.best is not None for f in found) >= 45
    assert {f.best.weights for f in found if f.best is not None} == {"p0.2-r1"}
