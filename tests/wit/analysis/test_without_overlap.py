"""Scores without flagged items: by hand, and as they would be had those never been asked."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_data import overlap, summary
from pages import SpacedPage
from reported import STUDY, make_table
from samples import ROOT

from wit.analysis.data_summary import DataSummary
from wit.analysis.overlap_section import without_sections
from wit.analysis.report import Extras, write_report
from wit.analysis.without_overlap import ModelWithout, WithoutOverlap, order_of, without_overlap
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.data.overlap import OVERLAP, BenchmarkOverlap, Overlap
from wit.evaluation.results import EvaluationResult, Score
from wit.evaluation.samples import SAMPLES_FILE, Sample, write_samples
from wit.evaluation_recipes import BenchmarkEvaluation
from wit.loading import load_study
from wit.plan import Plan, make_plan

NAME, NUM_ITEMS = "wit_seen", 10
FLAGGED = (2, 5, 9)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Of two pairs of weights and two seeds."""
    study = load_study(ROOT / "configs/studies/quickstart.yaml")
    weights = [w for w in study.weights if str(w) in ("p0-r1", "p1-r1")]
    assert len(weights) == 2
    # The other way round than they are listed, as a file may have them.
    small = study.model_copy(update={"weights": tuple(weights[::-1]), "seeds": (0, 1)})
    return make_plan(small, Runtime(artifact_root=tmp_path))


def flagged(*items: int) -> Overlap:
    benchmark = BenchmarkOverlap(
        num_items=NUM_ITEMS,
        num_looked_for=NUM_ITEMS,
        num_too_short=0,
        num_common=0,
        share=len(items) / NUM_ITEMS,
        overlapping=items,
        examples=(),
    )
    return Overlap(num_words=13, num_rows={"instructions": 9}, benchmarks={NAME: benchmark})


def measured(artifact: Artifact, scores, value: float | None = None) -> None:
    artifact.path.mkdir(parents=True)
    main = Score(
        benchmark=NAME,
        metric="exact_match",
        value=float(np.mean(scores)) if value is None else value,
        stderr=None,
        num_items=len(scores),
        higher_is_better=True,
        is_main=True,
    )
    EvaluationResult(scores=(main,)).save(artifact.path)
    samples = [
        Sample(item=n, prompt="", target="", responses=(), logps=None, score=score)
        for n, score in enumerate(scores)
    ]
    write_samples(artifact.path, samples)


def evaluation(artifacts, name: str = NAME) -> Artifact:
    [found] = [
        a
        for a in artifacts
        if isinstance(a.recipe, BenchmarkEvaluation) and a.recipe.measures == name
    ]
    return found


def fill(plan: Plan, scores) -> None:
    """Measures every model; ``scores`` of stage, weights and seed."""
    measured(evaluation(plan.base_evaluations), scores("base", "base", 0))
    measured(evaluation(plan.base_evaluations, "wit_unseen"), [0.0] * NUM_ITEMS)
    for cell in plan.cells:
        which = (str(cell.cell.weights), cell.cell.seed)
        measured(evaluation(cell.sft_evaluations), scores("sft", *which))
        measured(evaluation(cell.dpo_evaluations), scores("dpo", *which))


def by_chance(stage: str, weights: str, seed: int) -> list[float]:
    draw = np.random.default_rng([len(stage), len(weights), ord(weights[1]), seed])
    return [float(draw.integers(2)) for _ in range(NUM_ITEMS)]


def test_by_hand() -> None:
    """Right on both flagged items and on two of the four others."""
    values = np.array([1.0, 1, 0, 1, 0, 1])
    where = np.array([True, False, False, True, False, False])
    found = ModelWithout.of_items("dpo", "p0-r1", [values], where)
    assert (found.whole.value, found.rest.value) == (pytest.approx(4 / 6), 0.5)
    assert found.change.value == pytest.approx(-1 / 6)
    # Shares of n items: p (1 - p) / (n - 1); of the flagged, all right: Wilson's z / (n + z²).
    assert found.whole.stderr == pytest.approx((4 / 6 * 2 / 6 / 5) ** 0.5)
    assert found.rest.stderr == pytest.approx((0.25 / 3) ** 0.5)
    of_flagged = 1.959964 / (2 + 1.959964**2)
    assert found.change.stderr == pytest.approx(2 / 6 * (0.25 / 3 + of_flagged**2) ** 0.5, rel=1e-5)


ITEMS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=3, max_size=30).filter(
    lambda items: 0 < sum(hit for _, hit in items) < len(items)
)


@given(ITEMS)
def test_the_change_is_what_the_flagged_items_weigh(items) -> None:
    values, hit = np.array([v for v, _ in items]), np.array([h for _, h in items])
    found = ModelWithout.of_items("sft", "p1-r1", [values], hit)
    expected = hit.mean() * (values[~hit].mean() - values[hit].mean())
    assert found.change.value == pytest.approx(expected, abs=1e-12)
    assert found.rest.value - found.whole.value == pytest.approx(expected, abs=1e-12)
    again = ModelWithout.of_items("sft", "p1-r1", [values, values], hit)
    assert again.rest == found.rest  # a seed that says the same makes no item surer


@given(ITEMS)
def test_where_flagged_items_are_as_hard_as_others_nothing_changes(items) -> None:
    hit = np.array([h for _, h in items])
    found = ModelWithout.of_items("sft", "p1-r1", [np.full(len(items), 0.25)], hit)
    assert found.change.value == 0


def test_every_model_is_counted_as_if_the_flagged_items_had_not_been_asked(plan: Plan) -> None:
    fill(plan, by_chance)
    [found] = without_overlap(plan, flagged(*FLAGGED)).values()
    assert (found.num_items, found.num_rest, found.obstacle) == (10, 7, "")
    assert [(m.stage, m.weights, m.num_seeds) for m in found.models] == [
        ("base", "base", 1),
        ("sft", "p0-r1", 2),
        ("sft", "p1-r1", 2),
        ("dpo", "p0-r1", 2),
        ("dpo", "p1-r1", 2),
    ]
    for model in found.models:
        seeds = range(model.num_seeds)
        of_seeds = [by_chance(model.stage, model.weights, seed) for seed in seeds]
        left = [[v for n, v in enumerate(of) if n not in FLAGGED] for of in of_seeds]
        assert model.whole.value == pytest.approx(np.mean(of_seeds))
        assert model.rest.value == pytest.approx(np.mean(left))
        spread = np.std(np.mean(left, axis=0), ddof=1) / 7**0.5
        assert model.rest.stderr == pytest.approx(spread)


def test_a_cell_that_knew_the_flagged_items_by_heart_loses_its_place(plan: Plan) -> None:
    def scores(stage: str, weights: str, seed: int) -> list[float]:
        if weights == "p1-r1" and stage == "dpo":  # all of the flagged, and two of the others
            return [float(n in (*FLAGGED, 0, seed + 3)) for n in range(NUM_ITEMS)]
        return [float(n in (0, 1, 3, 4)) for n in range(NUM_ITEMS)]

    fill(plan, scores)
    [found] = without_overlap(plan, flagged(*FLAGGED)).values()
    sft, dpo = found.orders
    assert (sft.num_changed, sft.num_pairs, sft.lead) == (0, 1, None)
    assert (dpo.num_changed, dpo.best, dpo.best_rest) == (1, ("p1-r1",), ("p0-r1",))
    assert dpo.lead is not None
    # On item 1 by 1, on items 3 and 4 by a half each, on the other four of the seven by nothing.
    assert dpo.lead.value == pytest.approx(2 / 7)
    assert dpo.lead.stderr == pytest.approx(np.std([1, 0.5, 0.5, 0, 0, 0, 0], ddof=1) / 7**0.5)
    [section] = without_sections({NAME: found}, ["p1-r1", "p0-r1"])
    text = " ".join(section.sentences)
    assert "3 of 10 items of wit_seen stand in the training text; 7 are left without them." in text
    assert "the score of p1-r1 after DPO falls by 0.214 ± " in text
    assert "from 0.500 to 0.286" in text
    assert "the score of p0-r1 after DPO rises by 0.171" in text
    assert "The order of the cells stays the same before DPO." in text
    assert (
        "After DPO the order of 1 of 1 pairs of cells changes, and p0-r1 is best in the place of "
        "p1-r1: by 0.286 ± "
    ) in text
    assert section.numbers.rows[0][0] == "base"
    assert section.numbers.rows[-1][0] == "p1-r1 DPO"


def test_less_may_be_better() -> None:
    where = np.array([True, False, False])
    cells = {"p0-r1": np.array([0.0, 5, 5]), "p1-r1": np.array([9.0, 2, 2])}
    more, less = (order_of("dpo", cells, where, sign) for sign in (1, -1))
    assert (more.best, more.best_rest) == (("p1-r1",), ("p0-r1",))
    assert (less.best, less.best_rest) == (("p0-r1",), ("p1-r1",))
    assert more.lead is not None
    assert less.lead is not None
    assert more.lead.value == less.lead.value == 3


def said_of(cells: dict[str, list[float]]) -> str:
    """Of cells and the items that they have right; the first of the items is flagged."""
    values = {weights: np.array(of) for weights, of in cells.items()}
    where = np.arange(len(next(iter(cells.values())))) == 0
    order = order_of("sft", values, where, 1)
    found = WithoutOverlap(num_items=len(where), num_rest=len(where) - 1, orders=(order,))
    [section] = without_sections({NAME: found}, [])
    return section.sentences[-1].partition(": by")[0]


SAME = "The order of the cells stays the same before DPO."
TIES = {"A": [1, 0, 0, 1], "B": [0, 1, 0, 1]}  # on all items, and not on the rest


@pytest.mark.parametrize(
    ("cells", "num", "best"),
    [
        (TIES, "1 of 1", "A no longer ties with B"),
        (dict(reversed(TIES.items())), "1 of 1", "A no longer ties with B"),
        ({"A": [1, 0, 1], "B": [0, 0, 1]}, "1 of 1", "A stays best, but B now ties with it."),
        ({"A": [2, 1, 0], "B": [2, 0, 1], "C": [0, 1, 1]}, "2 of 3", "C is best in the place of A"),
        (TIES | {"C": [0, 1, 1, 0]}, "2 of 3", "A no longer ties with B and C"),
        ({"A": [1, 1], "B": [1, 0], "C": [0, 0]}, "1 of 3", "A stays best."),
    ],
)
def test_ties_that_come_or_go_are_changes_of_the_order(cells, num: str, best: str) -> None:
    said = said_of(cells)
    assert said.startswith(f"Before DPO the order of {num} pairs of cells changes, and {best}")


def test_sums_over_seeds_that_differ_by_rounding_tie() -> None:
    tenths = [0.1, 0.2, 0.3]
    cells = {"A": [0.0, sum(tenths)], "B": [0.0, sum(tenths[::-1])]}
    assert cells["A"] != cells["B"]
    assert said_of(cells) == said_of({"A": [0, 1, 0], "B": [0, 0, 1]}) == SAME
    cells = {"A": [sum(tenths), 0.0], "B": [sum(tenths[::-1]), 0.0]}
    assert said_of(cells) == SAME


def test_models_that_are_not_measured_or_damaged_are_left_out(plan: Plan) -> None:
    fill(plan, by_chance)
    first, second, *_ = plan.cells
    for file in evaluation(first.dpo_evaluations).path.iterdir():
        file.unlink()
    (evaluation(second.dpo_evaluations).path / SAMPLES_FILE).write_text("x")
    [found] = without_overlap(plan, flagged(*FLAGGED)).values()
    assert {m.num_seeds for m in found.models if m.stage == "sft"} == {2}
    assert sum(m.num_seeds for m in found.models if m.stage == "dpo") == 2


def test_nothing_flagged_or_nothing_measured_is_no_section(plan: Plan) -> None:
    assert without_overlap(plan, flagged(*FLAGGED)) == {}
    fill(plan, by_chance)
    assert without_overlap(plan, flagged()) == {}
    assert without_sections({}, ["p0-r1"]) == []


@pytest.mark.parametrize(
    ("items", "scores", "value", "why"),
    [
        (range(NUM_ITEMS), [1.0] * NUM_ITEMS, None, "no other item is left"),
        (FLAGGED, [None] * NUM_ITEMS, 0.5, "exact_match exists only for all items together"),
        (FLAGGED, [1.0] * NUM_ITEMS, 0.9, "exact_match is not the mean of what single items"),
        (FLAGGED, [1.0] * 9, None, "9 items were asked, not the 10 looked for"),
    ],
)
def test_where_no_score_is_left_the_reason_is_said(
    plan: Plan, items, scores, value: float | None, why: str
) -> None:
    measured(evaluation(plan.base_evaluations), scores, value)
    found = without_overlap(plan, flagged(*items))
    assert found[NAME].models == ()
    [section] = without_sections(found, ["p0-r1"])
    assert len(section.sentences) == 1
    assert f"What it scores without them cannot be told: {why}" in section.sentences[0]
    assert section.numbers.rows == []


def test_the_page_has_the_section_also_when_it_is_made_again(plan: Plan, tmp_path: Path) -> None:
    fill(plan, by_chance)
    plan.overlap.path.mkdir(parents=True)
    (plan.overlap.path / OVERLAP).write_text(flagged(*FLAGGED).model_dump_json())
    DataSummary.of_plan(plan).save(tmp_path)
    kept = DataSummary.load(tmp_path)
    assert kept is not None
    assert isinstance(kept.without_overlap[NAME], WithoutOverlap)
    page = SpacedPage(write_report(make_table(), STUDY, Extras(data=kept), tmp_path / "r.html"))
    text = " ".join(page.text.split())
    assert "Without items that stand in the training text" in text
    assert "model all 10 items the 7 left change base" in text
    other = summary(overlap=overlap(0))
    page = SpacedPage(write_report(make_table(), STUDY, Extras(data=other), tmp_path / "o.html"))
    assert "Without items that stand" not in page.text
