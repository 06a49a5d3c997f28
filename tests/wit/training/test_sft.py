import json
import math
import os
import shutil
import signal
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from forked import Forking

from wit.artifacts import COMPLETE
from wit.config import Runtime
from wit.errors import TrainingError
from wit.likelihood import held_out_nll
from wit.models import load_model
from wit.recipes import SFTRecipe
from wit.training import arguments, callbacks
from wit.training.arguments import largest_divisor
from wit.training.checkpoints import mark_complete, resumable_checkpoint
from wit.training.sft import train_sft
from wit.weights import TokenWeights

ROWS = 20  # not a multiple of a step's 8: the last accumulation window of an epoch is short


def recipe(prompt: float = 0.2, response: float = 1.0, **knobs: object) -> SFTRecipe:
    defaults = {"learning_rate": 1e-2, "num_epochs": 2, "examples_per_step": 8, "seed": 0}
    weights = TokenWeights(prompt=prompt, response=response)
    return SFTRecipe(weights=weights, **{**defaults, **knobs})


def run(folder: Path, parts: tuple[Path, Path, Path], recipe: SFTRecipe, **runtime: object):
    """Figures by step, and the final weights."""
    figures: dict[int, dict[str, float]] = {}

    def log(logged: dict[str, float], step: int) -> None:
        figures.setdefault(step, {}).update(logged)

    base, instructions, tokenizer = parts
    folder.mkdir(parents=True, exist_ok=True)
    train_sft(recipe, base, instructions, tokenizer, folder, Runtime(device="cpu", **runtime), log)
    return figures, load_model(folder / "model").state_dict()


@pytest.fixture(scope="module")
def parts(base: Path, instructions: Path, tokenizer_folder: Path) -> tuple[Path, Path, Path]:
    return base, instructions, tokenizer_folder


@pytest.mark.parametrize("adapter", [None, {"rank": 4}], ids=str)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_measured_likelihoods_are_those_of_the_model_in_float32(
    precision: str, adapter: dict[str, int] | None, parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base, instructions, _ = parts
    figures, _ = run(tmp_path, parts, recipe(num_epochs=1, precision=precision, adapter=adapter))
    for step, folder in {min(figures): base, max(figures): tmp_path / "model"}.items():
        for role, expected in held_out_nll(load_model(folder), instructions, batch_size=5).items():
            assert figures[step][f"nll_{role}"] == pytest.approx(expected.nll, rel=1e-6)


def test_likelihoods_are_measured_before_during_and_after(
    parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    figures, _ = run(tmp_path, parts, recipe(num_epochs=3))
    measured = [step for step, logged in figures.items() if "nll_prompt" in logged]
    assert len(measured) == 4
    assert measured[0] == 0
    first, last = figures[measured[0]], figures[measured[-1]]
    assert last["nll_response"] < first["nll_response"]
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert sorted({line["step"] for line in lines}) == sorted(figures)


def test_a_diverging_training_stops_and_leaves_no_model(
    parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"not finite|diverged"):
        run(tmp_path, parts, recipe(learning_rate=1e30, num_epochs=4))
    assert not (tmp_path / "model").exists()


def test_a_base_with_nan_is_refused(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model = load_model(parts[0])
    with torch.no_grad():
        model.lm_head.weight[0, 0] = math.nan
    model.save_pretrained(tmp_path / "bad")
    with pytest.raises(TrainingError, match=r"lm_head\.weight"):
        run(tmp_path / "out", (tmp_path / "bad", *parts[1:]), recipe())


def _train_in_child(folder: Path, parts: tuple[Path, Path, Path], recipe: SFTRecipe) -> None:
    torch.set_num_threads(1)
    run(folder, parts, recipe, checkpoint_seconds=0.05)


def test_killed_and_resumed_ends_like_undisturbed(
    parts: tuple[Path, Path, Path], tmp_path: Path, forking: Forking
) -> None:
    long = recipe(num_epochs=12)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        undisturbed, weights = run(tmp_path / "whole", parts, long)
        killed = tmp_path / "killed"
        child = forking.Process(target=_train_in_child, args=(killed, parts, long))
        child.start()
        deadline = time.monotonic() + 120
        while not any(killed.glob("checkpoints/checkpoint-*/complete")):
            assert time.monotonic() < deadline
            assert child.is_alive(), "the training was over before it could be killed"
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert not (killed / "model").exists()
        resumed, resumed_weights = run(killed, parts, long)
    finally:
        torch.set_num_threads(threads)
    assert min(resumed) > 0, "it began anew instead of resuming"
    last = max(undisturbed)
    assert resumed[last]["nll_response"] == pytest.approx(undisturbed[last]["nll_response"])
    for name, weight in weights.items():
        assert torch.equal(weight, resumed_weights[name]), name
    lines = [json.loads(line) for line in (killed / "history.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, last + 1)), "history has a gap or a repetition"


def test_of_a_checkpoint_that_is_being_deleted_nothing_is_trusted(tmp_path: Path) -> None:
    """Killed within ``rmtree``, which takes files in any order: the mark must go first."""
    folders = [tmp_path / "checkpoints" / f"checkpoint-{step}" for step in (4, 8)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "optimizer.pt").touch()
    old, new = folders
    (old / COMPLETE).touch()
    seen: list[tuple[bool, bool]] = []
    delete = shutil.rmtree

    def watched(folder: Path) -> None:
        seen.append(((old / COMPLETE).exists(), (new / COMPLETE).exists()))
        delete(folder)

    arguments = SimpleNamespace(output_dir=str(tmp_path / "checkpoints"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", watched)
        state = SimpleNamespace(global_step=8)
        callbacks.TimedCheckpoints(1).on_save(arguments, state, SimpleNamespace())
    assert seen == [(False, True)], "first the new one is marked, then the old one unmarked"
    assert resumable_checkpoint(tmp_path) == (str(new), 8)


@pytest.mark.parametrize("damage", ["cut", "gone", "more", "mark cut", "mark empty"])
def test_a_checkpoint_that_a_loss_of_power_has_damaged_is_not_resumed(
    damage: str, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoints" / "checkpoint-3"
    (checkpoint / "shards").mkdir(parents=True)
    parts = [checkpoint / "optimizer.pt", checkpoint / "shards" / "__0_0.distcp"]
    for part in parts:
        part.write_bytes(bytes(100))
    mark_complete(checkpoint)
    assert resumable_checkpoint(tmp_path) == (str(checkpoint), 3)
    mark = checkpoint / COMPLETE
    match damage:
        case "cut":
            parts[1].write_bytes(bytes(99))
        case "gone":
            parts[0].unlink()
        case "more":
            (checkpoint / "shards" / "new").touch()
        case _:
            mark.write_text(mark.read_text()[:20] if damage == "mark cut" else "")
    assert resumable_checkpoint(tmp_path) == (None, 0)
    assert not checkpoint.exists()


class Killed(Exception):
    pass


def test_a_training_killed_between_an_epoch_and_its_measurement_measures_on_resuming(
    parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    figures, _ = run(tmp_path / "whole", parts, recipe())
    epoch = max(figures) // 2

    def die(self, args, state, control, **kwargs):
        if state.global_step == epoch:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "MAX_SAVING_SHARE", 1e9)  # a checkpoint at every step
        patch.setattr(callbacks.AfterEpoch, "on_epoch_end", die)
        with pytest.raises(Killed):
            run(tmp_path / "killed", parts, recipe(), checkpoint_seconds=1e-9)
    assert resumable_checkpoint(tmp_path / "killed")[1] == epoch
    run(tmp_path / "killed", parts, recipe(), checkpoint_seconds=1e-9)

    def measured(folder: Path) -> list[int]:
        lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
        return [line["step"] for line in lines if "nll_prompt" in line]

    assert measured(tmp_path / "killed") == measured(tmp_path / "whole") == [0, epoch, 2 * epoch]


@pytest.mark.parametrize(
    ("device", "precision", "is_fused"),
    [
        ("cuda", "float32", True),
        ("cuda", "bfloat16", True),
        ("cuda", "float16", False),  # the schedule would go on where the loss scaler skips a step
        ("cpu", "float32", False),
    ],
)
def test_adamw_is_one_kernel_where_that_changes_no_step(
    device: str, precision: str, is_fused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "choose_device", lambda _: torch.device(device))
    chosen = recipe(precision=precision)
    found = arguments.training_arguments(chosen, 0, Runtime(), tmp_path, ROWS)
    assert ("fused" in found["optim"]) == is_fused


def test_largest_divisor_never_exceeds_the_limit() -> None:
    for total in range(1, 40):
        found = [largest_divisor(total, limit) for limit in range(1, 50)]
        assert all(total % d == 0 for d in found)
        assert all(d <= limit for limit, d in enumerate(found, start=1))
        assert all(a <= b for a, b in pairwise(found))
        assert found[-1] == total
