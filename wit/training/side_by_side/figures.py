"""What a training of several cells shows of each."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor

from wit.roles import Role
from wit.training.figures import KINDS, RoleFigures


class FiguresOfCells:
    """As ``RoleFigures``, for each cell; and its loss and the norm of its gradient."""

    def __init__(self, num_cells: int, device: torch.device) -> None:
        """Starts at zero."""
        self.of_cells = [RoleFigures(device) for _ in range(num_cells)]
        self.sums = torch.zeros(num_cells, len(Role), len(KINDS), dtype=torch.float64).to(device)
        for figures, sums in zip(self.of_cells, self.sums, strict=True):
            figures.sums = sums  # a part of the whole, so that all are added to at once
        self.losses = torch.zeros(num_cells, dtype=torch.float64, device=device)
        self.gradient_norms = torch.zeros(num_cells, device=device)
        self.taken: list[dict[str, float]] = [{} for _ in range(num_cells)]

    def start_step(self) -> None:
        """Called before the rows of a step are loaded."""
        for figures in self.of_cells:
            figures.start_step()

    def set_num_tokens(self, num_tokens: Sequence[int]) -> None:
        """Of each cell in this step, without padding."""
        for figures, number in zip(self.of_cells, num_tokens, strict=True):
            figures.num_tokens = number

    @torch.no_grad()
    def add(
        self,
        cells: Int[Tensor, "batch targets"],
        roles: Int[Tensor, "batch targets"],
        outputs: Any,
        losses: Float[Tensor, "batch targets"],
    ) -> None:
        """Adds the targets of a micro-batch.

        Args:
            cells: Which cell each target is of.
            roles: Of each target.
            outputs: As of ``RoleFigures``.
            losses: What each target adds to the loss of its cell.
        """
        scored = outputs.label_mask.flatten()
        values = (scored, -outputs.log_probs, outputs.is_top1, outputs.entropy)
        of_targets = torch.stack([value.flatten().double() for value in values], dim=-1)
        places = (cells * len(Role) + roles).flatten()
        self.sums.flatten(0, 1).index_add_(0, places, of_targets)
        self.losses.index_add_(0, cells.flatten(), losses.flatten().double())

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """Nothing that all cells have in common; ``taken`` has the figures of each since then."""
        losses, norms = self.losses.tolist(), self.gradient_norms.tolist()
        self.taken = [
            {"loss": loss, "grad_norm": norm, **figures.take(accelerator)}
            for loss, norm, figures in zip(losses, norms, self.of_cells, strict=True)
        ]
        self.losses.zero_()
        return {}
