"""The trainer of weighted tokens, for several cells at once."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from wit.config import PACKED_TOKENS, Runtime
from wit.data.collate import RoleCollator
from wit.data.splits import lengths_of
from wit.errors import ConfigError
from wit.losses import coefficients_of_targets, is_response_side, step_totals
from wit.roles import Role
from wit.training.packing import skips_others
from wit.training.side_by_side.batches import CollatorOfCells, StepsOfCells, cells_of_targets
from wit.training.side_by_side.figures import FiguresOfCells
from wit.training.side_by_side.stacked import Adapters
from wit.training.steps import StepLoader, Steps
from wit.training.trainer import Step, WeightedSFTTrainer

WEIGHTS = "adapters_of_cells.safetensors"  # in a checkpoint
TINY = 1e-6  # beside a norm that is divided by, as torch has it


class SideBySideTrainer(WeightedSFTTrainer):
    """Adapters of several cells on one base, each trained as it would be by itself.

    Every cell has its own rows in its own order, divisors, weights, gradient norm and figures. What
    moves the weights is one AdamW over all of them, in which no weight sees another.
    """

    def __init__(
        self,
        *,
        adapters: Adapters,
        collators: Sequence[RoleCollator],
        seeds: Sequence[int],
        names: Sequence[str],
        runtime: Runtime,
        **kwargs: Any,
    ) -> None:
        """As of one cell, and what each has of its own.

        Args:
            adapters: That are on the model.
            collators: Of each cell.
            seeds: Of the order of rows of each cell.
            names: What tells each cell from any other; a checkpoint is of these.
            runtime: How large micro-batches are, of all cells together.
            **kwargs: Of ``WeightedSFTTrainer``.

        Raises:
            ConfigError: Something that is asked for would lose weights; names it.
        """
        super().__init__(collator=collators[0], runtime=runtime, **kwargs)
        self.adapters = adapters
        self.collators = collators
        self.seeds = seeds
        self.names = names
        self.collator_of_cells = CollatorOfCells(
            collators,
            micro_batch_size=runtime.micro_batch_size,
            packed_tokens=runtime.packed_tokens or PACKED_TOKENS[self.args.device.type],
            skips_others=skips_others(self.model),
        )
        self.figures_of_cells = FiguresOfCells(len(seeds), self.args.device)
        self.figures: Any = self.figures_of_cells

    def get_train_dataloader(self) -> StepLoader:
        """Steps of all cells."""
        rows: Any = self.train_dataset
        lengths = lengths_of(rows, "input_ids")
        steps = StepsOfCells([Steps(lengths, self.examples_per_step, seed) for seed in self.seeds])
        return StepLoader(rows, batch_sampler=steps, collate_fn=self.collator_of_cells)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Step], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The next step, and the divisors of each cell in it."""
        self.figures_of_cells.start_step()
        steps = list(islice(epoch_iterator, num_batches))
        batches = [batch for step in steps for batch in step]
        totals = torch.zeros(len(self.seeds), 2, dtype=torch.float64)
        num_tokens = torch.zeros(len(self.seeds), dtype=torch.long)
        for batch in batches:
            weights, roles = (self._by_cell(batch[name]) for name in ("token_weights", "roles"))
            pairs = zip(weights, roles, strict=True)
            totals += torch.stack([step_totals(w, r, self.normaliser) for w, r in pairs])
            num_tokens += (roles != Role.SPECIAL).sum(dim=(1, 2))
        self.figures_of_cells.set_num_tokens(num_tokens.tolist())
        return steps, totals.to(device)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Of a checkpoint: the adapters alone, for nothing else has changed."""
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.adapters.weights.detach().contiguous()
        save_file({"weights": weights}, folder / WEIGHTS, metadata={"cells": self._cells()})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        file = Path(resume_from_checkpoint) / WEIGHTS
        with safe_open(file, framework="pt") as saved:
            cells = saved.metadata()["cells"]
            if cells != self._cells():
                raise ConfigError(
                    f"{file}: is of the cells {cells}, and not of {self._cells()}; delete the "
                    "checkpoint to begin anew"
                )
            with torch.no_grad():
                self.adapters.weights.copy_(saved.get_tensor("weights"))

    def _cells(self) -> str:
        return ", ".join(self.names)

    def _by_cell(self, column: Tensor) -> Tensor:
        """Of a micro-batch; every cell has the same share of its tokens, one after the other."""
        return column.reshape(len(self.seeds), 1, -1)

    def _divisors(self, totals: Any, weights: Tensor, roles: Tensor) -> Tensor:
        cells = cells_of_targets(roles.shape, len(self.seeds), roles.device)
        return totals[cells, is_response_side(roles).long()]

    def _measure(self, roles: Tensor, outputs: Any, weights: Tensor, divisors: Tensor) -> None:
        cells = cells_of_targets(roles.shape, len(self.seeds), roles.device)
        log_probs = outputs.log_probs.detach().float()
        losses = -coefficients_of_targets(weights, divisors) * log_probs
        if self.reweighting is not None:
            losses = losses * self.reweighting(log_probs)
        self.figures_of_cells.add(cells, roles, outputs, losses)

    def _clip_grad_norm(self, model: Any) -> Tensor:
        """Each cell's gradient by its own norm; returns that of all, as of one long vector."""
        return self._gradient_norm(self.args.max_grad_norm)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        return self._gradient_norm(math.inf) if grad_norm is None else grad_norm

    @torch.no_grad()
    def _gradient_norm(self, most: float) -> Tensor:
        gradients: Any = self.adapters.weights.grad
        norms = torch.linalg.vector_norm(gradients, dim=1)
        if most < math.inf:
            gradients.mul_((most / (norms + TINY)).clamp(max=1)[:, None])
        self.figures_of_cells.gradient_norms = norms
        return torch.linalg.vector_norm(norms)
