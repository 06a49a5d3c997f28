"""A sharded training that is killed goes on from its checkpoint, on as many ranks as there are."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from wit.artifacts import COMPLETE
from wit.config import Runtime
from wit.errors import WitError, WorkerDiedError
from wit.models import load_model
from wit.recipes import LoRAKnobs, SFTRecipe
from wit.training.ranks import train_sft_on_ranks
from wit.training.sft import train_sft
from wit.weights import TokenWeights

RECIPE = SFTRecipe(
    weights=TokenWeights(prompt=0.2, response=1),
    seed=0,
    learning_rate=1e-3,
    num_epochs=8,
    examples_per_step=8,
)
SHARDED = {"device": "cpu", "sharding": "fsdp", "checkpoint_seconds": 0.05}


def losses_of(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def kill_a_rank_after_a_checkpoint(folder: Path, attempt: threading.Thread) -> None:
    while not any(folder.glob(f"checkpoints/checkpoint-*/{COMPLETE}")):
        assert attempt.is_alive(), "the training was over before it could be killed"
        time.sleep(0.01)
    launcher, *_ = (p for p in psutil.Process().children() if str(folder) in str(p.cmdline()))
    os.kill(launcher.children()[-1].pid, signal.SIGKILL)


@pytest.fixture
def parts(base: Path, instructions: Path, tokenizer_folder: Path) -> tuple[Path, Path, Path]:
    return base, instructions, tokenizer_folder


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def same_training(one: Path, other: Path) -> None:
    assert losses_of(one) == pytest.approx(losses_of(other), rel=2e-4)
    weights = load_model(one / "model").state_dict()
    for name, weight in load_model(other / "model").state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-3, atol=1e-5)


def test_a_killed_sharded_training_goes_on_with_other_ranks_as_if_nothing_had_been(
    parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    whole, sharded = folder(tmp_path / "whole"), folder(tmp_path / "sharded")
    train_sft(RECIPE, *parts, whole, Runtime(device="cpu"), lambda *_: None)
    raised: list[WitError] = []

    def train() -> None:
        runtime = Runtime(**SHARDED, num_processes=2)
        try:
            train_sft_on_ranks(RECIPE, *parts, sharded, runtime, lambda *_: None)
        except WitError as error:
            raised.append(error)

    attempt = threading.Thread(target=train)
    attempt.start()
    kill_a_rank_after_a_checkpoint(sharded, attempt)
    attempt.join()
    assert [type(error) for error in raised] == [WorkerDiedError]

    resumed: list[int] = []
    runtime = Runtime(**SHARDED, num_processes=3)
    train_sft_on_ranks(RECIPE, *parts, sharded, runtime, lambda _, step: resumed.append(step))
    assert min(resumed) > 0, "it began anew instead of resuming"
    same_training(sharded, whole)


def test_adapters_on_a_sharded_base_train_as_on_a_whole_one(
    parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(
        update={"num_epochs": 1, "learning_rate": 1e-2, "lora": LoRAKnobs(rank=4)}
    )
    whole, sharded = folder(tmp_path / "whole"), folder(tmp_path / "sharded")
    train_sft(recipe, *parts, whole, Runtime(device="cpu"), lambda *_: None)
    train_sft_on_ranks(
        recipe, *parts, sharded, Runtime(**SHARDED, num_processes=2), lambda *_: None
    )
    same_training(whole, sharded)
