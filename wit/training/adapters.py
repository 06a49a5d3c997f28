"""Adapters: put on a model, kept beside it, merged into it."""

import copy
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.other import TrainableTokensWrapper
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from wit.adapter_recipes import AdapterKnobs
from wit.errors import ArtifactError, ConfigError, first_line
from wit.training.mora import MoraConfig

WEIGHTS = "adapter_model.safetensors"
ADAPTER = "adapter"  # folder of an artifact, beside the merged model
TRAINED = {"inference_mode": False}
ALL_LINEAR = "all-linear"


def with_adapters(
    model: PreTrainedModel, adapter: AdapterKnobs, key: str, tokens: Sequence[int] = ()
) -> PeftModel:
    """The model with new adapters, which alone are trained; set a seed before.

    Args:
        model: Frozen from here on.
        adapter: Its method, and the knobs of that.
        key: Of the study that holds it, for messages.
        tokens: Whose embeddings are trained too, and whose rows of the LM head.

    Raises:
        ConfigError: It has no modules of those names, or PEFT does not know the config.
    """
    try:
        config: Any = _config_of(adapter)
        if tokens:
            config.trainable_token_indices = _rows_of_tokens(model, tokens)
        found = _adapted(model, config)
        if adapter.takes_from_weights:  # once: whoever adds another by this config shall not
            found.active_peft_config.init_lora_weights = True
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"{key}: {first_line(error)}") from None
    if not any(weight.requires_grad for weight in found.parameters()):
        raise ConfigError(f"{key}: {adapter.method} has no weight to train; see its config")
    return found


def _adapted(model: PreTrainedModel, config: PeftConfig) -> Any:
    found: Any = get_peft_model(model, config)
    head: Any = found.get_base_model().get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper):
        # TRL's fused head reads it, and the wrapper passes on nothing but weights. It stays a
        # parameter of what is wrapped: here it is none, so that no state has it twice.
        vars(head)["bias"] = head.original_module.bias
    return found


def _rows_of_tokens(model: PreTrainedModel, tokens: Sequence[int]) -> dict[str, list[int]]:
    """By module; where embeddings are the weights of the head too, PEFT sees to the head."""
    embeddings: list[Any] = [model.get_input_embeddings()]
    if not model.config.get_text_config().tie_word_embeddings:
        embeddings.append(model.get_output_embeddings())
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(one)]: [*tokens] for one in embeddings}


def _config_of(adapter: AdapterKnobs) -> PeftConfig:
    modules = adapter.modules if isinstance(adapter.modules, str) else [*(adapter.modules or ())]
    if adapter.method == "mora":
        return MoraConfig(
            r=adapter.rank or 0,
            mora_type=adapter.type or "rotation",
            target_modules=modules,
            task_type="CAUSAL_LM",
        )
    if adapter.config is not None:
        kind: Any = PEFT_TYPE_TO_CONFIG_MAPPING[adapter.method.upper()]  # pyright: ignore[reportArgumentType]
        # LN tuning is of norms, whose names PEFT knows for usual models.
        has_targets = (
            adapter.method != "ln_tuning" and "target_modules" in kind.__dataclass_fields__
        )
        of_all = {"target_modules": ALL_LINEAR} if has_targets else {}
        return kind(**of_all | adapter.config, task_type="CAUSAL_LM")
    init: Any = True if adapter.init == "default" else adapter.init
    return LoraConfig(
        r=adapter.rank or 0,
        lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]  also fractions
        target_modules=modules,
        use_rslora=bool(adapter.rslora),
        use_dora=bool(adapter.dora),
        init_lora_weights=init,
        task_type="CAUSAL_LM",
    )


def num_trained(base: Path, adapter: AdapterKnobs, key: str, num_tokens: int = 0) -> int:
    """Weights that are trained with an adapter, counted on a model without any; nothing is loaded.

    Args:
        base: Folder of the model.
        adapter: That it shall have.
        key: Of the study that holds it, for messages.
        num_tokens: Whose embeddings are trained too.

    Raises:
        ConfigError: It does not fit the model.
    """
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    plain = adapter if adapter.init is None else adapter.model_copy(update={"init": "default"})
    try:
        with warnings.catch_warnings():  # PEFT asks the model by a name that it had before
            warnings.simplefilter("ignore", FutureWarning)
            found = with_adapters(model, plain, key, range(num_tokens))
    except RuntimeError as error:  # of sizes that no tensor has
        raise ConfigError(f"{key}: {first_line(error)}") from None
    return sum(weight.numel() for weight in found.parameters() if weight.requires_grad)


def with_saved_adapters(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The model with adapters that ``save_adapter`` wrote, which alone are trained on.

    Read as data: the library's own reader would take a pickle where there is no safetensors file.

    Raises:
        ArtifactError: They are not of this model.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    kind: Any = PEFT_TYPE_TO_CONFIG_MAPPING[config["peft_type"]]
    found = _adapted(model, kind.from_peft_type(**config | TRAINED))
    weights = load_file(folder / WEIGHTS)
    report = set_peft_model_state_dict(found, weights)
    trained = {name for name, weight in found.named_parameters() if weight.requires_grad}
    missing = [name for name in report.missing_keys if name in trained]
    if missing or report.unexpected_keys:
        name = [*missing, *report.unexpected_keys][0]
        raise ArtifactError(f"{folder}: its adapters are not of this model: {name} does not fit")
    return found


def merged(model: Any) -> Any:
    """The plain model, with adapters merged into it if it has any."""
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def save_adapter(model: Any, folder: Path, begun: PeftModel | None = None) -> None:
    """Writes the adapters by themselves, so that an alignment can go on with them.

    Args:
        model: With adapters or without, of which nothing is written.
        folder: Where to.
        begun: The model as it was before training, if its adapters took what they began with off
            the weights. Written are adapters of the weights as they were then, of twice the rank.
    """
    if not isinstance(model, PeftModel):
        return
    # Unset, the library asks the hub whether the vocabulary has grown.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    if begun is not None:
        _save_as_difference(model, begun, folder)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None  # a path of this machine
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _save_as_difference(model: PeftModel, begun: PeftModel, folder: Path) -> None:
    """In place of B A, of weights that lack B0 A0, writes [B, -B0] [A; A0], of whole ones."""
    now, before = (get_peft_model_state_dict(one) for one in (model, begun))
    weights = {name: _with_taken(name, weight, before[name]) for name, weight in now.items()}
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / WEIGHTS)
    config: Any = copy.deepcopy(model.active_peft_config)
    # Whose updates count as often as before: alpha / rank times, or alpha / sqrt(rank).
    config.lora_alpha *= math.sqrt(2) if config.use_rslora else 2
    config.r *= 2
    config.save_pretrained(str(folder))


def _with_taken(name: str, weight: torch.Tensor, begun: torch.Tensor) -> torch.Tensor:
    if "lora_A" in name:
        return torch.cat([weight, begun])
    if "lora_B" in name:
        return torch.cat([weight, -begun], dim=1)
    return weight  # of tokens
