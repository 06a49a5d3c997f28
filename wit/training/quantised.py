"""Bases whose linear layers have 4 bits per weight, for adapters that are trained on them.

Source: arXiv 2305.14314: NF4, with quantised constants.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from wit.adapter_recipes import QUANTISED, AdapterKnobs
from wit.errors import ConfigError, first_line
from wit.models import choose_device, load_model
from wit.training.adapters import merged, save_adapter, with_saved_adapters

PACKAGE = "bitsandbytes"
HOW = f"needs the package {PACKAGE}, which is not installed: pip install {PACKAGE}; or set lora"


def is_quantised(adapter: AdapterKnobs | None) -> bool:
    """Whether the weights under an adapter are."""
    return adapter is not None and adapter.method in QUANTISED


def load_quantised(
    base: Path, adapter: AdapterKnobs, device: str, *, attention: str | None = None
) -> PreTrainedModel:
    """The base, its linear layers quantised but for the LM head.

    Args:
        base: A folder.
        adapter: That shall be put on it.
        device: As a runtime names it.
        attention: As the library names it; None: what it takes for the model.

    Raises:
        ConfigError: The package is not there, or cannot compute with this model here.
    """
    if find_spec(PACKAGE) is None:
        raise ConfigError(f"adapter {adapter.method}: {HOW}")
    from bitsandbytes.nn.modules import Linear4bit

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=bool(adapter.double_quantization),
        bnb_4bit_compute_dtype=torch.float32,
    )
    place = choose_device(device)
    try:
        model: Any = load_model(base, place, attention=attention, quantization=quantization)
        for module in model.modules():
            if isinstance(module, Linear4bit):
                # On some processors it would round weights to bfloat16 once it has evaluated.
                module.support_avx512bf16_for_cpu = False
                module(torch.zeros(2, module.in_features, device=place))
    except (RuntimeError, ValueError, ImportError) as error:
        raise ConfigError(
            f"adapter {adapter.method}: {PACKAGE} cannot compute with {base} on this machine "
            f"({place.type}): {first_line(error)}; set lora, or use a GPU"
        ) from None
    return model


@contextmanager
def adapters_kept(model: Any) -> Iterator[None]:
    """Has what is trained on quantised weights as it was, after TRL has made a trainer of it.

    It rounds adapters to bfloat16, of whose resolution most steps fall short.
    """
    is_at_risk = getattr(model, "is_loaded_in_4bit", False)
    adapters = [w for w in model.parameters() if w.requires_grad] if is_at_risk else []
    before = [weight.data for weight in adapters]
    yield
    for weight, data in zip(adapters, before, strict=True):
        weight.data = data


def merge(model: Any, base: Path, adapter: AdapterKnobs | None) -> Any:
    """The plain model, in float32, with what was trained merged into it.

    Adapters of quantised weights are merged into what these stand for: merged into weights of 4
    bits, they would be rounded to those.

    Args:
        model: As it was trained.
        base: Folder of the model that its adapters are of.
        adapter: How they were put on it; None: all weights were trained.
    """
    if adapter is None or not is_quantised(adapter):
        return merged(model)
    with tempfile.TemporaryDirectory() as aside:
        save_adapter(model, Path(aside))
        quantised: Any = load_quantised(base, adapter, str(model.device))
        return merged(with_saved_adapters(quantised.dequantize().float(), Path(aside)))
