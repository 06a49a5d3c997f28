"""A training on ranks that is killed goes on from its checkpoint, on as many as there are then."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from found_processes import kill_a_rank, raised_after, ranks_in
from interrupted_ranks import RECIPES
from trainers import Parts, losses_of, recipe, tied

from wit.config import Runtime
from wit.errors import WorkerDiedError
from wit.models import load_model
from wit.training.callbacks import HISTORY
from wit.training.ranks import train_sft_on_ranks
from wit.training.sft import train_sft
from wit.training.shards import SHARDS, load_shards, save_shards

FOLDER = Path(__file__).parent


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def assert_same_training(one: Path, other: Path, rel: float) -> None:
    assert losses_of(one) == pytest.approx(losses_of(other), rel=rel)
    weights = load_model(one / "model").state_dict()
    for name, weight in load_model(other / "model").state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=5 * rel, atol=rel / 20)


def test_a_rank_that_is_killed_ends_all_and_others_go_on_as_if_nothing_had_been(
    parts: Parts, tmp_path: Path
) -> None:
    whole, sharded = folder(tmp_path / "whole"), folder(tmp_path / "sharded")
    long = recipe(learning_rate=1e-3, num_epochs=8)
    train_sft(long, *parts, whole, Runtime(device="cpu"), lambda *_: None)
    resumed: list[int] = []

    def train(num_ranks: int) -> None:
        resumed.clear()
        runtime = Runtime(
            device="cpu", sharding="fsdp", num_processes=num_ranks, checkpoint_seconds=0.05
        )
        train_sft_on_ranks(long, *parts, sharded, runtime, lambda _, step: resumed.append(step))

    error = raised_after(kill_a_rank, sharded, lambda: train(2))
    assert type(error) is WorkerDiedError, error
    assert ranks_in(sharded) == []
    assert not (sharded / "model").exists()
    train(3)
    assert min(resumed) > 0, "it began anew instead of resuming"
    assert_same_training(sharded, whole, rel=2e-4)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # for one process has no need
def test_a_rank_that_cannot_write_or_read_says_so_as_others_do(tmp_path: Path) -> None:
    """Else it would not be known for an error: torch raises what is no ``Exception``."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    parts = model, optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)
    full, missing = folder(tmp_path / "full"), tmp_path / "missing"
    folder(full / SHARDS).joinpath("__0_0.distcp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        save_shards(full, *parts)
    with pytest.raises(AssertionError, match="No such file"):
        load_shards(missing, *parts)


@pytest.fixture(scope="module")
def interrupted(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings that were interrupted, and the same left alone."""
    out = tmp_path_factory.mktemp("out")
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ranks = subprocess.run(
        [sys.executable, "-m", *launcher, FOLDER / "interrupted_ranks.py", *parts, out],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ranks.returncode == 0, ranks.stderr
    return out


@pytest.mark.parametrize("name", RECIPES)
def test_every_kind_of_training_on_ranks_resumes_as_if_nothing_had_been(
    name: str, interrupted: Path
) -> None:
    assert_same_training(interrupted / name / "resumed", interrupted / name / "whole", rel=1e-6)


def test_what_float16_skips_comes_before_and_after_the_interruption(interrupted: Path) -> None:
    for how in ("whole", "resumed"):
        lines = (interrupted / "float16" / how / HISTORY).read_text().splitlines()
        skipped = {line["step"] for line in map(json.loads, lines) if "skipped_steps" in line}
        assert {1, 2} <= skipped < set(losses_of(interrupted / "float16" / how))


@pytest.mark.parametrize("name", ["adapters", "tied embeddings"])
def test_a_sharded_model_of_any_kind_trains_as_a_whole_one(
    name: str, interrupted: Path, parts: Parts, tmp_path: Path
) -> None:
    base, *others = parts
    if name == "tied embeddings":
        base = tied(base, tmp_path / "base")
    whole = folder(tmp_path / "whole")
    train_sft(RECIPES[name], base, *others, whole, Runtime(device="cpu"), lambda *_: None)
    assert_same_training(interrupted / name / "whole", whole, rel=2e-4)
