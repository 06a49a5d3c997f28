"""Two models on the same items: laws of the comparison, and how often it errs."""

import itertools
import math
import random
import time

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from wit.analysis.paired import ItemScores, compare_paired

VALUES = st.sampled_from([0.0, 0.25, 1.0])
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30)
STUDY = st.dictionaries(st.sampled_from("abc"), PAIRS, min_size=1)


def answers(scores, *, metric="acc, none", items_hash="x", higher_is_better=True) -> ItemScores:
    return ItemScores(metric, items_hash, tuple(scores), higher_is_better)


def models(pairs_by_name, **kinds):
    return tuple(
        {name: answers([p[side] for p in pairs], **kinds) for name, pairs in pairs_by_name.items()}
        for side in (0, 1)
    )


@given(STUDY)
def test_it_is_antisymmetric(study):
    one, other = models(study)
    there, back = compare_paired(one, other), compare_paired(other, one)
    assert there.difference == pytest.approx(-back.difference, abs=1e-12)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=1e-12)
    assert there.p_value == back.p_value
    assert not (there.is_better and back.is_better)
    assert ("worse" in there.sentence) <= (there.difference < 0)


@given(STUDY)
def test_a_model_is_never_better_than_itself(study):
    one, _ = models(study)
    found = compare_paired(one, one)
    assert (found.difference, found.interval, found.is_better) == (0, (0, 0), False)
    assert "no difference can be told" in found.sentence


@given(STUDY)
def test_benchmarks_of_which_less_is_better_count_the_other_way_round(study):
    assume(all(study.values()))
    one, other = models(study)
    flipped = compare_paired(*models(study, higher_is_better=False))
    assert flipped.difference == pytest.approx(-compare_paired(one, other).difference, abs=1e-12)


@given(STUDY)
def test_the_difference_is_the_mean_over_benchmarks_of_means_over_items(study):
    one, other = models(study)
    means = [sum(a - b for a, b in pairs) / len(pairs) for pairs in study.values()]
    found = compare_paired(one, other)
    assert found.difference == pytest.approx(sum(means) / len(means), abs=1e-12)
    assert found.num_items == {name: len(pairs) for name, pairs in study.items()}


@pytest.mark.parametrize("num_items", [5, 6, 40])
def test_a_constant_lead_counts_from_six_items_on(num_items):
    """Of n signs all are equal by chance with 2 / 2^n: 0.0625 for five, 0.031 for six."""
    found = compare_paired(*models({"a": [(0.6, 0.5)] * num_items}))
    assert found.difference == pytest.approx(0.1)
    assert found.is_better is (num_items >= 6)
    low, high = found.interval
    assert low < high, "equal differences are no certainty"


@pytest.mark.parametrize(("wins", "losses"), [(7, 1), (9, 1), (10, 2), (20, 8), (20, 10)])
def test_right_and_wrong_answers_are_judged_by_mcnemars_exact_test(wins, losses):
    pairs = [(1.0, 0.0)] * wins + [(0.0, 1.0)] * losses + [(1.0, 1.0)] * 50
    found = compare_paired(*models({"a": pairs}))
    exact = stats.binomtest(wins, wins + losses).pvalue
    assert found.p_value == pytest.approx(exact, abs=0.006)


@given(st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 1.0625]), min_size=1, max_size=11))
def test_the_p_value_is_that_of_all_signs(differences):
    """Four standard errors of 20,000 flips are at most 0.015."""
    flips = itertools.product([1, -1], repeat=len(differences))
    observed = abs(sum(differences))
    sums = [
        abs(math.fsum(s * d for s, d in zip(signs, differences, strict=True))) for signs in flips
    ]
    exact = sum(total >= observed - 1e-9 for total in sums) / len(sums)
    found = compare_paired(*models({"a": [(d, 0.0) for d in differences]}))
    assert found.p_value == pytest.approx(exact, abs=0.015)


@pytest.mark.parametrize("num_items", [100, 2000])
def test_many_continuous_differences_are_judged_as_normal_ones(num_items):
    """Equal ones are counted, others are not: so both, and what lies between, are tried."""
    rng = np.random.default_rng(num_items)
    for values in (rng.normal(0.1, 1, num_items), np.round(rng.normal(0.1, 1, num_items), 1)):
        found = compare_paired(*models({"a": [(float(v), 0.0) for v in values]}))
        z = abs(values.sum()) / math.sqrt((values**2).sum())
        assert found.p_value == pytest.approx(2 * stats.norm.sf(z), abs=0.015)


def test_ten_thousand_items_of_a_continuous_metric_take_no_time():
    """About 0.3 s on one core, as 20,000 flips of each would take 16 s."""
    values = np.random.default_rng(0).normal(size=(10_000, 2)).tolist()
    start = time.process_time()
    compare_paired(*models({"a": values}))
    assert time.process_time() - start < 2


def simulated(rng, num_items, lead):
    """Answers of two models to items of very different difficulty."""
    pairs = []
    for _ in range(num_items):
        ease = rng.random()
        pairs.append((float(rng.random() < ease + lead), float(rng.random() < ease)))
    return pairs


@pytest.mark.parametrize("num_items", [12, 60, 400])
def test_equal_models_are_rarely_called_better(num_items):
    """At most 2.5 % by design, as the test is two-sided; 2.9 standard errors of 500 draws more."""
    rng = random.Random(num_items)
    studies = ({"a": simulated(rng, num_items, 0), "b": simulated(rng, 50, 0)} for _ in range(500))
    better = sum(compare_paired(*models(study)).is_better for study in studies)
    assert better / 500 <= 0.045


@pytest.mark.parametrize("num_items", [(80,), (80, 40)])
def test_the_interval_covers_the_true_difference(num_items):
    rng, lead, hits = random.Random(1), 0.1, 0
    for _ in range(500):
        study = {
            name: [(float(rng.random() < 0.5 + lead), float(rng.random() < 0.5)) for _ in range(n)]
            for name, n in zip("ab", num_items, strict=False)
        }
        low, high = compare_paired(*models(study)).interval
        hits += low <= lead <= high
    assert 0.925 <= hits / 500 <= 0.985


def test_a_true_lead_is_found_with_enough_items():
    rng = random.Random(2)
    found = [compare_paired(*models({"a": simulated(rng, 600, 0.15)})) for _ in range(50)]
    assert sum(f.is_better for f in found) >= 48


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"items_hash": "y"}, "other items of a"),
        ({"metric": "f1, none"}, "the metric of one is acc, none, of the other f1, none"),
        ({"higher_is_better": False}, "the metric of one is"),
    ],
)
def test_what_was_not_measured_alike_is_not_compared(change, reason):
    mine = {"a": answers([1.0] * 50)}
    found = compare_paired(mine, {"a": answers([0.0] * 50, **change)})
    assert (found.difference, found.is_better) == (None, False)
    assert found.sentence.startswith("They cannot be compared: ")
    assert reason in found.sentence


def test_a_benchmark_of_one_model_alone_and_metrics_without_items_are_named():
    mine = {"a": answers([1.0] * 50), "b": answers([None, None])}
    found = compare_paired(mine, {"b": answers([None, None])})
    assert "only one of them was measured on a" in found.sentence
    assert "acc, none of b does not exist for single items" in found.sentence
    assert compare_paired({}, {}).is_better is False
