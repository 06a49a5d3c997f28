"""Low-rank adapters: put on a model, kept beside it, merged into it."""

import json
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from wit.errors import ArtifactError, ConfigError, first_line
from wit.recipes import LoRAKnobs

ADAPTER = "adapter"  # folder of an artifact, beside the merged model
TRAINED = {"inference_mode": False}


def with_adapters(model: PreTrainedModel, lora: LoRAKnobs, key: str) -> PeftModel:
    """The model with new adapters, which alone are trained; set a seed before.

    Args:
        model: Frozen from here on.
        lora: Rank, strength, and which modules.
        key: Of the study that names the modules, for messages.

    Raises:
        ConfigError: It has no modules of those names.
    """
    modules = lora.modules if isinstance(lora.modules, str) else list(lora.modules)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]  also fractions
        target_modules=modules,
        task_type="CAUSAL_LM",
    )
    try:
        found: Any = get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"{key}: {first_line(error)}") from None
    return found


def with_saved_adapters(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The model with adapters that ``save_adapter`` wrote, which alone are trained on.

    Read as data: the library's own reader would take a pickle where there is no safetensors file.

    Raises:
        ArtifactError: They are not of this model.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    found: Any = get_peft_model(model, LoraConfig.from_peft_type(**config | TRAINED))
    weights = load_file(folder / "adapter_model.safetensors")
    report = set_peft_model_state_dict(found, weights)
    missing = [name for name in report.missing_keys if "lora_" in name]
    if missing or report.unexpected_keys:
        name = [*missing, *report.unexpected_keys][0]
        raise ArtifactError(f"{folder}: its adapters are not of this model: {name} does not fit")
    return found


def merged(model: Any) -> Any:
    """The plain model, with adapters merged into it if it has any."""
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def save_adapter(model: Any, folder: Path) -> None:
    """Writes the adapters by themselves, so that an alignment can go on with them."""
    if not isinstance(model, PeftModel):
        return
    # Unset, the library asks the hub whether the vocabulary has grown.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None  # a path of this machine
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
