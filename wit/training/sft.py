"""Weighted instruction tuning."""

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from wit.config import Runtime, SFTRecipe
from wit.data.collate import RoleCollator
from wit.data.prepare import TRAIN, read_split
from wit.likelihood import held_out_nll
from wit.losses import weighted_loss
from wit.models import check_finite, choose_device, load_model
from wit.tokenizers import load_tokenizer
from wit.training.arguments import training_arguments
from wit.training.callbacks import (
    AfterEpoch,
    History,
    Log,
    train_resumably,
)
from wit.training.order import SortedSteps, sorted_steps

MODEL = "model"


class WeightedSFTTrainer(SFTTrainer):
    """TRL's trainer with another loss: every target counts with the weight of its role.

    Batches come from ``RoleCollator``; one without ``token_weights`` is a ``KeyError``.
    """

    loss_is_scaled_for_ga = True  # by num_items_in_batch: the targets of the whole optimizer step

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Asks for the count of targets, also for models that cannot take it: the loss takes it."""
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The weighted loss of a micro-batch; the losses of a step's micro-batches add up."""
        token_weights, _ = inputs.pop("token_weights"), inputs.pop("roles")
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        loss = weighted_loss(
            outputs.log_probs, token_weights[:, 1:], num_target_tokens=num_items_in_batch
        )
        if num_items_in_batch is not None:  # the count is over all ranks, and DDP takes the mean
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> SortedSteps:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return sorted_steps([len(ids) for ids in rows["input_ids"]], self.args)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the artifact's record says how the model was made."""

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["input_ids", "roles"]


def train_sft(
    recipe: SFTRecipe,
    base: Path,
    instructions: Path,
    tokenizer_folder: Path,
    out: Path,
    runtime: Runtime,
    log: Log,
) -> None:
    """Trains the base with the recipe's weights; leaves ``model/`` and ``history.jsonl``.

    Continues from the last checkpoint in ``out``, if there is one.

    Raises:
        TrainingError: The loss or a weight is not finite.
    """
    device = choose_device(runtime.device)
    model = load_model(base, device)
    tokenizer = load_tokenizer(tokenizer_folder)
    rows = read_split(instructions, TRAIN)
    arguments = training_arguments(recipe, recipe.seed, runtime, out, len(rows))
    trainer = WeightedSFTTrainer(
        model=model,
        args=SFTConfig(
            **arguments,
            loss_type="nll",
            packing=False,
            completion_only_loss=False,
            assistant_only_loss=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=rows,
        data_collator=RoleCollator(recipe.weights, tokenizer.pad_token_id),
        processing_class=tokenizer,
    )
    history = History(out, log)

    def measure(step: int) -> None:
        was_training = model.training
        model.eval()
        by_role = held_out_nll(model, instructions, batch_size=runtime.evaluation_batch_size)
        history.write({f"nll_{role}": figure.nll for role, figure in by_role.items()}, step)
        model.train(was_training)

    def is_measured(step: int) -> bool:
        return history.has("nll_", step)

    train_resumably(trainer, history, out, runtime, AfterEpoch(measure, is_measured))
    save_model(model, tokenizer_folder, out / MODEL)


def save_model(model: PreTrainedModel, tokenizer_folder: Path, folder: Path) -> None:
    """Writes a Hugging Face folder: weights, and the tokenizer byte for byte.

    Raises:
        TrainingError: A weight is not finite.
    """
    check_finite(model, "after training")
    stop = load_tokenizer(tokenizer_folder).eos_token_id
    if model.generation_config is not None:
        model.generation_config.eos_token_id = stop
    model.config.eos_token_id = stop
    model.save_pretrained(folder)
    for file in tokenizer_folder.iterdir():
        if file.name.startswith(("tokenizer", "chat_template", "special_tokens", "added_tokens")):
            shutil.copyfile(file, folder / file.name)
