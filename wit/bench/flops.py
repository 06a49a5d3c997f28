"""How many floating-point operations a training needs, and how many a device can do at most.

Only matrix products count, two operations for each multiplication and addition, as all of the
sources have it: PaLM (arXiv 2204.02311, appendix B), Chinchilla (arXiv 2203.15556, appendix F),
Megatron (arXiv 2104.04473, appendix).
"""

import re
import time
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import torch
from transformers import PretrainedConfig

from wit.errors import ConfigError

MODELS = ("llama", "qwen2", "qwen3")  # all projections dense, the MLP of three matrices
Trained = Literal["all", "adapters", "nothing"]  # "nothing": a forward alone
Again = Literal["layers", "head"]

TERA = 1e12
# Dense bfloat16 with sums in float32, in TFLOP/s, by torch's name of the GPU, and which of NVIDIA's
# texts says so; many data sheets give twice that, "with sparsity". What does not stand here, also
# the A10G, of which texts differ, is measured.
PUBLISHED = {
    r"NVIDIA B200": (2250.0, "data sheet of Blackwell, HGX B200: 4.5 PFLOPS with sparsity"),
    r"NVIDIA H200": (989.4, "data sheet of H200, SXM: 1,979 with sparsity"),
    r"NVIDIA H200 NVL": (835.5, "data sheet of H200, NVL: 1,671 with sparsity"),
    r"NVIDIA H100 80GB HBM3": (989.4, "white paper of H100, SXM5"),
    r"NVIDIA H100 PCIe": (756.0, "white paper of H100, PCIe"),
    r"NVIDIA H100 NVL": (835.5, "data sheet of H100, NVL: 1,671 with sparsity"),
    r"NVIDIA A100(-SXM4| |-PCIE)(-?40GB|-?80GB)( PCIe)?": (312.0, "data sheet of A100"),
    r"NVIDIA L40S": (362.05, "data sheet of L40S"),
    r"NVIDIA L4": (121.0, "data sheet of L4: 242 with sparsity"),
    r"NVIDIA A10": (125.0, "data sheet of A10"),
    r"NVIDIA RTX A6000": (154.8, "white paper of GA102, appendix C"),
    r"NVIDIA GeForce RTX 4090": (165.2, "white paper of Ada"),
    r"NVIDIA GeForce RTX 3090": (71.0, "white paper of GA102, appendix A"),
}
SECONDS_OF_GEMM = 1.0  # after its warm-up
SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192, 16384)}


class Peak(NamedTuple):
    """What a device does at most."""

    flops: float  # a second
    source: str


def flops_per_token(
    config: PretrainedConfig,
    length: float,
    *,
    trained: Trained = "all",
    rank: int = 16,
    targets: float = 1.0,
    again: Collection[Again] = (),
) -> float:
    """Operations of forward and backward for each token, padding not counted.

    A product of ``n`` weights takes 2n forward, 2n for the gradient of its input and 2n for that
    of its weights, which frozen ones do not have. Attention takes two products of each head with
    every key that a token sees, half the row on average since it is causal, and twice that
    backward. Differs from PaLM's formula, which counts keys that the mask hides as well.

    Args:
        config: Of the model.
        length: Tokens of a row; of rows that differ, ``mean_length``.
        trained: All weights, adapters on every linear layer but the head, or nothing.
        rank: Of adapters.
        targets: Share of the tokens that the LM head sees.
        again: What is computed twice to save memory: the forward of layers (activation
            checkpointing) or of the head (fused head). Leave out for the model's utilization,
            which work done twice must not raise.

    Raises:
        ConfigError: The formula is not of such models.
    """
    model = config.get_text_config()
    if model.model_type not in MODELS:
        raise ConfigError(f"operations of {model.model_type} are not known; known: {MODELS}")
    shapes, num_layers = _shapes_of_layer(model), model.num_hidden_layers
    weights = sum(width * height for width, height in shapes.values())
    products = 2.0 * weights * num_layers
    adapters = 2.0 * rank * sum(map(sum, shapes.values())) * num_layers * (trained == "adapters")
    keys = (length + 1) / 2
    attention = 4.0 * model.num_attention_heads * _head_size(model) * keys * num_layers
    head = 2.0 * model.hidden_size * model.vocab_size * targets
    forward = products + adapters + attention + head
    if trained == "nothing":
        return forward
    if trained == "all":
        backward = 2 * forward
    else:
        backward = products + 2 * adapters + 2 * attention + head
        if "layers" not in again:  # below the first layer nothing learns
            in_first = [shapes[name] for name in ("q", "k", "v")]
            backward -= 2.0 * sum(width * height + rank * width for width, height in in_first)
    twice = head if "head" in again else 0.0
    if "layers" in again:
        # All but the last product of a layer, whose output no gradient asks for.
        width, height = shapes["down"]
        last = rank * height if trained == "adapters" else width * height
        twice += products + adapters + attention - 2.0 * last * num_layers
    return forward + backward + twice


def mean_length(lengths: Sequence[int]) -> float:
    """Of rows that differ the length at which a token sees as many keys: a mean over tokens."""
    return sum(length**2 for length in lengths) / sum(lengths)


def mfu(tokens_per_second: float, flops_per_token: float, peak: Peak) -> float:
    """Model FLOPs utilization: the share of the peak that the model itself needs.

    Source: arXiv 2204.02311, appendix B.
    """
    return tokens_per_second * flops_per_token / peak.flops


def peak_flops_of(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Peak:
    """The published peak of a known GPU; of anything else what a large product reaches now."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        published = published_peak(torch.cuda.get_device_name(device))
        if published is not None:
            return published
    return measured_peak(device, dtype)


def published_peak(name: str) -> Peak | None:
    """Of a GPU by the name that torch has for it; None: not known, as of a part of one (MIG)."""
    for pattern, (tera, source) in PUBLISHED.items():
        if re.fullmatch(pattern, name):
            return Peak(tera * TERA, f"published, dense bfloat16: {source}")
    return None


def measured_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """The most that square products reach; several sizes, since none is the best everywhere."""
    best, best_size = 0.0, 0
    for size in SIZES.get(device.type, SIZES["cuda"]):
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        out = torch.mm(left, right)
        began, num_seconds = time.perf_counter(), 0.0
        while num_seconds < SECONDS_OF_GEMM / len(SIZES["cpu"]):
            seconds = _seconds_of_product(left, right, out)
            flops = 2 * size**3 / seconds
            best, best_size = max((best, best_size), (flops, size))
            num_seconds = time.perf_counter() - began
    return Peak(best, f"measured: product of {best_size} x {best_size}, {_name_of(dtype)}")


def _seconds_of_product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> float:
    began = time.perf_counter()
    torch.mm(left, right, out=out)
    if left.device.type == "cuda":
        torch.cuda.synchronize(left.device)
    return time.perf_counter() - began


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _shapes_of_layer(model: PretrainedConfig) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every projection; keys and values have fewer heads than queries."""
    hidden, inner = model.hidden_size, model.intermediate_size
    queries = model.num_attention_heads * _head_size(model)
    keys = model.num_key_value_heads * _head_size(model)
    return {
        "q": (hidden, queries),
        "k": (hidden, keys),
        "v": (hidden, keys),
        "o": (queries, hidden),
        "gate": (hidden, inner),
        "up": (hidden, inner),
        "down": (inner, hidden),
    }


def _head_size(model: PretrainedConfig) -> int:
    given = getattr(model, "head_dim", None)
    return given or model.hidden_size // model.num_attention_heads
