"""A study that searches its weights: rounds of ordinary cells, some of which are not aligned."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import wit
from flow_runs import ended, plan_of, run, runtime_words, statuses
from prefect.client.orchestration import SyncPrefectClient

from flows.evaluation import run_evaluation
from flows.study import run_study
from wit.config import Runtime
from wit.forms import EvaluationRequest, StudyRequest
from wit.loading import load_study
from wit.outcome import StudyOutcome
from wit.plan import Plan, make_plan
from wit.sharing import upload

SEARCH = (
    "weights={search: {rays: 3, budget: 3, seeds: 1, stop: {by: nll_response, least: 1}}}",
    "sft.num_epochs=1",
)


class Searched(NamedTuple):
    """A search that has run to its end."""

    outcome: StudyOutcome
    root: Path


@pytest.fixture(scope="module")
def searched(prefect: None, study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    root = tmp_path_factory.mktemp("searched")
    return Searched(run(study_file, root, *SEARCH), root)


def test_it_begins_as_many_cells_as_it_may_and_aligns_the_better_ones(
    searched: Searched, study_file: Path
) -> None:
    stages = [stage.stage for stage in searched.outcome.stages]
    assert not searched.outcome.failures
    plan = plan_of(study_file, searched.root, *SEARCH)
    assert plan.search is not None
    assert plan.search.is_over
    assert plan.search.num_rounds == 2
    rungs = {str(t.weights): t.at(0) for t in plan.search.trials if t.round == 0}
    assert None not in rungs.values()
    worse = min(rungs, key=lambda name: rungs[name] or 0)
    assert worse in {str(cell.weights) for cell in plan.search.stopped}
    assert stages.count("sft") == 3
    assert stages.count("dpo") == 3 - len(plan.search.stopped)
    assert "of 3 candidates" in Path(searched.outcome.report or "").read_text()
    scored = {str(t.weights) for t in plan.search.trials if t.score is not None}
    assert scored == {str(one.cell.weights) for one in plan.cells if one.aligned}


def test_what_it_made_are_cells_of_any_grid_that_has_them(
    searched: Searched, study_file: Path
) -> None:
    grid = "weights=[{prompt: 0, response: 1}, {prompt: 1, response: 1}, {prompt: 1, response: 0}]"
    plan = plan_of(study_file, searched.root, grid, SEARCH[1])
    made = {stage.fingerprint for stage in searched.outcome.stages}
    assert all(cell.sft.fingerprint in made for cell in plan.cells)
    assert all(cell.sft.exists() for cell in plan.cells)


def test_run_again_it_comes_to_the_same_cells_and_makes_nothing(
    searched: Searched, study_file: Path
) -> None:
    again = run(study_file, searched.root, *SEARCH)
    assert statuses(again) == dict.fromkeys(statuses(searched.outcome), "reused")


def test_mlflow_knows_the_cells_that_were_begun_and_no_others(
    searched: Searched, study_file: Path
) -> None:
    words = [w for key in runtime_words(searched.root) for w in ("--set-runtime", key)]
    _, *cells = json.loads(wit("compare", "tiny", "--json", *words).stdout)
    plan = plan_of(study_file, searched.root, *SEARCH)
    assert {cell["cell"] for cell in cells} == {str(one.cell) for one in plan.cells}
    aligned = {c["cell"] for c in cells if "dpo" in c["models"]}
    assert aligned == {str(one.cell) for one in plan.cells if one.aligned}


def test_cut_off_after_its_first_round_it_goes_on_as_if_nothing_had_been(
    searched: Searched, study_file: Path, tmp_path: Path
) -> None:
    # A smaller budget is another study; its first round is the same one.
    first = run(study_file, tmp_path, SEARCH[0].replace("budget: 3", "budget: 2"), SEARCH[1])
    whole = statuses(run(study_file, tmp_path, *SEARCH))
    assert set(whole) == set(statuses(searched.outcome))
    assert {name for name, status in whole.items() if status == "reused"} == set(statuses(first))


def test_its_models_are_measured_on_another_benchmark_all_of_them(
    searched: Searched, study_file: Path
) -> None:
    """By whose scores it would not have come to most of them."""
    request = EvaluationRequest(
        study_file=str(study_file),
        settings=[*SEARCH, "benchmarks.0.limit=4"],
        runtime_settings=runtime_words(searched.root),
        models=["sft", "dpo"],
    )
    measured = [s.cell for s in ended(run_evaluation, request).stages if s.stage == "evaluation"]
    plan = plan_of(study_file, searched.root, *SEARCH)
    assert set(measured) == {str(one.cell) for one in plan.cells}


def test_the_worse_ones_are_not_even_tuned_to_the_end(
    searched: Searched, study_file: Path, tmp_path: Path
) -> None:
    rung = SEARCH[0].replace("stop: {", "degrees: [5, 90], stop: {sft_rungs: [0.5], ")
    found = run(study_file, tmp_path, rung, SEARCH[1])
    assert not found.failures
    plan = plan_of(study_file, tmp_path, rung, SEARCH[1])
    assert plan.search is not None
    assert plan.search.is_over
    assert plan.search.ended_in_sft
    stages = [stage.stage for stage in found.stages]
    assert stages.count("rung") == 3
    assert stages.count("sft") == 3 - len(plan.search.ended_in_sft)
    assert not list(tmp_path.rglob("*.partial")), "what was begun of them is gone"
    words = [w for key in runtime_words(tmp_path) for w in ("--set-runtime", key)]
    _, *cells = json.loads(wit("compare", "tiny", "--json", *words).stdout)
    assert {c["cell"] for c in cells} == {str(o.cell) for o in plan.cells if o.is_tuned}
    again = run(study_file, tmp_path, rung, SEARCH[1])
    assert statuses(again) == dict.fromkeys(statuses(found), "reused")


class Stored(NamedTuple):
    """A second machine, which has nothing but the store that has the search."""

    root: Path
    url: str
    study_file: Path

    def request(self, *settings: str) -> StudyRequest:
        words = [*runtime_words(self.root), f"artifact_store={self.url}", *settings]
        return StudyRequest(
            study_file=str(self.study_file), settings=[*SEARCH], runtime_settings=words
        )

    @property
    def plan(self) -> Plan:
        runtime = Runtime(artifact_root=self.root, artifact_store=self.url)
        return make_plan(load_study(self.study_file, SEARCH), runtime)


@pytest.fixture
def stored(searched: Searched, study_file: Path, tmp_path: Path) -> Stored:
    (tmp_path / "store").mkdir()
    machine = Stored(tmp_path / "two", f"file://{tmp_path}/store", study_file)
    runtime = Runtime(artifact_root=searched.root, artifact_store=machine.url)
    for artifact, _ in plan_of(study_file, searched.root, *SEARCH).artifacts():
        with artifact.lock():
            upload(artifact, runtime)
    return machine


def test_another_machine_comes_to_the_same_cells_from_the_store_alone(
    searched: Searched, stored: Stored
) -> None:
    made = statuses(searched.outcome)
    open_stages = {artifact.fingerprint for artifact in stored.plan.to_make}
    assert not open_stages & made.keys(), "what no rung has decided on yet is in the store as well"
    again = ended(run_study, stored.request())
    assert statuses(again) == dict.fromkeys(made, "reused")
    assert not list(stored.root.rglob("*.safetensors"))
    assert stored.plan.search is not None
    assert stored.plan.search.is_over


@pytest.mark.parametrize(
    ("execution", "failed"), [("local", "evaluation p0-r1-s0"), ("deployments", "search")]
)
def test_a_score_that_cannot_be_brought_leaves_a_report_of_what_is_there(
    searched: Searched, stored: Stored, client: SyncPrefectClient, execution: str, failed: str
) -> None:
    """Where workers make the cells, it may be the one that decides; none is asked, for all is made.

    Here it is a stage that failed, and decides nothing.
    """
    first = plan_of(stored.study_file, searched.root, *SEARCH).cells[0].sft_evaluations[0]
    [record] = Path(stored.url.removeprefix("file://")).rglob(f"{first.fingerprint}.record.json")
    record.write_text("{}")
    outcome = ended(run_study, stored.request(f"execution={execution}"))
    [failure] = outcome.failures
    assert failure.label == failed
    assert str(record) in failure.message
    assert outcome.exit_code == 2
    assert Path(outcome.report or "").is_file()
