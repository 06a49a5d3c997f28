"""A search that looks at its cells within SFT, as the artifacts tell it; nothing is trained."""

import json
from pathlib import Path

import pytest
from tiny import write_tiny_study

from wit.cell_plan import CellPlan
from wit.config import Runtime
from wit.estimate import estimate
from wit.lineage.cells import cell_tags
from wit.loading import load_study
from wit.plan import Plan, make_plan

SEARCH = "weights={search: {rays: 5, budget: 6, seeds: 2}}"
WITH_RUNG = "weights={search: {rays: 5, budget: 6, seeds: 2, stop: {sft_rungs: [0.5]}}}"


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_study(tmp_path_factory.mktemp("study"), "searched")


def plan_of(study_file: Path, root: Path, *overrides: str) -> Plan:
    return make_plan(load_study(study_file, overrides), Runtime(artifact_root=root))


def names(plan: Plan) -> list[str]:
    return [str(one.cell) for one in plan.cells]


def come_to_rung(cell: CellPlan, nll: float) -> None:
    [rung] = cell.rungs
    rung.path.mkdir(parents=True)
    (rung.path / "card.json").write_text(json.dumps({"nll_response": nll}))


def test_until_a_rung_within_sft_is_known_no_sft_model_is_made(
    study_file: Path, tmp_path: Path
) -> None:
    plan = plan_of(study_file, tmp_path, WITH_RUNG)
    assert [[a.stage for a in one.artifacts] for one in plan.cells] == [["rung"], ["rung"]]
    assert plan.has_to_train
    assert all(one.is_tuned and one.rungs for one in plan.at_most.cells)
    come_to_rung(plan.cells[0], 2.0)
    assert plan.replayed().fingerprints == plan.fingerprints, "the other one is not known yet"


def test_a_rung_is_no_part_of_the_model_after_it(study_file: Path, tmp_path: Path) -> None:
    with_rung, without = (plan_of(study_file, tmp_path, how) for how in (WITH_RUNG, SEARCH))
    for one, other in zip(with_rung.candidates, without.candidates, strict=True):
        assert one.sft == other.sft
        assert one.aligned == other.aligned


def test_who_is_worse_at_a_rung_ends_there_and_all_else_goes_on_to_the_next(
    study_file: Path, tmp_path: Path
) -> None:
    stop = "stop: {sft_rungs: [0.5], least: 2, by: nll_response}, degrees: [5, 90]"
    plan = plan_of(study_file, tmp_path, WITH_RUNG.replace("stop: {sft_rungs: [0.5]}", stop))
    better, worse = plan.cells
    come_to_rung(better, 2.0)
    come_to_rung(worse, 3.0)
    further = plan.replayed()
    assert further.search is not None
    assert further.search.stopped == (worse.cell,)
    assert [str(o.cell) for o in further.search.ended_in_sft] == [str(worse.cell)]
    assert [one.is_tuned for one in further.cells] == [True, False]
    assert [bool(one.aligned) for one in further.cells] == [False, False], "its SFT decides"
    assert further.begun is not None
    tags = cell_tags(plan.study, further.begun)
    assert tags["wit.untuned"].split() == [str(worse.cell)]
    assert tags["wit.unaligned"].split() == names(plan)
    assert further.fingerprints > plan.fingerprints
    assert str(worse.cell) in names(further.at_most)
    assert [one.is_tuned for one in further.at_most.cells].count(False) == 1


def test_a_rung_that_fails_ends_its_cell_and_no_other(study_file: Path, tmp_path: Path) -> None:
    plan = plan_of(study_file, tmp_path, WITH_RUNG)
    one, other = plan.cells
    come_to_rung(one, 2.0)
    further = plan.replayed({other.rungs[0].fingerprint})
    assert [cell.is_tuned for cell in further.cells] == [True, False]
    assert further.search is not None
    assert [trial.has_failed for trial in further.search.trials] == [False, True]
    assert further.search.stopped == ()


def test_a_rung_costs_its_share_where_the_model_is_there(study_file: Path, tmp_path: Path) -> None:
    runtime = Runtime(artifact_root=tmp_path)
    whole = estimate(plan_of(study_file, tmp_path, SEARCH), runtime)
    plan = plan_of(study_file, tmp_path, WITH_RUNG)
    assert estimate(plan, runtime).sft_tokens == whole.sft_tokens, "it is no training of its own"
    for one in plan.candidates:
        one.sft.path.mkdir(parents=True)
    assert estimate(plan, runtime).sft_tokens == pytest.approx(whole.sft_tokens / 2, abs=1)
