"""Direct preference optimisation from one SFT checkpoint."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.data.splits import lengths_of
from wit.errors import HandOverError
from wit.models import choose_device, load_model
from wit.recipes import DPORecipe
from wit.tokenizers import load_tokenizer
from wit.training.arguments import training_arguments
from wit.training.callbacks import (
    History,
    Log,
    train_resumably,
)
from wit.training.sft import MODEL, save_model
from wit.training.steps import SortedSteps, Steps, seed_of_order

STEP_0_LOSS = math.log(2)  # of the sigmoid loss, when policy and reference are one model
# Policy and reference see a row in batches of other shapes and precisions, so log-probabilities
# differ by rounding: about so many nats a token, and by the square root of the tokens in a sum.
ROUNDING = {"float32": 1e-4, "float16": 0.005, "bfloat16": 0.02}
MAX_ROUNDINGS = 5


class CheckedDPOTrainer(DPOTrainer):
    """TRL's trainer on rows that are tokenised already, which refuses a wrong reference."""

    loss_is_scaled_for_ga = True  # by the pairs of the whole optimizer step, below
    rounding = ROUNDING["float32"]
    _pairs_in_step = 0

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of an optimizer step; notes how many pairs they hold together."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._pairs_in_step = sum(len(batch["input_ids"]) // 2 for batch in batches)
        return batches, num_items

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """A micro-batch's share of the mean over the step's pairs.

        Raises:
            HandOverError: At step 0 policy and reference are not the same model.
        """
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, outputs = result if return_outputs else (result, None)
        if self.state.global_step == 0 and model.training:
            self._check_step_0(loss.item(), inputs["completion_mask"])
        # Upstream gives the mean of the micro-batch; means of unequal micro-batches do not add up.
        loss = loss * (len(inputs["input_ids"]) // 2 / self._pairs_in_step)
        return (loss, outputs) if return_outputs else loss

    def _check_step_0(self, loss: float, completion_mask: Tensor) -> None:
        names = ("rewards/chosen", "rewards/rejected", "rewards/margins")
        rewards = {name: self._metrics["train"][name][-1] for name in names}
        longest = math.sqrt(completion_mask.sum(-1).max().item())
        tolerance = MAX_ROUNDINGS * self.beta * self.rounding * longest
        if max(map(abs, (loss - STEP_0_LOSS, *rewards.values()))) > tolerance:
            said = ", ".join(f"{name} {value:.5f}" for name, value in rewards.items())
            raise HandOverError(
                f"at step 0 the DPO loss is {loss:.5f}, {said}; they must be ln 2 = "
                f"{STEP_0_LOSS:.5f} and 0, because policy and reference are the same SFT "
                "model. The reference is another model, or something random is left in the policy"
            )

    def _get_train_sampler(self, train_dataset: Any = None) -> SortedSteps:
        pairs: Any = self.train_dataset if train_dataset is None else train_dataset
        arguments = self.args
        examples_per_step = (
            arguments.train_batch_size
            * arguments.gradient_accumulation_steps
            * arguments.world_size
        )
        return SortedSteps(
            Steps(lengths_of_pairs(pairs), examples_per_step, seed_of_order(arguments))
        )

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """The pairs with the reference's log-probabilities of their answers beside them.

        Differs from upstream's: pairs of similar length are computed together, so that little of it
        is padding, the longest first, so that too little memory shows at once. They are not sorted
        for that, which would copy them from the disk into memory. Nothing is cached, and nothing
        shared out over ranks, for DPO has one.
        """
        lengths = lengths_of_pairs(dataset)
        order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
        logps = torch.empty(2, len(order))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            inputs = self._prepare_inputs(self.data_collator([dataset[row] for row in rows]))
            of_rows = self.compute_ref_log_probs(self.model, inputs)
            logps[:, rows] = torch.stack(of_rows).float().cpu()
        for side, values in zip(("chosen", "rejected"), logps.numpy(), strict=True):
            dataset = dataset.add_column(f"ref_{side}_logps", values)
        return dataset

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the artifact's record says how the model was made."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # of the ids that SFT would train on: same template, same stop token


def lengths_of_pairs(pairs: Dataset) -> list[int]:
    """Tokens of the longer of each pair's two rows."""
    columns = (lengths_of(pairs, name) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    return [p + max(c, r) for p, c, r in zip(*columns, strict=True)]


def train_dpo(
    recipe: DPORecipe, policy: Path, preferences: Path, out: Path, runtime: Runtime, log: Log
) -> None:
    """Trains the SFT model ``policy``, which is also the reference; leaves ``model/``.

    Continues from the last checkpoint in ``out``, if there is one.

    Args:
        recipe: Of the stage.
        policy: Folder of the SFT artifact.
        preferences: Folder of the preferences artifact.
        out: Where to write.
        runtime: Where and how fast.
        log: Takes figures and their step.

    Raises:
        HandOverError: The reference is not the SFT model.
        TrainingError: The loss or a weight is not finite.
    """
    device = choose_device(runtime.device)
    model = load_model(policy / MODEL, device)
    tokenizer = load_tokenizer(policy / MODEL)
    pairs = read_split(preferences, TRAIN)
    trainer = CheckedDPOTrainer(
        model=model,
        args=DPOConfig(
            **training_arguments(recipe, recipe.seed, runtime, out, len(pairs)),
            loss_type=["sigmoid"],
            beta=recipe.beta,
            label_smoothing=0.0,
            disable_dropout=True,
            # The policy is loaded anew at every attempt, so these are always the SFT model's.
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=runtime.evaluation_batch_size,
        ),
        train_dataset=pairs,
        processing_class=tokenizer,
    )
    trainer.rounding = ROUNDING[recipe.precision]
    train_resumably(trainer, History(out, log), out, runtime)
    save_model(model, policy / MODEL, out / MODEL)
