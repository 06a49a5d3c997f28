"""What a training shows of itself: unweighted likelihoods by role, speed and memory."""

import resource
import time
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Int
from torch import Tensor

from wit.roles import Role

MEASURE_EVERY = 10  # steps; then roles without a weight are scored too, which costs time on a GPU
KINDS = ("count", "nll", "is_top1", "entropy")


class RoleFigures:
    """Sums over targets of each role since they were last taken, of this rank.

    Weighted losses cannot be compared across cells; these figures can, for the loss weights play
    no part in them.
    """

    def __init__(self, device: torch.device) -> None:
        """Starts at zero; float64, since log-probabilities of millions of tokens add up."""
        self.sums = torch.zeros(len(Role), len(KINDS), dtype=torch.float64, device=device)
        self.num_tokens = 0  # of this step, over all ranks, without padding
        self.started = 0.0  # this step; what comes between steps does not count

    def start_step(self) -> None:
        """Called before the rows of a step are loaded."""
        self.started = time.perf_counter()

    @torch.no_grad()
    def add(self, roles: Int[Tensor, "batch targets"], outputs: Any) -> None:
        """Adds the targets of a micro-batch that were scored."""
        scored = outputs.label_mask.flatten()
        values = (scored, -outputs.log_probs, outputs.is_top1, outputs.entropy)
        # Zeros are added too: to pick out what was scored, a GPU would wait for the host.
        of_targets = torch.stack([value.flatten().double() for value in values], dim=-1)
        self.sums.index_add_(0, roles.flatten(), of_targets)

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """The figures of all ranks in a step, and starts anew.

        Args:
            accelerator: Of the trainer; every rank has to call this.

        Returns:
            For each role that was scored ``train_nll_*`` in nats per token and ``train_tokens_*``;
            of response tokens the share that was the likeliest; of all the entropy in nats;
            tokens per second; and the peak memory of this process in bytes.
        """
        reduced: Any = accelerator.reduce(self.sums, reduction="sum")
        sums = reduced.tolist()
        figures = {}
        for role, (count, nll, is_top1, _) in zip(Role, sums, strict=True):
            if count:
                name = role.name.lower()
                figures[f"train_nll_{name}"] = nll / count
                figures[f"train_tokens_{name}"] = count
                if role == Role.RESPONSE:
                    figures["train_accuracy_response"] = is_top1 / count
        count, *_, entropy = map(sum, zip(*sums, strict=True))
        if count:
            figures["train_entropy"] = entropy / count
        figures["tokens_per_second"] = self.num_tokens / (time.perf_counter() - self.started)
        figures["peak_memory_bytes"] = float(peak_memory(self.sums.device))
        self.sums.zero_()
        return figures


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process has held so far: of the GPU, or resident where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
