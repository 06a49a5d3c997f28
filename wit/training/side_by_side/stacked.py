"""Linear layers with as many adapters as there are cells, each for the rows of its own cell."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from wit.errors import ConfigError
from wit.recipes import SFTRecipe
from wit.training.mora import MoraLinear, MoraType
from wit.training.mora.operators import compress, decompress
from wit.training.sft import trainable

NAME = "default"  # of an adapter, as PEFT calls the only one


class Part(NamedTuple):
    """What a layer has of an adapter."""

    layer: str  # name of the module
    shapes: tuple[torch.Size, ...]
    scale: float  # LoRA: of what the two matrices give
    mora_type: MoraType | None  # None: it is LoRA


class Adapters(nn.Module):
    """The weights of all cells' adapters, a row for each cell: one parameter for the optimizer."""

    def __init__(self, rows: Float[Tensor, "cells weights"], parts: Sequence[Part]) -> None:
        """Keeps them.

        Args:
            rows: As ``weights_of`` gives them.
            parts: In the order in which a row has them.
        """
        super().__init__()
        self.weights = nn.Parameter(rows)
        self.parts = tuple(parts)
        self.shown = slice(0, len(rows))
        self.spread: list[list[Tensor]] = []  # by part; of the cells that are shown

    def before_forward(self, *_: Any) -> None:
        """Cuts rows into matrices: once, so that backward puts gradients together once."""
        shapes = [shape for part in self.parts for shape in part.shapes]
        pieces = self.weights[self.shown].split([shape.numel() for shape in shapes], dim=1)
        found = iter([p.unflatten(1, shape) for p, shape in zip(pieces, shapes, strict=True)])
        self.spread = [[next(found) for _ in part.shapes] for part in self.parts]

    @contextmanager
    def only(self, cell: int) -> Iterator[None]:
        """Forwards are of rows of this cell alone, any number of them."""
        before, self.shown = self.shown, slice(cell, cell + 1)
        try:
            yield
        finally:
            self.shown = before


class StackedLinear(nn.Module):
    """A frozen layer's output, and on it what the adapter of each row's cell adds.

    Tokens come in groups of one size, a group for each cell that is shown, in their order.
    """

    def __init__(self, base_layer: nn.Module, adapters: Adapters, index: int) -> None:
        """Keeps which part of the adapters is its own."""
        super().__init__()
        self.base_layer = base_layer
        self.part = adapters.parts[index]
        self.index = index
        self._adapters = [adapters]  # in a list, it is no child: it holds weights of all layers

    def forward(self, x: Tensor) -> Tensor:
        """As PEFT's layer with one adapter, cell by cell."""
        result = self.base_layer(x)
        matrices = self._adapters[0].spread[self.index]
        groups = x.reshape(len(matrices[0]), -1, x.shape[-1])
        outputs = result.reshape(*groups.shape[:2], -1)
        if self.part.mora_type is None:
            inner, outer = matrices
            low = torch.bmm(groups, inner.mT)
            found = torch.baddbmm(outputs, low, outer.mT, alpha=self.part.scale)
        else:
            found = outputs + _mora(groups, matrices[0], outputs.shape[-1], self.part.mora_type)
        return found.to(result.dtype).reshape(result.shape)


def _mora(
    groups: Float[Tensor, "cells tokens in"],
    matrices: Float[Tensor, "cells size size"],
    out_features: int,
    mora_type: MoraType,
) -> Float[Tensor, "cells tokens out"]:
    blocks = compress(groups, matrices.shape[-1], out_features, mora_type)
    applied = torch.bmm(blocks.flatten(1, 2), matrices.mT)
    return decompress(applied.reshape(blocks.shape), out_features)


def stack(plain: PreTrainedModel, recipes: Sequence[SFTRecipe]) -> Adapters:
    """Puts the adapters of all recipes on a model, each as its own seed begins it.

    Args:
        plain: Changed in place: frozen, and with a ``StackedLinear`` for each adapted layer.
        recipes: Differ in weights and seed only.

    Raises:
        ConfigError: A layer is adapted in a way that is not known here.
    """
    rows, parts = [], []
    model: Any = plain
    for recipe in recipes:
        adapted = trainable(recipe, model)
        parts = parts_of(adapted)
        rows.append(weights_of(adapted))
        model = adapted.unload()
    adapters = Adapters(torch.stack(rows), parts)
    for index, part in enumerate(parts):
        layer = StackedLinear(model.get_submodule(part.layer), adapters, index)
        model.set_submodule(part.layer, layer)
    model.adapters_of_cells = adapters
    model.register_forward_pre_hook(adapters.before_forward)
    return adapters


def parts_of(adapted: PeftModel) -> list[Part]:
    """What an adapter consists of.

    Raises:
        ConfigError: A layer is adapted in a way that is not known here.
    """
    parts = []
    for name, layer in _layers_of(adapted).items():
        shapes = tuple(weight.shape for weight in _matrices(layer))
        scale = layer.scaling[NAME] if isinstance(layer, LoraLinear) else 1.0
        mora_type = layer.mora_type[NAME] if isinstance(layer, MoraLinear) else None
        parts.append(Part(name, shapes, scale, mora_type))
    num_known = sum(shape.numel() for part in parts for shape in part.shapes)
    num_trained = sum(w.numel() for w in adapted.parameters() if w.requires_grad)
    if num_known != num_trained:
        raise ConfigError(
            f"{num_trained - num_known} weights of the adapter are not of linear layers, so cells "
            "cannot be trained side by side; train them one after another"
        )
    return parts


def weights_of(adapted: PeftModel) -> Float[Tensor, " weights"]:
    """All weights of an adapter in one row, in the order of its parts."""
    matrices = (matrix for layer in _layers_of(adapted).values() for matrix in _matrices(layer))
    return torch.cat([matrix.detach().flatten() for matrix in matrices])


@torch.no_grad()
def set_weights(adapted: PeftModel, row: Float[Tensor, " weights"]) -> None:
    """What ``weights_of`` gives from then on."""
    matrices = [matrix for layer in _layers_of(adapted).values() for matrix in _matrices(layer)]
    pieces = row.split([matrix.numel() for matrix in matrices])
    for matrix, piece in zip(matrices, pieces, strict=True):
        matrix.copy_(piece.reshape(matrix.shape))


def _layers_of(adapted: PeftModel) -> dict[str, Any]:
    model: Any = adapted.get_base_model()
    return {name: one for name, one in model.named_modules() if isinstance(one, BaseTunerLayer)}


def _matrices(layer: Any) -> list[Any]:
    if type(layer) is LoraLinear and not layer.lora_variant:
        return [layer.lora_A[NAME].weight, layer.lora_B[NAME].weight]
    if isinstance(layer, MoraLinear) and layer.quantization_backend is None:
        return [layer.mora_matrix[NAME]]
    raise ConfigError(
        f"an adapter of {type(layer).__name__} cannot be trained beside others; train cells one "
        "after another"
    )
