"""From recipes that differ in weights and seed only to a model of each, in one training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from torch import Tensor
from trl.trainer.sft_config import SFTConfig

from wit.config import Runtime
from wit.data.collate import RoleCollator
from wit.data.prepare import TRAIN, read_split
from wit.errors import TrainingError
from wit.losses import dft
from wit.models import evaluating, load_model
from wit.recipes import SFTRecipe
from wit.tokenizers import Tokenizer, load_tokenizer
from wit.training.adapters import ADAPTER, merged, save_adapter
from wit.training.arguments import sft_arguments
from wit.training.callbacks import AfterEpoch, Log, train_resumably
from wit.training.sft import (
    MODEL,
    OF_TRL,
    can_pack,
    held_out_figures,
    refuse_to_learn_nothing,
    save_model,
    trainable,
)
from wit.training.side_by_side.histories import Histories
from wit.training.side_by_side.refusals import refuse_side_by_side
from wit.training.side_by_side.stacked import set_weights, stack
from wit.training.side_by_side.trainer import SideBySideTrainer


class ToTrain(NamedTuple):
    """A cell."""

    recipe: SFTRecipe
    out: Path  # gets what ``train_sft`` leaves
    log: Log


def train_side_by_side(
    cells: Sequence[ToTrain],
    base: Path,
    instructions: Path,
    tokenizer_folder: Path,
    scratch: Path,
    runtime: Runtime,
) -> list[TrainingError | None]:
    """Trains all cells at once; in ``out`` of each is what ``train_sft`` leaves.

    One that diverges fails alone: it has no part in the gradients of the others.

    Args:
        cells: Whose recipes differ in weights and seed only.
        base: Folder of the model.
        instructions: An ``instructions`` artifact.
        tokenizer_folder: Of the study.
        scratch: For checkpoints, from the last of which it goes on.
        runtime: As of ``train_sft``; limits of a micro-batch are of all cells together.

    Returns:
        Of each cell why it has no model; None: it has one.

    Raises:
        ConfigError: Cells, recipe and runtime do not go together.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    rows = read_split(instructions, TRAIN)
    trainer = make_trainer([cell.recipe for cell in cells], base, rows, tokenizer, scratch, runtime)
    histories = Histories(
        [cell.out for cell in cells], [cell.log for cell in cells], trainer.figures_of_cells
    )

    def measure(step: int) -> None:
        model: Any = trainer.model
        for index, history in enumerate(histories.of_cells):
            if histories.failures[index] is None and not history.has("nll_", step):
                with evaluating(model), trainer.adapters.only(index):
                    history.write(held_out_figures(model, instructions, runtime), step)

    after_epoch = AfterEpoch(measure, lambda step: histories.has("nll_", step))
    train_resumably(trainer, histories, scratch, runtime, after_epoch)
    weights = trainer.adapters.weights.detach().cpu()
    for index, cell in enumerate(cells):
        if histories.failures[index] is None:
            try:
                _save(cell, weights[index], base, tokenizer_folder)
            except TrainingError as error:
                histories.failures[index] = error
    return histories.failures


def _save(cell: ToTrain, weights: Tensor, base: Path, tokenizer_folder: Path) -> None:
    model = trainable(cell.recipe, load_model(base))
    set_weights(model, weights)
    save_adapter(model, cell.out / ADAPTER)
    save_model(merged(model), tokenizer_folder, cell.out / MODEL)


def make_trainer(
    recipes: Sequence[SFTRecipe],
    base: Path,
    rows: Dataset,
    tokenizer: Tokenizer,
    scratch: Path,
    runtime: Runtime,
) -> SideBySideTrainer:
    """The trainer of several recipes, ready to train.

    Raises:
        ConfigError: They do not go together, or not with the runtime.
    """
    refuse_side_by_side(recipes, runtime)
    first = recipes[0]
    attention = None if runtime.attention == "auto" else runtime.attention
    model = load_model(base, attention=attention)
    adapters = stack(model, recipes)
    collators = [RoleCollator(recipe.weights, tokenizer.pad_token_id) for recipe in recipes]
    trainer = SideBySideTrainer(
        adapters=adapters,
        collators=collators,
        seeds=[recipe.seed for recipe in recipes],
        names=[f"{recipe.weights}-s{recipe.seed}" for recipe in recipes],
        runtime=runtime,
        model=model,
        args=SFTConfig(**sft_arguments(first, first.seed, runtime, scratch, len(rows)), **OF_TRL),
        train_dataset=rows,
        processing_class=tokenizer,
        examples_per_step=first.examples_per_step,
        normaliser=first.normaliser,
        reweighting=dft if first.loss == "dft" else None,
        decay_norms=first.decay_norms,
    )
    for collator, recipe in zip(collators, recipes, strict=True):
        refuse_to_learn_nothing(rows, collator, recipe)
    with adapters.only(0):  # rows of any number
        is_packed = runtime.packing is not False and can_pack(trainer.model, first, runtime)
    for collator in collators:
        collator.packing = is_packed
    return trainer
