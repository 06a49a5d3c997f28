"""What a trainer of weighted tokens refuses."""

from typing import Any

from datasets import Dataset
from peft import PeftModel, PromptLearningConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, TrainableTokensWrapper
from trl.trainer.sft_config import SFTConfig

from wit.data.collate import COLUMNS
from wit.errors import ConfigError


def refuse_what_loses_weights(kwargs: dict[str, Any]) -> None:
    """Refuses what would train without the weights, or with some of them.

    Raises:
        ConfigError: Names the first such setting.
    """
    arguments: SFTConfig = kwargs["args"]
    parallelism = arguments.parallelism_config
    precision = "fp16" if arguments.fp16 else "bf16" if arguments.bf16 else "no"
    lost = {
        "compute_loss_func": kwargs.get("compute_loss_func") is not None,
        "data_collator": kwargs.get("data_collator") is not None,
        "label_smoothing_factor": arguments.label_smoothing_factor != 0,
        "use_liger_kernel (its fused loss knows no weights)": arguments.use_liger_kernel,
        "loss_type (give a reweighting)": arguments.loss_type != "nll",
        "packing (runtime.packing keeps the roles)": arguments.packing,
        "padding_free (runtime.packing keeps the roles)": arguments.padding_free,
        "assistant_only_loss (give weights)": arguments.assistant_only_loss,
        "completion_only_loss (give weights)": arguments.completion_only_loss,
        "max_length (rows are cut when they are prepared)": arguments.max_length is not None,
        "gradient_accumulation_steps (steps are split here)": (
            arguments.gradient_accumulation_steps != 1
        ),
        "max_steps": arguments.max_steps > 0,
        "deepspeed": arguments.deepspeed_plugin is not None,
        "fsdp (set runtime sharding: fsdp)": bool(arguments.fsdp),
        "mixed_precision (the recipe sets it)": arguments.mixed_precision != precision,
        "context or sequence parallelism": parallelism is not None
        and (parallelism.cp_enabled or parallelism.sp_enabled),
    }
    for name, is_asked in lost.items():
        if is_asked:
            raise ConfigError(f"{name}: cannot be kept together with weights of tokens")
    rows: Dataset = kwargs["train_dataset"]
    if missing := [name for name in COLUMNS if name not in rows.column_names]:
        raise ConfigError(
            f"training rows have no column {', '.join(missing)}: weights would be lost"
        )


def refuse_head(model: Any) -> None:
    """Refuses what the fused LM head would pass by: adapters, and a cap on logits.

    Raises:
        ConfigError: The head has an adapter, the adapter is a prompt, or the logits are capped in
            a way that TRL's fused head does not know.
    """
    if getattr(model.config.get_text_config(), "logits_soft_cap", None):  # of RecurrentGemma
        raise ConfigError(
            f"{type(model).__name__} caps its logits (logits_soft_cap), and the loss would not; "
            "choose another base"
        )
    if not isinstance(model, PeftModel):
        return
    head = model.get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper):  # whose weight has the trained rows
        return
    if isinstance(head, BaseTunerLayer | AuxiliaryTrainingWrapper):
        raise ConfigError(
            "adapter: the LM head cannot have an adapter, since the loss multiplies by its "
            "weight directly; leave it out"
        )
    embeddings = model.get_input_embeddings()
    is_adapted = isinstance(embeddings, BaseTunerLayer | AuxiliaryTrainingWrapper)
    if is_adapted and model.config.get_text_config().tie_word_embeddings:
        raise ConfigError(
            "adapter: the embeddings of this model are the weights of its LM head too, which "
            "cannot have an adapter; leave them out"
        )
    if isinstance(model.active_peft_config, PromptLearningConfig):
        raise ConfigError("adapters that are prompts shift the tokens away from their roles")
