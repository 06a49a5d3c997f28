"""Small models and layers with MoRA adapters that do something."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from wit.training.mora import MoraConfig, MoraLinear
from wit.training.mora.operators import MoraType

TOKENS = torch.arange(22).reshape(2, 11)


def generic(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def llama(dtype: torch.dtype = torch.float32) -> Any:
    """The same each time, with fewer heads for keys than for queries."""
    config = LlamaConfig(
        vocab_size=30,
        hidden_size=24,
        intermediate_size=46,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config)
    return model.eval().to(dtype)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def layers(model: nn.Module) -> list[MoraLinear]:
    return [module for module in model.modules() if isinstance(module, MoraLinear)]


def train(model: nn.Module, adapter: str = "default") -> None:
    """In place of training: sets all matrices of an adapter, each differently."""
    for seed, layer in enumerate(layers(model)):
        matrix = layer.mora_matrix[adapter]
        matrix.data = 0.1 * generic(*matrix.shape, seed=seed).to(matrix)


def layer_of(mora_type: MoraType, dtype: torch.dtype = torch.float32) -> Any:
    """From 13 to 10 features, trained."""
    torch.manual_seed(0)
    config = MoraConfig(r=2, mora_type=mora_type)
    layer = MoraLinear(nn.Linear(13, 10, dtype=dtype), "default", config)
    train(layer)
    return layer
