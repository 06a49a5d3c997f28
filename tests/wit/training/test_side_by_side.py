"""Laws of cells that are trained at once: each becomes what it would become by itself."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trainers import ROWS, Parts, recipe, weighted

from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.errors import ConfigError, TrainingError
from wit.models import load_model
from wit.recipes import RungRecipe, SFTRecipe
from wit.tokenizers import load_tokenizer
from wit.training import callbacks
from wit.training.adapters import with_saved_adapters
from wit.training.sft import train_sft, trainable
from wit.training.side_by_side import ToTrain, train_side_by_side
from wit.training.side_by_side.batches import cells_of_targets
from wit.training.side_by_side.stacked import parts_of, set_weights, weights_of
from wit.training.side_by_side.train import make_trainer
from wit.training.side_by_side.trainer import SideBySideTrainer

LORA = {"method": "lora", "rank": 4, "tokens": "none"}
ADAPTERS: list[dict[str, Any]] = [
    LORA,
    {
        "method": "lora",
        "rank": 4,
        "tokens": "none",
        "rslora": True,
        "init": "gaussian",
        "modules": ("q_proj",),
    },
    {"method": "mora", "rank": 4, "tokens": "none"},
    {"method": "mora", "rank": 6, "tokens": "none", "type": "sharing"},
]
# Padded and packed, a step in one micro-batch and in several; three cells share none of 7 evenly.
RUNTIMES: dict[str, dict[str, Any]] = {
    "padded": {"packing": False},
    "padded, split": {"packing": False, "micro_batch_size": 7},
    "packed": {"packing": True},
    "packed, split": {"packing": True, "packed_tokens": 150},
    "recomputed": {"packing": False, "gradient_checkpointing": True},
}


def cells(num_cells: int, **knobs: Any) -> list[SFTRecipe]:
    given = [(0.2, 1.0, 0), (1.0, 0.5, 3), (0.0, 1.0, 3)][:num_cells]
    settings = {"adapter": LORA, "learning_rate": 1e-3, "num_epochs": 1, **knobs}
    return [recipe(prompt, response, seed=seed, **settings) for prompt, response, seed in given]


def beside(
    parts: Parts, folder: Path, recipes: Sequence[SFTRecipe], **runtime: Any
) -> SideBySideTrainer:
    base, instructions, tokenizer = parts
    rows = read_split(instructions, TRAIN).select(range(ROWS))
    where = Runtime(device="cpu", **runtime)
    return make_trainer(recipes, base, rows, load_tokenizer(tokenizer), folder, where)


def first_step(trainer: Any) -> Any:
    """Gradients of the first optimizer step are there afterwards."""
    loader = trainer.get_train_dataloader()
    loader.set_epoch(0)
    (step,), totals = trainer.get_batch_samples(iter(loader), 1, torch.device("cpu"))
    trainer.training_step(trainer.model, step, totals)
    return trainer


def drawn(row: Tensor, seed: int) -> Tensor:
    """As an adapter that has been trained: at first most gradients are 0."""
    generator = torch.Generator().manual_seed(seed)
    return row + 0.05 * torch.randn(row.shape, generator=generator)


def gradient_of(trainer: Any) -> Tensor:
    gradients = [w.grad.flatten() for w in trainer.model.parameters() if w.requires_grad]
    return torch.cat(gradients)


def assert_close_by_matrix(found: Tensor, expected: Tensor, parts: Any, rel: float) -> None:
    sizes = [shape.numel() for part in parts for shape in part.shapes]
    for one, other in zip(found.split(sizes), expected.split(sizes), strict=True):
        assert other.norm() > 0, "nothing is compared"
        assert (one - other).norm() <= rel * other.norm()


def assert_gradients_of_separate_runs(
    parts: Parts,
    folder: Path,
    recipes: Sequence[SFTRecipe],
    *,
    is_flat: bool = False,
    **runtime: Any,
) -> None:
    together = beside(parts, folder / "together", recipes, **runtime)
    together.collator_of_cells.skips_others |= is_flat
    weights = together.adapters.weights
    with torch.no_grad():
        weights.copy_(torch.stack([drawn(row, seed) for seed, row in enumerate(weights)]))
    first_step(together)
    for index, one in enumerate(recipes):
        alone = weighted(parts, folder / str(index), one, **runtime)
        set_weights(alone.model, weights[index].detach())
        first_step(alone)
        matrices = parts_of(alone.model)
        found = weights.grad[index]
        assert_close_by_matrix(found, gradient_of(alone), matrices, rel=1e-5)


@pytest.mark.parametrize("num_cells", [1, 2, 3])
@pytest.mark.parametrize("way", RUNTIMES)
def test_gradients_are_those_of_separate_runs(
    way: str, num_cells: int, parts: Parts, tmp_path: Path
) -> None:
    assert_gradients_of_separate_runs(parts, tmp_path, cells(num_cells), **RUNTIMES[way])


@pytest.mark.parametrize("adapter", ADAPTERS[1:], ids=str)
@pytest.mark.parametrize("packing", [False, True])
def test_gradients_of_every_adapter_are_those_of_separate_runs(
    packing: bool, adapter: dict[str, Any], parts: Parts, tmp_path: Path
) -> None:
    recipes = cells(3, adapter=adapter)
    assert_gradients_of_separate_runs(parts, tmp_path, recipes, packing=packing)


@pytest.mark.parametrize(
    "knobs",
    [{"loss": "dft"}, {"normaliser": "per_role_mean"}, {"normaliser": "weight_sum"}],
    ids=str,
)
def test_gradients_of_every_loss_are_those_of_separate_runs(
    knobs: dict[str, Any], parts: Parts, tmp_path: Path
) -> None:
    assert_gradients_of_separate_runs(parts, tmp_path, cells(3, **knobs))


def test_cells_in_one_sequence_do_not_see_each_other(parts: Parts, tmp_path: Path) -> None:
    """As for attention that leaves out what a token does not see; here the usual one reads it."""
    runtime = {"packing": True, "packed_tokens": 400}
    assert_gradients_of_separate_runs(parts, tmp_path, cells(3), is_flat=True, **runtime)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
def test_every_adapter_begins_as_its_seed_says_bit_for_bit(
    adapter: dict[str, Any], parts: Parts, tmp_path: Path
) -> None:
    recipes = cells(3, adapter=adapter)
    rows = beside(parts, tmp_path, recipes).adapters.weights
    for row, one in zip(rows, recipes, strict=True):
        assert torch.equal(row, weights_of(trainable(one, load_model(parts[0]))))


def together(
    parts: Parts, folder: Path, recipes: Sequence[SFTRecipe], **runtime: Any
) -> list[TrainingError | None]:
    """Into ``folder/0``, ``folder/1`` and so on."""
    for index in range(len(recipes)):
        (folder / str(index)).mkdir(parents=True, exist_ok=True)
    trained = [ToTrain(one, folder / str(i), lambda *_: None) for i, one in enumerate(recipes)]
    where = Runtime(device="cpu", **runtime)
    return train_side_by_side(trained, *parts, folder / "scratch", where)


def alone(parts: Parts, folder: Path, one: SFTRecipe, **runtime: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    train_sft(one, *parts, folder, Runtime(device="cpu", **runtime), lambda *_: None)


def adapter_in(parts: Parts, folder: Path) -> Tensor:
    return weights_of(with_saved_adapters(load_model(parts[0]), folder / "adapter"))


def assert_same_cell(parts: Parts, one: Path, other: Path, atol: float) -> None:
    pair = [adapter_in(parts, folder) for folder in (one, other)]
    torch.testing.assert_close(*pair, rtol=0, atol=atol)
    pair = [load_model(folder / "model").state_dict() for folder in (one, other)]
    for name, weight in pair[0].items():
        torch.testing.assert_close(weight, pair[1][name], rtol=0, atol=2 * atol)


def lines_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def assert_same_history(one: Path, other: Path) -> None:
    for found, expected in zip(lines_of(one), lines_of(other), strict=True):
        assert found.keys() == expected.keys()
        for name in found.keys() - {"tokens_per_second", "peak_memory_bytes"}:
            if not name.startswith("train_runtime") and "per_second" not in name:
                assert found[name] == pytest.approx(expected[name], rel=2e-4, abs=1e-6), name


@pytest.mark.parametrize(
    "knobs", [{"num_epochs": 2}, {"max_grad_norm": 0.05, "loss": "dft"}], ids=str
)
def test_every_cell_becomes_what_it_becomes_by_itself(
    knobs: dict[str, Any], parts: Parts, tmp_path: Path
) -> None:
    recipes = cells(3, **knobs)
    assert together(parts, tmp_path, recipes) == [None] * 3
    for index, one in enumerate(recipes):
        folder, expected = tmp_path / str(index), tmp_path / f"alone-{index}"
        alone(parts, expected, one)
        assert_same_cell(parts, folder, expected, atol=1e-4)
        assert_same_history(folder, expected)
        names = [
            {file.name for file in (where / "model").iterdir()} for where in (folder, expected)
        ]
        assert names[0] == names[1]
        assert (folder / "adapter" / "adapter_config.json").read_bytes() == (
            expected / "adapter" / "adapter_config.json"
        ).read_bytes()


def losses_in(folder: Path) -> list[float]:
    return [line["loss"] for line in lines_of(folder) if "loss" in line]


def test_low_precision_is_that_of_a_single_cell(parts: Parts, tmp_path: Path) -> None:
    """bfloat16 rounds to three digits, and sums of other batches otherwise."""
    recipes = cells(2, precision="bfloat16")
    together(parts, tmp_path, recipes)
    for index, low in enumerate(recipes):
        exact = low.model_copy(update={"precision": "float32"})
        for name, one in {"low": low, "exact": exact}.items():
            alone(parts, tmp_path / f"{name}-{index}", one)
        found = losses_in(tmp_path / str(index))
        assert found == pytest.approx(losses_in(tmp_path / f"low-{index}"), rel=1e-2)
        assert found != pytest.approx(losses_in(tmp_path / f"exact-{index}"), rel=1e-6)


def test_one_cell_is_the_ordinary_training(parts: Parts, tmp_path: Path) -> None:
    [one] = cells(1)
    together(parts, tmp_path, [one])
    alone(parts, tmp_path / "alone", one)
    assert_same_cell(parts, tmp_path / "0", tmp_path / "alone", atol=1e-5)
    assert_same_history(tmp_path / "0", tmp_path / "alone")


def test_who_is_trained_beside_a_cell_makes_no_difference(parts: Parts, tmp_path: Path) -> None:
    first, second, third = cells(3)
    together(parts, tmp_path / "one", [first, second])
    together(parts, tmp_path / "other", [third, first])
    assert_same_cell(parts, tmp_path / "one" / "0", tmp_path / "other" / "1", atol=1e-4)


def test_a_cell_that_diverges_fails_alone(parts: Parts, tmp_path: Path) -> None:
    """Its loss overflows; that of its neighbour is what it is without it."""
    good, _ = cells(2)
    # Such weights no study may have.
    too_large = good.weights.model_copy(update={"prompt": 3e38, "response": 3e38})
    bad = good.model_copy(update={"weights": too_large})
    failures = together(parts, tmp_path, [bad, good])
    assert "diverged" in str(failures[0])
    assert failures[1] is None
    assert not (tmp_path / "0" / "model").exists()
    together(parts, tmp_path / "without", [good])
    assert_same_cell(parts, tmp_path / "1", tmp_path / "without" / "0", atol=1e-4)
    with pytest.raises(TrainingError, match="diverged"):
        together(parts, tmp_path / "all", [bad])


class Killed(Exception):
    pass


def test_killed_and_resumed_ends_like_undisturbed(parts: Parts, tmp_path: Path) -> None:
    recipes = cells(2, num_epochs=2)
    together(parts, tmp_path / "whole", recipes)

    def die(self, args, state, control, **kwargs):
        if state.global_step == 9:
            raise Killed

    often = {"checkpoint_seconds": 1e-9}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "MAX_SAVING_SHARE", 1e9)  # a checkpoint at every step
        patch.setattr(callbacks.TimedCheckpoints, "on_step_begin", die, raising=False)
        with pytest.raises(Killed):
            together(parts, tmp_path / "killed", recipes, **often)
    with pytest.raises(ConfigError, match="delete the checkpoint"):
        together(parts, tmp_path / "killed", cells(3, num_epochs=2)[::2])
    together(parts, tmp_path / "killed", recipes)
    for index in "01":
        assert_same_cell(parts, tmp_path / "whole" / index, tmp_path / "killed" / index, atol=0)
        assert_same_history(tmp_path / "killed" / index, tmp_path / "whole" / index)


def test_every_row_of_a_step_is_there_once_with_the_weights_of_its_cell(
    parts: Parts, tmp_path: Path
) -> None:
    rows = [read_split(parts[1], TRAIN)[i] for i in range(8)]
    by_length = sorted(rows, key=lambda row: len(row["input_ids"]))
    for way in ("padded, split", "packed, split"):
        trainer = beside(parts, tmp_path, cells(3), **RUNTIMES[way])
        collate = trainer.collator_of_cells
        for collate.skips_others in (False, True):
            batches = collate(
                [*by_length, *rows, *by_length[::-1]]
            )  # cells have orders of their own
            found = torch.zeros(3)
            for batch in batches:
                split = batch["token_weights"].reshape(3, -1)
                found += split.sum(1)
            expected = [
                collator([row])["token_weights"] for collator in collate.collators for row in rows
            ]
            sums = torch.stack([weights.sum() for weights in expected]).reshape(3, -1).sum(1)
            torch.testing.assert_close(found, sums)


@pytest.mark.parametrize("shape", [(6, 4), (1, 14)])
def test_the_cell_of_a_target_is_that_of_its_place(shape: tuple[int, int]) -> None:
    num_rows, width = shape[0], shape[1] + 1
    cells = torch.arange(3).repeat_interleave(num_rows * width // 3).reshape(num_rows, width)
    assert torch.equal(cells_of_targets(shape, 3, "cpu"), cells[:, 1:])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "full": ({"adapter": None}, r"sft\.adapter: none"),
    "dora": ({"adapter": {**LORA, "dora": True}}, "dora"),
    "tokens": ({"adapter": {"rank": 4}}, "tokens = template"),
    "pissa": ({"adapter": {**LORA, "init": "pissa"}}, "pissa"),
    "olora": ({"adapter": {**LORA, "init": "olora"}}, "olora"),
    "qlora": ({"adapter": "qlora"}, "qlora"),
    "peft": ({"adapter": "miss"}, "miss"),
    "float16": ({"precision": "float16"}, "float16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_at_once_is_named(name: str, parts: Parts, tmp_path: Path) -> None:
    knobs, named = REFUSED[name]
    with pytest.raises(ConfigError, match=f"{named}.*one after another"):
        beside(parts, tmp_path, cells(2, **knobs))


def test_cells_that_differ_in_more_are_refused(parts: Parts, tmp_path: Path) -> None:
    first, second = cells(2)
    other = second.model_copy(update={"learning_rate": 5e-4})
    with pytest.raises(ConfigError, match=r"sft\.learning_rate: is 0\.001 in one cell and 0\.0005"):
        beside(parts, tmp_path, [first, other])
    with pytest.raises(ConfigError, match="no cell"):
        beside(parts, tmp_path, [])
    rung = RungRecipe(**first.model_dump(), share=0.5)
    with pytest.raises(ConfigError, match="rung"):
        beside(parts, tmp_path, [rung, second])
    with pytest.raises(ConfigError, match="num_processes"):
        beside(parts, tmp_path, [first, second], num_processes=2)
