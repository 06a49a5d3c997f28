"""Where a rank of a training is killed, others go on from its checkpoint, be they more or fewer."""

import json
from pathlib import Path

import pytest
from forked import Forking
from forked_ranks import ranks_are_forked
from found_processes import kill_a_rank, raised_after, ranks_in
from trainers import assert_same_training

from wit.config import Runtime
from wit.errors import WorkerDiedError
from wit.loading import load_study
from wit.plan import make_plan
from wit.stages import make_artifact
from wit.training.callbacks import HISTORY

NUM_STEPS = 8 * 2


@pytest.fixture
def study_file(tmp_path: Path, base: Path) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"name: x\nbase: {{path: {base}}}\npreferences: {{path: builtin, max_rows: 8}}\n"
        "instructions: {path: builtin, max_rows: 16}\nweights: [instruction-tuning]\n"
        "sft: {num_epochs: 8, examples_per_step: 8, learning_rate: 1.0e-3}\n"
        "benchmarks: [{name: wit_cloze, role: select}]\n"
    )
    return file


def test_a_rank_that_is_killed_ends_all_and_others_go_on_as_if_nothing_had_been(
    study_file: Path, tmp_path: Path, forking: Forking
) -> None:
    whole, killed = (
        Runtime(artifact_root=tmp_path / root, device="cpu") for root in ("whole", "killed")
    )
    trained = []
    for runtime in (whole, killed):
        plan = make_plan(load_study(study_file), runtime)
        for artifact in (plan.tokenizer, plan.instructions):
            make_artifact(artifact, runtime)
        trained.append(plan.cells[0].sft)
    undisturbed, sft = trained
    make_artifact(undisturbed, whole)
    sharded = {"num_processes": 2, "sharding": "fsdp", "checkpoint_seconds": 0.05}
    two = killed.model_copy(update=sharded)
    error = raised_after(kill_a_rank, sft.scratch, lambda: make_artifact(sft, two))
    assert type(error) is WorkerDiedError, error
    assert ranks_in(sft.scratch) == []
    assert not sft.exists()
    assert sft.is_resumable()
    history = sft.scratch / HISTORY
    first, *others = history.read_text().splitlines(keepends=True)
    history.write_text("".join([first.replace("{", '{"attempt": 1, ', 1), *others]))
    with ranks_are_forked(forking):
        assert make_artifact(sft, two.model_copy(update={"num_processes": 3})) == "made"
    lines = list(map(json.loads, (sft.path / HISTORY).read_text().splitlines()))
    assert "attempt" in lines[0], "it began anew instead of resuming"
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, NUM_STEPS + 1)), "history has a gap or a repetition"
    assert_same_training(sft.path, undisturbed.path, rel=2e-4)
