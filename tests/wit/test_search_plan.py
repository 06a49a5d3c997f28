"""A search as the artifacts tell it: how far it is, what was tried, what workers are given."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tiny import write_tiny_study

from tasks.parts import handed_part, parts_of
from wit.config import Runtime, Study
from wit.errors import ConfigError
from wit.form_fields import Handed
from wit.lineage.cells import cell_tags
from wit.loading import load_study
from wit.machine import asks_the_judge
from wit.plan import Plan, make_plan
from wit.running import Picture

SEARCH = "weights={search: {rays: 5, budget: 6, seeds: 2}}"
WITH_RUNG = "weights={search: {rays: 5, budget: 6, seeds: 2, stop: {sft_rungs: [0.5]}}}"
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


@pytest.mark.parametrize("weights", [SEARCH, WITH_STOP, WITH_RUNG])
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


def test_a_budget_above_all_cells_is_said_to_be_all_cells(study_file: Path, tmp_path: Path) -> None:
    plan = plan_of(study_file, tmp_path, "weights={search: {rays: 2, budget: 9, seeds: 2}}")
    assert "2 of at most 4 cells begun" in str(plan.search)
    assert len(plan.at_most.cells) == 4


def test_it_costs_at_most_its_budget(plan: Plan) -> None:
    at_most = plan.at_most
    assert len(at_most.cells) == 6
    assert names(at_most)[:2] == names(plan)
    assert len({*names(at_most)}) == 6


def test_what_others_have_made_lowers_its_cost_only_as_far_as_it_must(
    study_file: Path, tmp_path: Path
) -> None:
    """It may come to try none of that."""
    plan = plan_of(study_file, tmp_path, SEARCH)
    begun = names(plan)
    others = [one for one in plan.candidates if str(one.cell) not in begun]
    for one in others[:3]:
        one.sft.path.mkdir(parents=True)
    assert sum(not plan.is_made(one.sft) for one in plan.at_most.cells) == 6
    for one in others[3:6]:
        one.sft.path.mkdir(parents=True)
    assert sum(not plan.is_made(one.sft) for one in plan.at_most.cells) == 4


def test_what_it_may_come_to_make_is_asked_of_a_machine_before_it_begins(
    study_file: Path, tmp_path: Path
) -> None:
    """As long as no rung is known nothing is planned of what comes after it."""
    on_policy = ["dpo.on_policy={scorer: judge}", "judge={model: judge}"]
    plan = plan_of(study_file, tmp_path, WITH_STOP, *on_policy)
    assert all(one.aligned == () for one in plan.cells)
    assert asks_the_judge(plan)
    for one in plan.cells:
        one.sft.path.mkdir(parents=True)
    assert plan.has_to_train
    half = load_study(study_file, [WITH_STOP, "dpo.precision=float16"])
    with pytest.raises(ConfigError, match=r"float16: needs a GPU"):
        make_plan(half, Runtime(artifact_root=tmp_path, device="cpu"))


def test_all_of_its_models_are_measured_again_whatever_others_would_score(
    study_file: Path, tmp_path: Path
) -> None:
    plan = plan_of(study_file, tmp_path, WITH_STOP)
    *stopped, last = plan.candidates[-3:]
    for model in (*(one.sft for one in stopped), last.sft, last.dpo):
        model.path.mkdir(parents=True)
    other = plan_of(study_file, tmp_path, WITH_STOP, "benchmarks.0.limit=4").trained
    assert names(other) == [str(one.cell) for one in (*stopped, last)]
    assert [bool(one.aligned) for one in other.cells] == [False, False, True]
    assert other.at_most.cells == other.cells, "nothing is begun"


def test_a_stage_of_whatever_cell_is_seen_while_it_runs(study_file: Path, tmp_path: Path) -> None:
    plan = plan_of(study_file, tmp_path, SEARCH)
    in_plan = names(plan.at_most)
    other = next(one for one in plan.candidates if str(one.cell) not in in_plan)
    picture = Picture(plan)
    other.sft.scratch.mkdir(parents=True)
    shown = shown_as(picture)
    assert f"sft {other.cell}" in shown
    assert f"0 of {len(list(plan.at_most.artifacts()))} stages complete" in shown
    other.sft.scratch.rename(other.sft.path)
    assert f"1 of {len(list(plan.at_most.artifacts()))} stages complete" in shown_as(picture)
    assert "0 of" in shown_as(Picture(plan)), "it was there before"


def shown_as(picture: Picture) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(picture.after(seconds=1.0))
    return console.file.getvalue()  # pyright: ignore


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
    here, there = (plan_of(study_file, tmp_path / name, WITH_RUNG) for name in ("a", "b"))
    of_last = there.candidates[-1]
    assert str(of_last.cell) not in names(here)
    for asked in (of_last, of_last.up_to(0), of_last.up_to(1)):
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
        (["weights=[{search: {budget: 3}}]"], r"'search' stands in no list"),
        (["weights={search: {budget: 3, degrees: [0]}}"], r"degrees\.1 is missing\.$"),
        (["weights={search: {budget: 3}}", "search={budget: 9}"], r"'search' stands twice"),
        (["weights={search: {budget: 3, degrees: [60, 30]}}"], r"degrees 60 to 30"),
        (["weights={search: {budget: 3, stop: {by: loss}}}"], r"weights\.search\.stop\.by"),
        (
            [
                "weights={search: {budget: 3, stop: {by: nll_response}}}",
                "instructions.held_out_fraction=0",
            ],
            r"weights\.search: stop\.sft_rungs and .*set instructions\.held_out_fraction",
        ),
    ],
)
def test_a_search_that_is_wrong_is_refused_where_it_stands(
    study_file: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_study(study_file, overrides)
    assert "\n" not in str(caught.value), "one complaint"
