"""A search as the artifacts tell it: how far it is, what was tried, what workers are given."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import write_tiny_study

from tasks.parts import handed_part, parts_of
from wit.config import Runtime, Study
from wit.errors import ConfigError
from wit.form_fields import Handed
from wit.lineage.cells import cell_tags
from wit.loading import load_study
from wit.plan import Plan, make_plan

SEARCH = "weights={search: {rays: 5, budget: 6, seeds: 2}}"
WITH_STOP = "weights={search: {rays: 5, budget: 6, seeds: 2, stop: {by: select}}}"


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_study(tmp_path_factory.mktemp("study"), "searched")


@pytest.fixture(scope="module")
def plan(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Of which nothing is made."""
    return plan_of(study_file, tmp_path_factory.mktemp("root"), SEARCH)


def plan_of(study_file: Path, root: Path, *overrides: str) -> Plan:
    return make_plan(load_study(study_file, overrides), Runtime(artifact_root=root))


def names(plan: Plan) -> list[str]:
    return [str(one.cell) for one in plan.cells]


def test_before_anything_is_made_it_has_its_first_round(plan: Plan) -> None:
    assert plan.search is not None
    assert plan.search.num_rounds == 1
    assert not plan.search.is_over
    assert len(plan.cells) == 2 < len(plan.candidates) == 10
    assert all(one.aligned for one in plan.cells)


def test_until_a_rung_is_known_nothing_is_aligned(study_file: Path, tmp_path: Path) -> None:
    plan = plan_of(study_file, tmp_path, WITH_STOP)
    assert [one.aligned for one in plan.cells] == [(), ()]
    assert plan.search is not None
    assert plan.search.stopped == ()
    assert all(one.aligned for one in plan.at_most.cells)


@pytest.mark.parametrize("weights", [SEARCH, WITH_STOP])
def test_cells_that_all_fail_use_the_budget_up_and_end_it(
    study_file: Path, tmp_path: Path, weights: str
) -> None:
    plan = plan_of(study_file, tmp_path, weights)
    tried = {artifact.fingerprint for artifact in plan.whole}
    over = plan.replayed(tried)
    assert over.search is not None
    assert over.search.is_over
    assert all(trial.has_failed for trial in over.search.trials)
    assert len(set(names(over))) == len(over.cells) <= 6
    assert names(over)[:2] == names(plan)


def test_a_cell_that_could_still_get_its_score_is_waited_for(plan: Plan) -> None:
    first = plan.cells[0]
    evaluations = {artifact.fingerprint for artifact in first.dpo_evaluations}
    half = {artifact.fingerprint for artifact in first.artifacts} - evaluations
    assert names(plan.replayed(half)) == names(plan)
    assert names(plan.replayed(half | evaluations)) == names(plan), "the other one is open"


def test_it_costs_at_most_its_budget(plan: Plan) -> None:
    at_most = plan.at_most
    assert len(at_most.cells) == 6
    assert names(at_most)[:2] == names(plan)
    assert len({*names(at_most)}) == 6


def test_what_it_is_does_not_change_while_it_goes_on(plan: Plan) -> None:
    further = plan.replayed({artifact.fingerprint for artifact in plan.whole})
    assert names(further) != names(plan)
    assert further.whole == plan.whole


def test_mlflow_is_told_of_the_cells_that_were_begun(study_file: Path, tmp_path: Path) -> None:
    plan = plan_of(study_file, tmp_path, WITH_STOP)
    tags = cell_tags(plan.study, plan.begun)
    assert tags["wit.cells"].split() == tags["wit.unaligned"].split() == names(plan)
    aligned = plan.at_most.begun
    assert aligned is not None
    assert cell_tags(plan.study, aligned)["wit.unaligned"] == "", "it replaces what stood there"


def test_a_worker_finds_the_cells_of_another_machines_search(
    study_file: Path, tmp_path: Path
) -> None:
    """It has none of the scores, so by its own account the search has hardly begun."""
    here, there = (plan_of(study_file, tmp_path / name, WITH_STOP) for name in ("a", "b"))
    of_last = there.candidates[-1]
    assert str(of_last.cell) not in names(here)
    for asked in (of_last, of_last.before_alignment()):
        [part] = [p for p in parts_of(replace(there, cells=(asked,))) if p.cell == of_last.cell]
        handed = Handed(
            part=part.name,
            study=json.dumps(there.study.stated()),
            version="0" * 12,
            fingerprint=part.fingerprint,
        )
        own = make_plan(handed.load_study(), Runtime(artifact_root=tmp_path / "a"))
        found = handed_part(own, handed)
        assert [a.fingerprint for a in found.artifacts] == [a.fingerprint for a in asked.artifacts]
        assert names(found.seen_in(own)) == [str(of_last.cell)]


@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 3))
def test_a_study_that_is_stored_is_the_same_search(rays: int, budget: int, seeds: int) -> None:
    found = Study.model_validate(
        {
            "name": "searched",
            "base": {"path": "builtin"},
            "instructions": {"path": "builtin"},
            "preferences": {"path": "builtin"},
            "benchmarks": [{"name": "wit_choice", "role": "select"}],
            "weights": {"search": {"rays": rays, "budget": budget, "seeds": seeds}},
        }
    )
    assert len(found.cells) == rays * seeds
    stated = found.stated()
    assert "seeds" not in stated
    assert Study.model_validate(stated) == found
    assert Study.model_validate(json.loads(json.dumps(stated))).stated() == stated


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["weights={search: {rays: 5}}"], r"weights\.search\.budget is missing"),
        (["weights={search: {budget: 0}}"], r"weights\.search\.budget = 0: "),
        (["weights={search: {budget: 3, ray: 5}}"], r"weights\.search\.ray: unknown key.*'rays'"),
        (["weights={search: {budget: 3}, prompt: [1]}"], r"stands alone; leave 'prompt' out"),
        (["weights={search: {budget: 3}}", "seeds=[0, 1]"], r"as 'weights\.search\.seeds'"),
        (["search={budget: 3}"], r"'search' stands under 'weights'"),
        (["weights={search: {budget: 3, degrees: [60, 30]}}"], r"degrees 60 to 30"),
        (["weights={search: {budget: 3, stop: {by: loss}}}"], r"weights\.search\.stop\.by"),
    ],
)
def test_a_search_that_is_wrong_is_refused_where_it_stands(
    study_file: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_study(study_file, overrides)
    assert "\n" not in str(caught.value), "one complaint"
