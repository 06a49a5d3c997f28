"""A model with MoRA adapters on its linear layers."""

from typing import Any

from peft.tuners.tuners_utils import BaseTuner
from peft.utils import get_quantization_kwargs
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers.pytorch_utils import Conv1D

from wit.training.mora.layer import MoraLinear


class MoraModel(BaseTuner):
    """Puts ``MoraLinear`` in the place of the modules that a ``MoraConfig`` names."""

    prefix = "mora_"
    tuner_layer_cls = MoraLinear
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  none: the default is all

    def _create_and_replace(
        self,
        peft_config: Any,  # a MoraConfig
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        """Adds an adapter to one module.

        Raises:
            ValueError: It is not a linear layer.
        """
        if isinstance(target, MoraLinear):
            target.update_layer(adapter_name, peft_config)
            return
        if not isinstance(target, nn.Linear | Conv1D):
            raise ValueError(
                f"target_modules names {current_key}, a {type(target).__name__}; MoRA adapts "
                "torch.nn.Linear and transformers' Conv1D"
            )
        quantization: dict[str, Any] = get_quantization_kwargs(self.model)
        layer = MoraLinear(target, adapter_name, peft_config, **quantization)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        if isinstance(child, AuxiliaryTrainingWrapper):  # of embeddings of tokens, merged by now
            setattr(parent, child_name, new_module)
        else:
            super()._replace_module(parent, child_name, new_module, child)
