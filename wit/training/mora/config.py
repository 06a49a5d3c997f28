"""Settings of a MoRA adapter, as PEFT keeps them in ``adapter_config.json``."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from peft import PeftConfig

from wit.training.mora.operators import MORA_TYPES, MoraType


class OwnPeftType(str, Enum):  # noqa: UP042  PEFT takes the name out of str(): after the dot
    """The name of our method, of the shape of PEFT's ``PeftType``.

    An enum that has members cannot be extended. PEFT only looks the name up, and members of both
    are equal to their strings and hash like them, so that the "MORA" of a file finds the entry too.
    """

    MORA = "MORA"


@dataclass
class MoraConfig(PeftConfig):
    """Settings of a MoRA adapter. There is no alpha: what the matrix gives is added as it is.

    Args:
        r: Rank of a LoRA with about as many parameters; the side of each matrix follows from it.
        mora_type: ``sharing``, which the paper advises for large ``r``, or ``rotation``, for small.
        dropout: Share of input features that are dropped in training, in [0, 1).
        target_modules: Names or ends of names of modules, one regular expression for all, or
            ``all-linear``: all but the output layer.
        exclude_modules: Names, ends of names, or one regular expression.
        layers_to_transform: Indices of layers; unset: all. Only with a list of modules.
        layers_pattern: Name of the list of layers, where it is none of the usual ones.
        trainable_token_indices: Rows of embeddings that are trained beside the matrices, by module.

    Raises:
        ValueError: One of them is out of range, or two do not go together.
    """

    r: int = 8
    mora_type: MoraType = "rotation"
    dropout: float = 0.0
    target_modules: list[str] | set[str] | str | None = "all-linear"
    exclude_modules: list[str] | set[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    trainable_token_indices: dict[str, list[int]] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = OwnPeftType.MORA  # a file gives a string
        if isinstance(self.r, bool) or not isinstance(self.r, int) or self.r < 1:
            raise ValueError(f"r of MoRA is {self.r!r}; it has to be a whole number from 1 on")
        if self.mora_type not in MORA_TYPES:
            raise ValueError(f"mora_type is {self.mora_type!r}; there are {', '.join(MORA_TYPES)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout of MoRA is {self.dropout!r}; it has to be in [0, 1)")
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            raise ValueError(
                "layers_to_transform needs target_modules as a list of names: a regular expression "
                "names layers itself, and all-linear means all layers"
            )
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError("layers_pattern means nothing without layers_to_transform")
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)

    def to_dict(self) -> dict[str, Any]:
        """All settings; sets as sorted lists, so that the same adapter is the same file."""
        settings = super().to_dict()
        return {k: sorted(v) if isinstance(v, set) else v for k, v in settings.items()}
