import json
import math
import multiprocessing
import os
import shutil
import signal
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, PrinterCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from wit.artifacts import COMPLETE
from wit.config import Runtime, SFTRecipe
from wit.data.collate import RoleCollator
from wit.data.prepare import TRAIN, read_split
from wit.errors import TrainingError
from wit.models import load_model
from wit.roles import Role
from wit.tokenizers import load_tokenizer
from wit.training import callbacks
from wit.training.arguments import largest_divisor, training_arguments
from wit.training.callbacks import resumable_checkpoint
from wit.training.sft import WeightedSFTTrainer, train_sft
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


def losses_of(trainer: SFTTrainer) -> list[float]:
    seen: list[float] = []

    class Collect(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in logs:
                seen.append(float(logs["loss"]))

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Collect())
    trainer.train()
    return seen


def weighted_trainer(
    parts: tuple[Path, Path, Path], folder: Path, recipe: SFTRecipe
) -> WeightedSFTTrainer:
    base, instructions, tokenizer_folder = parts
    tokenizer = load_tokenizer(tokenizer_folder)
    rows = read_split(instructions, TRAIN).select(range(ROWS))
    arguments = training_arguments(recipe, 0, Runtime(device="cpu"), folder, len(rows))
    return WeightedSFTTrainer(
        model=load_model(base),
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=rows,
        data_collator=RoleCollator(recipe.weights, tokenizer.pad_token_id),
        processing_class=tokenizer,
    )


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 1.0)])
def test_usual_weights_equal_trl_step_for_step(
    weights: tuple[float, float], parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    chosen = recipe(*weights)
    ours = losses_of(weighted_trainer(parts, tmp_path / "ours", chosen))

    rows = read_split(parts[1], TRAIN).select(range(ROWS)).to_list()
    trained = {Role.RESPONSE, Role.STOP} if weights[0] == 0 else set(Role) - {Role.SPECIAL}
    labels = [
        [
            token if role in trained else -100
            for token, role in zip(row["input_ids"], row["roles"], strict=True)
        ]
        for row in rows
    ]
    ids = [row["input_ids"] for row in rows]
    arguments = training_arguments(chosen, 0, Runtime(device="cpu"), tmp_path / "trl", ROWS)
    theirs = losses_of(
        SFTTrainer(
            model=load_model(parts[0]),
            args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}),
            train_dataset=Dataset.from_dict({"input_ids": ids, "labels": labels}),
            processing_class=load_tokenizer(parts[2]),
        )
    )
    assert len(ours) == len(theirs) == 6
    assert ours == pytest.approx(theirs, rel=2e-5)


def test_splitting_a_step_changes_nothing(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    runs = {
        size: run(tmp_path / str(size), parts, recipe(), micro_batch_size=size)
        for size in (8, 4, 1)
    }
    whole, weights = runs[8]
    for size in (4, 1):
        figures, other = runs[size]
        for step in range(1, max(whole) + 1):
            for name in ("loss", "grad_norm"):
                assert figures[step][name] == pytest.approx(whole[step][name], rel=1e-3), step
        for name, weight in weights.items():
            assert torch.allclose(weight, other[name], atol=2e-3), name


def test_half_the_weights_are_half_the_loss(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    full, _ = run(tmp_path / "full", parts, recipe(1, 1, num_epochs=1))
    half, _ = run(tmp_path / "half", parts, recipe(0.5, 0.5, num_epochs=1))
    assert half[1]["loss"] == pytest.approx(full[1]["loss"] / 2, rel=1e-6)
    assert half[1]["grad_norm"] == pytest.approx(full[1]["grad_norm"] / 2, rel=1e-5)


def test_equal_ratios_are_one_objective_without_clipping_only(
    parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    def update(name: str, **knobs: object) -> torch.Tensor:
        before = load_model(parts[0]).state_dict()
        _, after = run(tmp_path / name, parts, recipe(num_epochs=4, **knobs))
        return torch.cat([(after[key] - before[key]).flatten() for key in before])

    def distance(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).norm() / a.norm())

    calm = {"learning_rate": 1e-3, "weight_decay": 0.0}
    one, scaled = update("1", response=1, **calm), update("2", prompt=0.1, response=0.5, **calm)
    other = update("3", prompt=1, response=1, **calm)
    assert distance(one, scaled) < 0.02
    assert distance(one, other) > 0.1


def test_roles_that_are_lost_stop_the_training(
    parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    trainer = weighted_trainer(parts, tmp_path, recipe())
    trainer.train_dataset = trainer.train_dataset.remove_columns("roles")
    with pytest.raises(KeyError, match="roles"):
        trainer.train()


def test_a_micro_batch_without_targets_is_a_finite_zero_in_the_graph(
    parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    trainer = weighted_trainer(parts, tmp_path, recipe(0, 1))
    batch = trainer.data_collator([{"input_ids": [5, 6, 7], "roles": [Role.PROMPT] * 3}])
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(10))
    loss.backward()
    assert loss.item() == 0
    gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


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
    parts: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    long = recipe(num_epochs=12)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        undisturbed, weights = run(tmp_path / "whole", parts, long)
        killed = tmp_path / "killed"
        spawn = multiprocessing.get_context("spawn")
        child = spawn.Process(target=_train_in_child, args=(killed, parts, long))
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


def test_a_model_that_takes_no_count_is_normalised_by_it_all_the_same(
    parts: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of some models Trainer knows that, and would hand no count to the loss."""
    monkeypatch.setattr(LlamaForCausalLM, "accepts_loss_kwargs", False, raising=False)
    first = [
        run(tmp_path / str(size), parts, recipe(num_epochs=1), micro_batch_size=size)[0][1]["loss"]
        for size in (8, 2, 1)
    ]
    assert first == pytest.approx([first[0]] * 3, rel=1e-4)


def test_largest_divisor_never_exceeds_the_limit() -> None:
    for total in range(1, 40):
        found = [largest_divisor(total, limit) for limit in range(1, 50)]
        assert all(total % d == 0 for d in found)
        assert all(d <= limit for limit, d in enumerate(found, start=1))
        assert all(a <= b for a, b in pairwise(found))
        assert found[-1] == total
