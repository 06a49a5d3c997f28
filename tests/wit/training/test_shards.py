"""What trainings on ranks leave: what one process would have left, also if they are interrupted."""

import json
from pathlib import Path

import pytest
import torch
from all_on_ranks import train_all
from forked import Forking, run_on_ranks
from interrupted_ranks import RECIPES, UNSHARDED, folder
from trainers import Parts, assert_same_training, losses_of, tied
from trajectories import ON_RANKS, assert_as_recorded, prepared

from wit.config import Runtime
from wit.models import load_model
from wit.training.callbacks import HISTORY
from wit.training.sft import train_sft
from wit.training.shards import SHARDS, load_shards, save_shards


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # for one process has no need
def test_a_rank_that_cannot_write_or_read_says_so_as_others_do(tmp_path: Path) -> None:
    """Else it would not be known for an error: torch raises what is no ``Exception``."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    parts = model, optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)
    full, missing = tmp_path / "full", tmp_path / "missing"
    folder(full / SHARDS).joinpath("__0_0.distcp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        save_shards(full, *parts)
    with pytest.raises(AssertionError, match="No such file"):
        load_shards(missing, *parts)


@pytest.fixture(scope="module")
def made(parts: Parts, tmp_path_factory: pytest.TempPathFactory, forking: Forking) -> Path:
    """What two ranks left."""
    out = tmp_path_factory.mktemp("out")
    of_trajectory = prepared(tmp_path_factory.mktemp("data"))
    run_on_ranks(forking, train_all, parts, out, of_trajectory)
    return out


@pytest.mark.parametrize("name", ON_RANKS)
def test_every_class_on_ranks_follows_the_recorded_trajectory(name: str, made: Path) -> None:
    assert_as_recorded(json.loads((made / f"{name}.json").read_text(encoding="utf-8")))
    load_model(made / name / "model")


@pytest.mark.parametrize("name", RECIPES)
def test_every_kind_of_training_on_ranks_resumes_as_if_nothing_had_been(
    name: str, made: Path
) -> None:
    assert_same_training(made / name / "resumed", made / name / "whole", rel=1e-6)


def test_one_goes_on_where_two_that_were_not_sharded_were_interrupted(
    made: Path, parts: Parts
) -> None:
    steps: list[int] = []
    out, whole = made / "for one", made / UNSHARDED / "whole"
    train_sft(
        RECIPES[UNSHARDED], *parts, out, Runtime(device="cpu"), lambda _, step: steps.append(step)
    )
    assert min(steps) > 0, "it began anew instead of resuming"
    assert losses_of(out).keys() == losses_of(whole).keys()
    assert_same_training(out, whole, rel=2e-4)


def test_what_float16_skips_comes_before_and_after_the_interruption(made: Path) -> None:
    for how in ("whole", "resumed"):
        lines = (made / "float16" / how / HISTORY).read_text().splitlines()
        skipped = {line["step"] for line in map(json.loads, lines) if "skipped_steps" in line}
        assert {1, 2} <= skipped < set(losses_of(made / "float16" / how))


@pytest.mark.parametrize("name", ["adapters", "mora", "tied embeddings"])
def test_a_sharded_model_of_any_kind_trains_as_a_whole_one(
    name: str, made: Path, parts: Parts, tmp_path: Path
) -> None:
    base, *others = parts
    if name == "tied embeddings":
        base = tied(base, tmp_path / "base")
    whole = folder(tmp_path / "whole")
    train_sft(RECIPES[name], base, *others, whole, Runtime(device="cpu"), lambda *_: None)
    assert_same_training(made / name / "whole", whole, rel=2e-4)
