"""Cells whose SFT is trained at once: each artifact is the one that it would be by itself."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from forked import Forking
from safetensors.torch import load_file
from tiny import write_tiny_study

from wit.artifacts import CHECKPOINTS, COMPLETE, TOGETHER, Artifact, read_record
from wit.config import Runtime
from wit.lineage import open_store, tracking_uri
from wit.lineage.reader import RunRow, find_runs, tag
from wit.loading import load_study
from wit.memory import keep_halvings
from wit.plan import Plan, make_plan
from wit.stages import make_artifact
from wit.together import groups_of, make_together
from wit.training import callbacks


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two weights by two seeds."""
    return write_tiny_study(
        tmp_path_factory.mktemp("study"),
        "tiny",
        weights=[{"prompt": 0, "response": 1}, {"prompt": 0.5, "response": 1}],
        seeds=[0, 1],
        sft={"num_epochs": 4, "adapter": {"rank": 4, "tokens": "none"}},
    )


def prepared(study_file: Path, root: Path, *overrides: str) -> tuple[Plan, Runtime]:
    """All that trainings read is there."""
    runtime = Runtime(artifact_root=root, device="cpu", threads_per_worker=1, cells_at_once=4)
    plan = make_plan(load_study(study_file, overrides), runtime)
    for artifact in (plan.tokenizer, plan.instructions):
        make_artifact(artifact, runtime)
    return plan, runtime


def group_of(plan: Plan, runtime: Runtime) -> list[Artifact]:
    [group] = groups_of(plan, runtime)
    return [cell.sft for cell in group]


def run_of(sft: Artifact, runtime: Runtime) -> RunRow:
    [run] = find_runs(tracking_uri(runtime), tag("wit.fingerprint", sft.fingerprint))
    return run


def losses_of(sft: Artifact, runtime: Runtime) -> list[float]:
    client = open_store(tracking_uri(runtime)).client
    run_id = run_of(sft, runtime).run_id
    assert run_id is not None
    return [point.value for point in client.get_metric_history(run_id, "loss")]


def assert_same(found: Artifact, expected: Artifact, atol: float = 1e-4) -> None:
    """Two artifacts, of two roots."""
    assert found.verified().fingerprint == expected.verified().fingerprint
    assert read_record(found.path)["files"].keys() == read_record(expected.path)["files"].keys()
    for file in ("adapter/adapter_model.safetensors", "model/model.safetensors"):
        pair = [load_file(artifact.path / file) for artifact in (found, expected)]
        assert pair[0].keys() == pair[1].keys()
        for name, weight in pair[0].items():
            torch.testing.assert_close(weight, pair[1][name], rtol=0, atol=2 * atol)
    steps = [[line["step"] for line in history_of(artifact)] for artifact in (found, expected)]
    assert steps[0] == steps[1]


def history_of(sft: Artifact) -> list[dict[str, float]]:
    return [json.loads(line) for line in (sft.path / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(
    study_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Artifact], Runtime]:
    """Each of the four trained by itself, in a root of its own."""
    plan, runtime = prepared(study_file, tmp_path_factory.mktemp("alone"))
    sfts = [cell.sft for cell in plan.cells]
    for sft in sfts:
        make_artifact(sft, runtime)
    return sfts, runtime


def test_cells_made_together_are_those_that_are_made_alone(
    study_file: Path, alone: tuple[list[Artifact], Runtime], tmp_path: Path
) -> None:
    plan, runtime = prepared(study_file, tmp_path)
    group = group_of(plan, runtime)
    names = [sft.fingerprint for sft in group]
    assert make_together(group, runtime) == names
    for sft, expected in zip(group, alone[0], strict=True):
        assert_same(sft, expected)
        assert run_of(sft, runtime).status == "FINISHED"
        assert losses_of(sft, runtime) == pytest.approx(losses_of(expected, alone[1]), rel=2e-4)
        assert sft.record()["made"]["how"] == {"trained_together": names}
        assert make_artifact(sft, runtime) == "reused"
    assert not list(tmp_path.rglob("*.partial"))
    assert groups_of(plan, runtime) == []


def test_what_is_there_or_begun_or_being_made_is_left_out(study_file: Path, tmp_path: Path) -> None:
    plan, runtime = prepared(study_file, tmp_path)
    made, *others = group = group_of(plan, runtime)
    make_artifact(made, runtime)
    record = (made.path / "record.json").read_bytes()
    assert group_of(plan, runtime) == others
    names = [sft.fingerprint for sft in others[1:]]
    with others[0].lock():
        assert make_together(group, runtime) == names
    assert others[1].record()["made"]["how"] == {"trained_together": names}
    assert (made.path / "record.json").read_bytes() == record
    assert not others[0].scratch.exists()


@pytest.mark.parametrize("how", ["checkpoint", "memory"])
def test_who_has_begun_by_itself_goes_on_by_itself(
    study_file: Path, tmp_path: Path, how: str
) -> None:
    plan, runtime = prepared(study_file, tmp_path, "seeds=[0]")
    group = group_of(plan, runtime)
    if how == "checkpoint":
        mark = group[0].scratch / CHECKPOINTS / "checkpoint-1" / COMPLETE
        mark.parent.mkdir(parents=True)
        mark.touch()
    else:
        keep_halvings(group[0], 1)
    assert groups_of(plan, runtime) == []
    assert make_together(group, runtime) == [], "one alone is no group"
    assert not any(sft.exists() for sft in group)


def test_a_cell_that_diverges_is_left_to_itself(study_file: Path, tmp_path: Path) -> None:
    plan, runtime = prepared(study_file, tmp_path, "seeds=[0]")
    good, bad = group_of(plan, runtime)
    recipe = bad.recipe.model_copy()
    weights = recipe.weights.model_copy(update={"prompt": 3e38, "response": 3e38})  # no study has
    bad = bad.model_copy(update={"recipe": recipe.model_copy(update={"weights": weights})})
    assert make_together([bad, good], runtime) == [good.fingerprint]
    assert good.verified().exists()
    assert not bad.exists()
    assert not bad.scratch.exists()
    run = run_of(bad, runtime)
    assert (run.status, "diverged" in run.tags["wit.error"]) == ("FAILED", True)


def test_a_group_that_fails_leaves_nothing(study_file: Path, tmp_path: Path) -> None:
    plan, runtime = prepared(study_file, tmp_path, "seeds=[0]")
    group = group_of(plan, runtime)
    with pytest.raises(Exception, match="num_processes"):  # which a study is told before
        make_together(group, runtime.model_copy(update={"num_processes": 2}))
    for sft in group:
        assert not sft.exists()
        assert not sft.scratch.exists()
        assert run_of(sft, runtime).status == "FAILED"
        assert make_artifact(sft, runtime) == "made", "its lock was not released"
        assert run_of(sft, runtime).status == "FINISHED"


def kill_half_way(group: list[Artifact], runtime: Runtime, forking: Forking) -> None:
    often = runtime.model_copy(update={"checkpoint_seconds": 0.01})
    process = forking.Process(target=make_together, args=(group, often))
    process.start()
    while not list(group[0].scratch.glob(f"{TOGETHER}/*/{CHECKPOINTS}/*/{COMPLETE}")):
        assert process.is_alive(), "it was over before it had a checkpoint"
    process.kill()
    process.join()
    assert not any(sft.exists() for sft in group)


@pytest.fixture
def first_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """After how many steps each training that follows began."""
    found: list[int] = []
    was = callbacks.History.forget_after
    histories = "wit.training.side_by_side.histories.Histories.forget_after"

    def spy(self: callbacks.History, step: int) -> None:
        found.append(step)
        for history in getattr(self, "of_cells", [self]):
            was(history, step)

    monkeypatch.setattr(histories, spy)
    return found


def begin_alone(sft: Artifact, runtime: Runtime) -> None:
    """Its history begins anew, and it is ended before it has a checkpoint."""

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.History, "on_log", fail)
        with pytest.raises(KeyboardInterrupt):
            make_artifact(sft, runtime)
    assert sft.scratch.exists()


@pytest.mark.parametrize("is_begun_alone", [False, True])
def test_a_killed_group_goes_on_unless_one_was_begun_alone(
    study_file: Path,
    alone: tuple[list[Artifact], Runtime],
    tmp_path: Path,
    forking: Forking,
    first_steps: list[int],
    is_begun_alone: bool,
) -> None:
    plan, runtime = prepared(study_file, tmp_path)
    group = group_of(plan, runtime)
    kill_half_way(group, runtime, forking)
    if is_begun_alone:
        begin_alone(group[1], runtime)
    assert group_of(plan, runtime) == group
    assert make_together(group, runtime) == [sft.fingerprint for sft in group]
    [step] = first_steps
    assert (step == 0) == is_begun_alone
    for sft, expected in zip(group, alone[0], strict=True):
        assert_same(sft, expected)
    assert not list(tmp_path.rglob("*.partial"))


def test_after_a_kill_each_can_be_trained_alone(
    study_file: Path, alone: tuple[list[Artifact], Runtime], tmp_path: Path, forking: Forking
) -> None:
    plan, runtime = prepared(study_file, tmp_path)
    group = group_of(plan, runtime)
    kill_half_way(group, runtime, forking)
    for sft, expected in zip(group[:2], alone[0], strict=False):
        assert make_artifact(sft, runtime) == "made"
        assert_same(sft, expected, atol=0)
        assert not sft.scratch.exists()


def test_groups_are_of_one_tuning_and_as_many_as_asked(study_file: Path, tmp_path: Path) -> None:
    tunings = "tunings={a: {}, b: {learning_rate: 1.0e-3}, c: {adapter: none}}"
    runtime = Runtime(artifact_root=tmp_path, cells_at_once=3)
    plan = make_plan(load_study(study_file, ["seeds=[0, 1]", tunings]), runtime)

    def shown(cells_at_once: int, plan: Plan = plan) -> list[list[str]]:
        groups = groups_of(plan, runtime.model_copy(update={"cells_at_once": cells_at_once}))
        return [[str(cell.cell) for cell in group] for group in groups]

    a, b = ([f"p{p}-r1-s{s}@{name}" for s in (0, 1) for p in ("0", "0.5")] for name in "ab")
    assert shown(1) == []
    assert shown(2) == [a[:2], a[2:], b[:2], b[2:]]
    assert shown(3) == [a[:3], b[:3]], "who is left over is trained alone"
    assert shown(9) == [a, b]
    cells = [cell for cell in plan.cells if str(cell.cell) != a[1]]
    assert shown(9, replace(plan, cells=tuple(cells))) == [[a[0], *a[2:]], b]
