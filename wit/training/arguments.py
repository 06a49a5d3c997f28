"""Trainer arguments: what the recipe decides, what the runtime decides, and nothing silent."""

import math
from pathlib import Path
from typing import Any

from wit.artifacts import CHECKPOINTS
from wit.config import Runtime
from wit.errors import ConfigError
from wit.models import choose_device
from wit.recipes import RungRecipe, SFTKnobs, TrainingKnobs


def training_arguments(
    recipe: TrainingKnobs, seed: int, runtime: Runtime, scratch: Path, num_rows: int
) -> dict[str, Any]:
    """Keyword arguments that ``SFTConfig`` and ``DPOConfig`` share.

    Every value that they default silently is given: bfloat16, gradient checkpointing, clipping,
    schedule, seed, order of rows, reporting.

    Raises:
        ConfigError: The device cannot compute in that precision.
    """
    device = choose_device(runtime.device)
    if recipe.precision == "float16" and device.type == "cpu":
        raise ConfigError("precision float16 needs a GPU; use float32 or bfloat16")
    # One kernel for all weights. On a CPU it gains nothing; and accelerate would not know of steps
    # that float16's loss scaler skips, so that the schedule would go on.
    is_fused = device.type == "cuda" and recipe.precision != "float16"
    micro_batch = largest_divisor(recipe.examples_per_step, runtime.micro_batch_size)
    return {
        "output_dir": str(scratch / CHECKPOINTS),
        "num_train_epochs": recipe.num_epochs,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": recipe.examples_per_step // micro_batch,
        "average_tokens_across_devices": True,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule
        if recipe.schedule != "constant"
        else "constant_with_warmup",
        "warmup_steps": round(recipe.warmup_fraction * num_steps(recipe, num_rows)),
        "optim": "adamw_torch_fused" if is_fused else "adamw_torch",
        "adam_beta1": recipe.adam_beta1,
        "adam_beta2": recipe.adam_beta2,
        "adam_epsilon": recipe.adam_epsilon,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,  # 0: measured, not clipped
        "bf16": recipe.precision == "bfloat16",
        "fp16": recipe.precision == "float16",
        "use_cpu": device.type == "cpu",
        "activation_checkpointing": runtime.gradient_checkpointing,
        "seed": seed,
        "data_seed": seed,
        "dataloader_drop_last": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "max_length": None,  # rows were cut when they were prepared
        "eval_strategy": "no",
        "save_strategy": "no",  # by time: see callbacks
        "save_total_limit": None,  # older ones are deleted in callbacks, in a safe order
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # a loss that is not finite must be seen
        "report_to": "none",  # wit.lineage owns the run
        "disable_tqdm": True,
        "remove_unused_columns": True,
        "push_to_hub": False,
    }


def num_steps(recipe: TrainingKnobs, num_rows: int) -> int:
    """Optimizer steps of a training; the last one of an epoch may have fewer rows."""
    return recipe.num_epochs * -(-num_rows // recipe.examples_per_step)


def step_of(rung: RungRecipe, num_rows: int) -> int:
    """The optimizer step after which an SFT has come to a rung; not the last one, if it has two."""
    num_all = num_steps(rung, num_rows)
    return max(1, min(math.ceil(round(rung.share * num_all, 9)), num_all - 1))


def sft_arguments(
    recipe: SFTKnobs, seed: int, runtime: Runtime, scratch: Path, num_rows: int
) -> dict[str, Any]:
    """As ``training_arguments``, for a trainer that splits steps into micro-batches itself."""
    arguments = training_arguments(recipe, seed, runtime, scratch, num_rows)
    arguments["per_device_train_batch_size"] = recipe.examples_per_step  # shown only
    arguments["gradient_accumulation_steps"] = 1
    return arguments


def largest_divisor(total: int, limit: int) -> int:
    """The largest divisor of ``total`` that is at most ``limit``."""
    return max(d for d in range(1, min(total, limit) + 1) if total % d == 0)
