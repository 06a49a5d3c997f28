"""An SFT that a search looks at half-way is the one that nobody has looked at."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tiny import write_tiny_study

from wit.artifacts import Artifact
from wit.cell_plan import CellPlan
from wit.config import Runtime
from wit.errors import ConfigError
from wit.loading import load_study
from wit.plan import Plan, make_plan
from wit.records import MODEL
from wit.rungs import drop, held_out_nll_at, tune
from wit.stages import make_artifact
from wit.training.checkpoints import resumable_checkpoint

SEARCH = "weights={search: {rays: 3, budget: 3, seeds: 1, stop: {sft_rungs: [0.2, 0.5, 0.7]}}}"
STEPS = {0.2: 2, 0.5: 3, 0.7: 5}  # of six; the second one ends an epoch


class Begun(NamedTuple):
    """A study of which nothing is made but its data."""

    plan: Plan
    runtime: Runtime

    @property
    def cell(self) -> CellPlan:
        return self.plan.candidates[1]


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sft = {"num_epochs": 2, "examples_per_step": 14}
    return write_tiny_study(tmp_path_factory.mktemp("study"), "rungs", sft=sft)


@pytest.fixture
def begun(study_file: Path, tmp_path: Path) -> Begun:
    return begun_in(study_file, tmp_path / "root")


def begun_in(study_file: Path, root: Path, *settings: str, **runtime: Any) -> Begun:
    how = Runtime(artifact_root=root, device="cpu", **runtime)
    plan = make_plan(load_study(study_file, settings or [SEARCH]), how)
    for artifact in (plan.tokenizer, plan.instructions):
        make_artifact(artifact, how)
    return Begun(plan, how)


@pytest.fixture(scope="module")
def whole(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Trained in one go."""
    found = begun_in(study_file, tmp_path_factory.mktemp("whole"))
    make_artifact(found.cell.sft, found.runtime)
    return found.cell.sft


def steps_of(artifact: Artifact, runtime: Runtime) -> list[int]:
    """Makes it; the optimizer steps that this took."""
    steps: list[int] = []

    def log(figures: dict[str, float], step: int) -> None:
        steps.extend([step] * ("loss" in figures))

    with artifact.lock(), artifact.writing() as out:
        tune(artifact, out, runtime, log)
    return steps


def history_of(sft: Artifact) -> list[dict[str, float]]:
    """What was logged, without what depends on the machine's speed and memory."""
    lines = map(json.loads, (sft.path / "history.jsonl").read_text().splitlines())
    timed = ("runtime", "second", "seconds", "bytes")
    return [{k: v for k, v in line.items() if not k.endswith(timed)} for line in lines]


def nll_by_step(sft: Artifact) -> dict[float, float]:
    """Of held-out responses, after each epoch."""
    lines = history_of(sft)
    return {line["step"]: line["nll_response"] for line in lines if "nll_response" in line}


def assert_same(sft: Artifact, whole: Artifact) -> None:
    files = [
        {name: file for name, file in one.record()["files"].items() if name.startswith(MODEL)}
        for one in (sft, whole)
    ]
    assert files[0] == files[1]
    assert history_of(sft) == history_of(whole)


def test_in_pieces_or_in_one_go_the_same_is_trained(begun: Begun, whole: Artifact) -> None:
    trained = [steps_of(artifact, begun.runtime) for artifact in begun.cell.trainings]
    assert trained == [[1, 2], [3], [4, 5], [6]]
    assert_same(begun.cell.sft, whole)


def test_a_rung_is_the_likelihood_of_held_out_responses_there(
    begun: Begun, whole: Artifact
) -> None:
    for rung in begun.cell.rungs:
        make_artifact(rung, begun.runtime)
    at_epoch = nll_by_step(whole)
    assert held_out_nll_at(begun.cell.rungs[1]) == at_epoch[STEPS[0.5]]
    values = [held_out_nll_at(rung) for rung in begun.cell.rungs]
    assert at_epoch[0] > values[0] > values[1] > values[2] > at_epoch[6]
    cards = [json.loads((rung.path / "card.json").read_text()) for rung in begun.cell.rungs]
    assert [card["step"] for card in cards] == list(STEPS.values())


def test_a_rung_keeps_no_checkpoint_and_the_next_one_takes_it(begun: Begun) -> None:
    sft, first, second = begun.cell.sft, *begun.cell.rungs[:2]
    make_artifact(first, begun.runtime)
    assert [*first.record()["files"]] == ["card.json"]
    assert sft.is_paused()
    assert resumable_checkpoint(sft.scratch)[1] == STEPS[0.2]
    make_artifact(second, begun.runtime)
    assert resumable_checkpoint(sft.scratch)[1] == STEPS[0.5]


@pytest.mark.parametrize("num_rungs", [1, 2])
def test_what_is_lost_between_is_trained_again(
    begun: Begun, whole: Artifact, num_rungs: int
) -> None:
    """As on another machine, which has the rung from the artifact store and nothing else."""
    sft, rungs = begun.cell.sft, begun.cell.rungs[:num_rungs]
    for rung in rungs:
        make_artifact(rung, begun.runtime)
    drop(sft)
    assert not sft.scratch.exists()
    assert steps_of(sft, begun.runtime) == [1, 2, 3, 4, 5, 6]
    assert_same(sft, whole)


def test_killed_when_it_had_come_to_the_rung_it_hands_over_what_there_is(
    begun: Begun, whole: Artifact
) -> None:
    sft, rung = begun.cell.sft, begun.cell.rungs[0]
    with sft.lock():  # where it would wait, it is killed
        rung.scratch.mkdir(parents=True)
        sft.scratch.parent.mkdir(parents=True, exist_ok=True)
    _train_only(rung, begun.runtime)
    assert steps_of(rung, begun.runtime) == []
    assert steps_of(sft, begun.runtime) == [3, 4, 5, 6]
    assert_same(sft, whole)


def test_killed_between_history_and_checkpoint_it_moves_what_is_left(
    begun: Begun, whole: Artifact
) -> None:
    sft, (first, second, _) = begun.cell.sft, begun.cell.rungs
    for folder in (first.scratch, second.scratch, sft.scratch):
        folder.mkdir(parents=True)
    _train_only(first, begun.runtime)
    (sft.scratch / "paused").touch()
    (first.scratch / "history.jsonl").rename(sft.scratch / "history.jsonl")
    assert steps_of(first, begun.runtime) == []
    (sft.scratch / "history.jsonl").rename(second.scratch / "history.jsonl")
    assert steps_of(second, begun.runtime) == [3]
    assert steps_of(sft, begun.runtime) == [4, 5, 6]
    assert_same(sft, whole)


def test_one_close_to_the_end_leaves_a_step_to_go(
    study_file: Path, tmp_path: Path, whole: Artifact
) -> None:
    begun = begun_in(study_file, tmp_path, SEARCH.replace("0.2, 0.5, 0.7", "0.99"))
    assert [steps_of(a, begun.runtime) for a in begun.cell.trainings] == [[1, 2, 3, 4, 5], [6]]
    assert_same(begun.cell.sft, whole)


def test_without_a_row_that_is_held_out_nothing_is_trained(
    study_file: Path, tmp_path: Path
) -> None:
    begun = begun_in(study_file, tmp_path, SEARCH, "instructions.held_out_fraction=1e-9")
    with pytest.raises(ConfigError, match="no row is held out"):
        make_artifact(begun.cell.rungs[0], begun.runtime)
    assert not begun.cell.rungs[0].scratch.exists()


def _train_only(rung: Artifact, runtime: Runtime) -> None:
    from wit.training.sft import train_sft

    recipe: Any = rung.recipe
    folders = (rung.parents["base"].path, rung.parents["instructions"].path)
    instructions = rung.parents["instructions"]
    assert isinstance(instructions, Artifact)
    tokenizer = instructions.parents["tokenizer"].path
    train_sft(recipe, *folders, tokenizer, rung.scratch, runtime, lambda *_: None)


def test_a_training_that_is_further_is_not_set_back(begun: Begun, whole: Artifact) -> None:
    """Another study had begun to train all of it, and was killed."""
    sft, (first, second, _) = begun.cell.sft, begun.cell.rungs
    for rung in (first, second):
        make_artifact(rung, begun.runtime)
    (sft.scratch / "paused").unlink()
    other = begun.plan.candidates[1].rungs[2]
    assert steps_of(other, begun.runtime) == [1, 2, 3, 4, 5], "it takes nothing from that one"
    assert not sft.is_paused()
    drop(sft)
    assert sft.is_resumable(), "it is not the search's to delete"
    assert steps_of(sft, begun.runtime) == [6], "and what is further is worth having"
    assert_same(sft, whole)


def test_while_another_study_trains_it_nobody_waits_for_it(begun: Begun) -> None:
    sft, (first, second, _) = begun.cell.sft, begun.cell.rungs
    make_artifact(first, begun.runtime)
    with sft.lock():
        drop(sft)
        assert sft.is_paused()
        assert steps_of(second, begun.runtime) == [1, 2, 3], "it could not take what there is"
    assert resumable_checkpoint(sft.scratch)[1] == STEPS[0.2], "nor leave what it has"


def test_once_all_of_it_is_trained_a_rung_leaves_it_alone(begun: Begun) -> None:
    sft, rung = begun.cell.sft, begun.cell.rungs[0]
    make_artifact(sft, begun.runtime)
    before = sft.record()
    assert steps_of(rung, begun.runtime) == [1, 2]
    assert sft.record() == before
    assert not sft.scratch.exists()


def test_on_two_ranks_too(study_file: Path, tmp_path: Path, whole: Artifact) -> None:
    begun = begun_in(study_file, tmp_path, num_processes=2)
    rung, sft = begun.cell.rungs[0], begun.cell.sft
    assert steps_of(rung, begun.runtime) == [1, 2]
    assert sft.is_paused()
    assert steps_of(sft, begun.runtime) == [3, 4, 5, 6]
    assert nll_by_step(sft) == pytest.approx(nll_by_step(whole), rel=1e-4)
