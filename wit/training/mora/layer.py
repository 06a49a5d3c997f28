"""A linear layer with MoRA adapters beside its weight."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from peft.utils import resolve_quantization_backend
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from wit.training.mora.config import MoraConfig
from wit.training.mora.operators import (
    MoraType,
    compress,
    decompress,
    delta_weight,
    matrix_size,
)


class MoraLinear(nn.Module, BaseTunerLayer):
    """``base(x) + decompress(M compress(x))``, for each adapter with a matrix M of its own.

    M is all that is trained, and starts at 0, so the layer starts as the base layer. Between
    compressing and decompressing there is one product of each block with M; the matrix that all
    three amount to is made for merging only.

    Args:
        base_layer: An ``nn.Linear``, also a quantised one, or a ``Conv1D`` of transformers.
        adapter_name: Of the first adapter.
        config: Of the first adapter.
        quantization: What PEFT needs to know of a quantised model.

    Source: arXiv 2405.12130; no line is copied from its code.
    """

    adapter_layer_names = ("mora_matrix",)
    other_param_names = ("mora_dropout", "mora_type", "mora_scale")

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: MoraConfig, **quantization: Any
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        base: Any = self.get_base_layer()
        self.is_transposed = isinstance(base, Conv1D)  # its weight is [in, out]
        if self.is_transposed:
            self.in_features, self.out_features = base.weight.shape
        else:
            self.in_features, self.out_features = base.in_features, base.out_features
        self.quantization_backend = resolve_quantization_backend(base, **quantization)
        self.mora_matrix = nn.ParameterDict()
        self.mora_dropout = nn.ModuleDict()
        self.mora_type: dict[str, MoraType] = {}
        self.mora_scale: dict[str, float] = {}
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: MoraConfig) -> None:
        """Adds an adapter, of a size and type of its own, that changes nothing yet."""
        size = matrix_size(self.in_features, self.out_features, config.r, config.mora_type)
        self.mora_type[adapter_name] = config.mora_type
        self.mora_scale[adapter_name] = 1.0
        self.mora_dropout[adapter_name] = nn.Dropout(config.dropout)
        self.mora_matrix[adapter_name] = nn.Parameter(torch.zeros(size, size))
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output, and on it what the active adapters add, in its dtype."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters or self.merged:
            return result
        dtype = result.dtype
        if self.quantization_backend is not None:
            result = self.quantization_backend.maybe_clone_base_result(result)
        for name in self.active_adapters:
            if name in self.mora_matrix:
                result = result + self._update(x, name)
        return result.to(dtype)  # once, after all are added

    def _update(self, x: Float[Tensor, "*rows in"], name: str) -> Float[Tensor, "*rows out"]:
        matrix = self.mora_matrix[name]
        if not _casts_by_itself(x.device.type):
            x = self._cast_input_dtype(x, matrix.dtype)
        x = self.mora_dropout[name](x)
        blocks = compress(x, matrix.shape[0], self.out_features, self.mora_type[name])
        y = F.linear(blocks, matrix)
        scale = self.mora_scale[name]
        return decompress(y if scale == 1 else y * scale, self.out_features)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """What merging adds to the base weight, laid out like it; in float32 or more."""
        matrix = self.mora_matrix[adapter].detach()
        # Half precision would round it before the sum with the weight is rounded.
        exact = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
        delta = delta_weight(exact, self.in_features, self.out_features, self.mora_type[adapter])
        delta = delta * self.mora_scale[adapter]
        return delta.T if self.is_transposed else delta

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Adds adapters to the base weight; a quantised one is rounded to its few values again.

        Args:
            safe_merge: Leave the weight alone if it would not be finite.
            adapter_names: Unset: the active ones.

        Raises:
            ValueError: It would not be finite.
        """
        for name in check_adapters_to_merge(self, adapter_names):
            if name in self.mora_matrix:
                weight = self.get_base_weight()
                merged = (weight + self.get_delta_weight(name)).to(weight.dtype)
                if safe_merge and not torch.isfinite(merged).all():
                    raise ValueError(f"merged with adapter {name}, weights would not be finite")
                self.set_base_weight(merged)
                self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Takes merged adapters off the base weight again, up to the rounding of its dtype."""
        while self.merged_adapters:
            name = self.merged_adapters.pop()
            weight = self.get_base_weight()
            self.set_base_weight((weight - self.get_delta_weight(name)).to(weight.dtype))

    def scale_layer(self, scale: float) -> None:
        """Multiplies what the active adapters add; for trying out, it is not saved.

        Raises:
            ValueError: One of them is merged: what was added could not be taken off any more.
        """
        for name in self._own_active_adapters():
            self.mora_scale[name] *= scale

    def unscale_layer(self, scale: float | None = None) -> None:
        """Takes back ``scale_layer`` of that scale; unset: all of them.

        Raises:
            ValueError: An active adapter is merged.
        """
        for name in self._own_active_adapters():
            self.mora_scale[name] = 1.0 if scale is None else self.mora_scale[name] / scale

    def _own_active_adapters(self) -> list[str]:
        names = [name for name in self.active_adapters if name in self.mora_matrix]
        for name in names:
            if name in self.merged_adapters:
                raise ValueError(f"adapter {name} is merged; unmerge it before it is scaled")
        return names

    def __repr__(self) -> str:
        return f"mora.{super().__repr__()}"


def _casts_by_itself(device_type: str) -> bool:
    """Whether the product with M is under autocast, so that its input may have any dtype."""
    available = torch.amp.is_autocast_available(device_type)  # else asking further is an error
    return available and torch.is_autocast_enabled(device_type)
