"""TRL's SFT trainer with the weighted loss, and a refusal of all that would lose the weights."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl.trainer.sft_trainer import SFTTrainer

from wit.config import PACKED_TOKENS, Runtime
from wit.data.collate import RoleCollator
from wit.data.splits import lengths_of
from wit.losses import (
    IGNORE_INDEX,
    Normaliser,
    Reweighting,
    coefficients_of_targets,
    divisors_of_targets,
    step_totals,
    weighted_loss,
)
from wit.roles import Role
from wit.training.figures import MEASURE_EVERY, RoleFigures
from wit.training.one_pass_head import add_one_pass_head
from wit.training.packing import skips_others
from wit.training.quantised import adapters_kept
from wit.training.refusals import refuse_head, refuse_what_loses_weights
from wit.training.shards import load_shards, save_shards
from wit.training.steps import StepCollator, StepLoader, Steps, seed_of_order

Step = list[dict[str, Tensor]]  # the micro-batches of an optimizer step


class WeightedSFTTrainer(SFTTrainer):
    """TRL's trainer with another loss: every target counts with the weight of its role.

    A step is split into micro-batches and ranks here and not by the library, so that any split
    gives the same loss and gradients: what a step's losses are divided by is counted over all of
    it first. Rows need the columns of ``wit.data.collate``.
    """

    loss_is_scaled_for_ga = True  # by the divisors of the whole optimizer step

    def __init__(
        self,
        *,
        examples_per_step: int,
        collator: RoleCollator,
        runtime: Runtime,
        normaliser: Normaliser = "nonzero_tokens",
        reweighting: Reweighting | None = None,
        decay_norms: bool = False,
        **kwargs: Any,
    ) -> None:
        """As the library's, and how a step is divided.

        Args:
            examples_per_step: Rows per optimizer step, over all ranks.
            collator: Makes micro-batches.
            runtime: Says how large they are.
            normaliser: What the losses of a step are divided by.
            reweighting: A factor on the loss of each target, from its log-probability.
            decay_norms: Whether weight decay is also for norms and biases.
            **kwargs: Of ``SFTTrainer``.

        Raises:
            ConfigError: Something that is asked for would lose weights; names it.
        """
        refuse_what_loses_weights(kwargs)
        refuse_head(kwargs["model"])
        with adapters_kept(kwargs["model"]):
            super().__init__(data_collator=collator, **kwargs)
        self.examples_per_step = examples_per_step
        self.normaliser: Normaliser = normaliser
        self.reweighting = reweighting
        self.decay_norms = decay_norms
        self.split = StepCollator(
            collator,
            micro_batch_size=runtime.micro_batch_size,
            packed_tokens=runtime.packed_tokens or PACKED_TOKENS[self.args.device.type],
            skips_others=skips_others(self.model),
        )
        self.figures = RoleFigures(self.args.device)
        self.in_one_pass = (
            self.args.mixed_precision == "no"
            and not self.is_distributed_loading_by_transformers
            and add_one_pass_head(self.model)
        )

    def get_train_dataloader(self) -> StepLoader:
        """Steps of this rank; the library would share out batches, and repeat rows to fill them."""
        rows: Any = self.train_dataset
        steps = Steps(
            lengths_of(rows, "input_ids"),
            self.examples_per_step,
            seed_of_order(self.args),
            rank=self.accelerator.process_index,
            num_ranks=self.accelerator.num_processes,
        )
        return StepLoader(rows, batch_sampler=steps, collate_fn=self.split)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Step], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The next step, and its divisors over all ranks.

        All ranks get the same number of micro-batches, for they have to run forwards together.
        """
        self.figures.start_step()
        steps = list(islice(epoch_iterator, num_batches))
        for step in steps:
            num_here, num_everywhere = len(step), self._over_ranks([len(step)], device).max()
            step += [self.split.collator([]) for _ in range(int(num_everywhere) - num_here)]
        parts = [
            step_totals(b["token_weights"], b["roles"], self.normaliser) for s in steps for b in s
        ]
        num_tokens = sum((b["roles"] != Role.SPECIAL).sum().item() for s in steps for b in s)
        totals = torch.stack(parts).sum(0).tolist() if parts else [0.0, 0.0]
        *totals, num_tokens = self._over_ranks([*totals, num_tokens], device).sum(0)
        self.figures.num_tokens = int(num_tokens)
        return steps, torch.stack(totals)

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward of all micro-batches of a step; ranks exchange gradients once."""
        losses = []
        for index, micro_batch in enumerate(inputs):
            is_last = index == len(inputs) - 1
            with nullcontext() if is_last else self._without_exchange(model):
                losses.append(super().training_step(model, micro_batch, num_items_in_batch))
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The weighted loss of a micro-batch; the losses of a step's micro-batches add up.

        Args:
            model: Of the library.
            inputs: What ``RoleCollator`` made.
            return_outputs: Whether to return log-probabilities too.
            num_items_in_batch: The totals of the step; unset: those of this micro-batch.
        """
        weights, roles = (inputs.pop(name)[:, 1:] for name in ("token_weights", "roles"))
        if self.state.global_step % MEASURE_EVERY == 0:
            inputs["labels"] = _all_targets(inputs, roles)
        divisors = self._divisors(num_items_in_batch, weights, roles)
        if self.in_one_pass:
            coefficients = coefficients_of_targets(weights, divisors)
            how = {"coefficients": coefficients, "reweighting": self.reweighting}
            outputs = model(**inputs, use_cache=False, **how)
            loss = outputs.loss
        else:
            outputs = model(**inputs, use_cache=False, fused_lm_head=True)
            loss = weighted_loss(outputs.log_probs, weights, divisors, reweighting=self.reweighting)
        self._measure(roles, outputs, weights, divisors)
        # The divisors are over all ranks, and the mean over ranks is taken of their gradients.
        loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _divisors(self, totals: Tensor | int | None, weights: Tensor, roles: Tensor) -> Tensor:
        """What the loss of each target is divided by; without totals, of this micro-batch alone."""
        if totals is None:
            totals = step_totals(weights, roles, self.normaliser)
        return divisors_of_targets(torch.as_tensor(totals, device=weights.device), roles)

    def _measure(self, roles: Tensor, outputs: Any, weights: Tensor, divisors: Tensor) -> None:
        """Adds a micro-batch to the figures of its step, in which the weights play no part."""
        self.figures.add(roles, outputs)

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Weights that decay; the library leaves out norms and biases."""
        if self.decay_norms:
            return [name for name, _ in model.named_parameters()]
        return super().get_decay_parameter_names(model)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what the weighted loss does not say: likelihoods by role, speed, memory."""
        if "loss" in logs:
            logs.update(self.figures.take(self.accelerator))
        super().log(logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Of a checkpoint; the weights of a sharded model are saved with its optimizer."""
        if not self.is_distributed_loading_by_transformers:
            super().save_model(output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_distributed_loading_by_transformers:
            save_shards(Path(output_dir), *self._sharded())
        else:
            super()._save_optimizer_and_scheduler(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_distributed_loading_by_transformers:  # else with its optimizer
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint and self.is_distributed_loading_by_transformers:
            load_shards(Path(checkpoint), *self._sharded())
        else:
            super()._load_optimizer_and_scheduler(checkpoint)

    def _sharded(self) -> Any:
        return self.model, self.optimizer, self.lr_scheduler

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the artifact's record says how the model was made."""

    def _without_exchange(self, model: Any) -> AbstractContextManager[Any]:
        """Gradients of this rank add up, and are not exchanged yet."""
        if self.is_distributed_loading_by_transformers:
            return self._defer_fsdp_gradient_reduction()
        return self.accelerator.no_sync(model)

    def _over_ranks(self, numbers: list[float], device: torch.device) -> Tensor:
        """The numbers of every rank, a row each; float64 holds counts exactly."""
        here = torch.tensor(numbers, dtype=torch.float64, device=device)[None]
        everywhere: Any = self.accelerator.gather(here)
        return everywhere


def _all_targets(inputs: dict[str, Tensor], roles: Tensor) -> Tensor:
    """Labels that score roles without a weight too; the loss has no part of them."""
    labels = inputs["input_ids"].clone()
    labels[:, 1:].masked_fill_(roles == Role.SPECIAL, IGNORE_INDEX)
    if "position_ids" in inputs:  # the first token of a packed row follows another row
        labels.masked_fill_(inputs["position_ids"] == 0, IGNORE_INDEX)
    return labels
