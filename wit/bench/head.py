"""The LM head with the weighted loss, forward and backward: ours, all logits, TRL's, Liger's.

Every contestant runs in a process of its own for every size, so that its peak memory is its own.
"""

import importlib
from collections.abc import Iterator
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from wit.bench.arms import MIB, Run, in_turns, peak_since, reset_peak, timed
from wit.bench.flops import measured_peak
from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.losses import weighted_loss
from wit.models import choose_device
from wit.training.one_pass_head import weighted_head

HIDDEN = 256
VOCABULARIES = (32_000, 128_256)
NUM_TOKENS = (512, 2048)  # both more than are scored at once
TURNS = 4  # in a process, after one that warms it up; the fastest counts
MAX_GROWTH = 1.1  # of memory with the number of tokens
PRODUCTS = 3  # with the head's weights: logits, gradient of states, gradient of weights
LIGER = "liger_kernel.ops.fused_linear_cross_entropy"
WAYS = {
    "all logits": "all logits, log_softmax, gather",
    "TRL": "TRL's fused head, and the weighted loss on its log-probabilities",
    "Liger": "Liger's fused linear cross entropy of each target, weighted",
}


class Size(NamedTuple):
    """Of the logits."""

    num_tokens: int
    vocabulary: int

    def __str__(self) -> str:
        return f"{self.num_tokens:,} x {self.vocabulary:,}"


class Inputs(NamedTuple):
    """Of a head."""

    hidden: Tensor
    weight: Tensor
    labels: Tensor
    coefficients: Tensor


def measure(
    repeats: int,
    num_tokens: tuple[int, int] = NUM_TOKENS,
    vocabularies: tuple[int, ...] = VOCABULARIES,
) -> BenchResult:
    """Measures our head against all others that run on this machine.

    Args:
        repeats: Turns.
        num_tokens: Targets; speed is measured at the smaller number.
        vocabularies: Rows of the head's weights.

    Raises:
        StageError: One computed another number of targets, or another loss.
    """
    refusal = why_no_liger()
    others = [way for way in WAYS if way != "Liger" or not refusal]
    few, many = num_tokens
    runs: dict[Size, dict[str, list[Run]]] = {}
    for size in (Size(number, rows) for rows in vocabularies for number in num_tokens):
        # At the larger number only memory is compared, and that with our own.
        ways = ["ours", *others] if size.num_tokens == few else ["ours"]
        runs[size] = in_turns({way: (run, (way, size)) for way in ways}, repeats)
    figures: list[Figure] = []
    for rows in vocabularies:
        figures += figures_of(Size(few, rows), runs[Size(few, rows)])
        figures += [growth(f"tokens x {many / few:g}", runs, Size(few, rows), Size(many, rows))]
    did = {
        f"{size}: {name}": count
        for size, found in runs.items()
        for name, count in same_work({way: turns[0].counts for way, turns in found.items()}).items()
    }
    return BenchResult(
        name="head",
        ours="head and weighted loss as training takes them on this device, forward and backward",
        baseline="; ".join(WAYS[way] for way in others),
        figures=tuple(figures),
        sizes={"hidden size": HIDDEN, "Liger": refusal or "measured"},
        same_work=did,
        machine=machine_name(),
        versions=versions_of("torch", "trl"),
    )


def figures_of(size: Size, runs: dict[str, list[Run]]) -> Iterator[Figure]:
    """Speed and memory of one size, against every other way."""
    peak = measured_peak(choose_device("auto"), torch.float32)
    flops = PRODUCTS * 2 * HIDDEN * size.num_tokens * size.vocabulary
    ours = runs["ours"]
    for way in (way for way in runs if way != "ours"):
        seconds = [run.seconds for run in runs[way]]
        yield Figure(
            quantity=f"targets/s, {size}, against {way}",
            ours=tuple(size.num_tokens / run.seconds for run in ours),
            baseline=tuple(size.num_tokens / each for each in seconds),
            at_least=1.0,
            limit=median(seconds) * peak.flops / flops,
            limit_is=f"{PRODUCTS} products; {peak.source}",
        )
        yield Figure(
            quantity=f"scratch memory, MiB, {size}, against {way}",
            ours=tuple(run.peak_bytes / MIB for run in ours),
            baseline=tuple(run.peak_bytes / MIB for run in runs[way]),
        )


def growth(
    what: str, runs: dict[Size, dict[str, list[Run]]], smaller: Size, larger: Size
) -> Figure:
    """How much more memory our head takes at the larger size."""
    pairs = zip(runs[larger]["ours"], runs[smaller]["ours"], strict=True)
    return Figure(
        quantity=f"scratch memory at {larger} over {smaller} ({what})",
        ours=tuple(many.peak_bytes / few.peak_bytes for many, few in pairs),
        at_most=MAX_GROWTH,
    )


def why_no_liger() -> str:
    """Why Liger's head cannot be measured here; empty: it can."""
    if not torch.cuda.is_available():
        return "left out: its kernels need a GPU"
    try:
        importlib.import_module(LIGER)
    except ImportError as error:
        return f"left out: {error}"
    return ""


def run(way: str, size: Size) -> Run:
    """One way, in the process that calls it; memory beyond inputs and gradients."""
    head = {"ours": _ours, "all logits": _all_logits, "TRL": _fused, "Liger": _liger}[way]
    _once(head, inputs_of(Size(8, size.vocabulary)))
    inputs = inputs_of(size)
    before = reset_peak()
    losses: list[float] = []
    seconds = min(timed(lambda: losses.append(_once(head, inputs))) for _ in range(TURNS))
    gradients = sum(each.numel() * each.element_size() for each in inputs[:2])
    counts = {"targets": size.num_tokens, "loss, thousandths": round(losses[-1] * 1000)}
    return Run(seconds, max(1, peak_since(before) - gradients), counts)


def inputs_of(size: Size) -> Inputs:
    """The same random numbers in every process; weights of prompts and responses, over a count."""
    device = choose_device("auto")
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(size.num_tokens, HIDDEN, generator=generator)
    weight = torch.randn(size.vocabulary, HIDDEN, generator=generator) / HIDDEN**0.5
    labels = torch.randint(size.vocabulary, (size.num_tokens,), generator=generator)
    is_prompt = torch.arange(size.num_tokens) < size.num_tokens // 3
    coefficients = torch.where(is_prompt, 0.4, 0.8) / size.num_tokens
    on_device = [each.to(device) for each in (hidden, weight, labels, coefficients)]
    return Inputs(
        *(each.requires_grad_(each.is_floating_point()) for each in on_device[:2]), *on_device[2:]
    )


def _once(head: Any, inputs: Inputs) -> float:
    inputs.hidden.grad = inputs.weight.grad = None
    loss = head(inputs)
    loss.backward()
    return loss.item()


def _ours(inputs: Inputs) -> Tensor:
    if inputs.hidden.device.type != "cpu":
        return _fused(inputs)  # whose kernels are for a GPU: see wit/training/one_pass_head.py
    hidden, weight, labels, coefficients = inputs
    return weighted_head(hidden[None], weight, labels[None], coefficients[None]).loss


def _fused(inputs: Inputs) -> Tensor:
    hidden, weight, labels, coefficients = inputs
    outputs = ("log_probs", "entropy", "is_top1")  # as training asks for
    log_probs, *_ = ChunkedLogProbFunction.apply(
        hidden, weight, None, labels, 1.0, 32768, None, 1.0, outputs
    )  # pyright: ignore[reportGeneralTypeIssues]  that of torch has no type
    return weighted_loss(log_probs[None], coefficients[None], 1)


def _all_logits(inputs: Inputs) -> Tensor:
    hidden, weight, labels, coefficients = inputs
    log_probs = (hidden @ weight.T).float().log_softmax(-1)
    return -(log_probs.gather(-1, labels[:, None]).squeeze(-1) * coefficients).sum()


def _liger(inputs: Inputs) -> Tensor:
    hidden, weight, labels, coefficients = inputs
    function = importlib.import_module(LIGER).LigerFusedLinearCrossEntropyFunction
    sums, *_ = function.apply(hidden, weight, labels, None, None, -100, 0.0, 0.0, "none")
    return (sums * coefficients).sum()
