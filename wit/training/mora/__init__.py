"""MoRA: a square matrix in the place of LoRA's two narrow ones, as a method of PEFT.

Importing this is all it takes: from then on ``get_peft_model``, ``PeftModel`` and ``PeftConfig``
know ``MoraConfig`` and what was saved with it. A process that only loads has to import it too.

Source: arXiv 2405.12130.
"""

from typing import Any

from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)

from wit.training.mora.config import MoraConfig, OwnPeftType
from wit.training.mora.layer import MoraLinear
from wit.training.mora.model import MoraModel
from wit.training.mora.operators import MoraType, delta_weight, matrix_size

__all__ = ["MoraConfig", "MoraLinear", "MoraModel", "MoraType", "delta_weight", "matrix_size"]


def _register() -> None:
    """Enters the method where PEFT looks methods up; doing it again changes nothing.

    PEFT's ``register_peft_method`` makes these three entries too, but only for names in its enum,
    which cannot be extended from outside, and only once in a process.

    Raises:
        ImportError: PEFT, or another package, has a method of that name.
    """
    name = OwnPeftType.MORA
    entries: list[tuple[dict[Any, Any], type]] = [
        (PEFT_TYPE_TO_CONFIG_MAPPING, MoraConfig),
        (PEFT_TYPE_TO_TUNER_MAPPING, MoraModel),
    ]
    for mapping, ours in entries:
        owner = mapping.get(name, ours).__module__
        if owner != ours.__module__:
            raise ImportError(
                f"{owner} has registered a PEFT method {name.value}: adapters of one would be "
                f"loaded as those of the other. Rename or remove that of {ours.__module__}"
            )
        mapping[name] = ours
    prefixes: dict[Any, str] = PEFT_TYPE_TO_PREFIX_MAPPING
    prefixes[name] = MoraModel.prefix


_register()
