"""Models, loaded so that every silent default is said aloud."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.distributed.configuration_utils import DistributedConfig

from wit.errors import BaseModelError, StageError, TrainingError, first_line


def choose_device(device: str) -> torch.device:
    """The device that a runtime asks for.

    Raises:
        BaseModelError: CUDA is asked for by name and is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BaseModelError("runtime device is 'cuda' but torch sees no GPU; use 'auto' or 'cpu'")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def load_model(
    folder: Path,
    device: torch.device | str | None = "cpu",
    *,
    attention: str | None = None,
    num_shards: int = 1,
    quantization: Any = None,
) -> PreTrainedModel:
    """A causal language model in float32, in evaluation mode.

    With a quantization, as the library takes it, its linear layers have fewer bits.

    Weights stay float32 whatever they are stored in: at usual learning rates a bfloat16 weight
    would hardly move, since most steps are smaller than its resolution.

    Raises:
        BaseModelError: The folder holds no such model, or not all of its weights.
        TrainingError: A weight is not finite.
    """
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation=attention,
            distributed_config=DistributedConfig(fsdp_size=num_shards) if num_shards > 1 else None,
            quantization_config=quantization,
            device_map={"": device} if quantization is not None else None,
            local_files_only=True,
            use_safetensors=True,  # other formats are pickles, which run what is in them
            trust_remote_code=False,  # unset, the library asks whoever sits there
            output_loading_info=True,
        )
    except Exception as error:  # as above
        raise BaseModelError(
            f"{folder}: no causal language model can be loaded: {first_line(error)}"
        ) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])  # the library fills them with random numbers
    if missing:
        such = ", ".join(missing[:3])
        raise BaseModelError(f"{folder}: {len(missing)} weights are missing, such as {such}")
    check_finite(model, folder)
    _remove_dropout(model)
    if num_shards == 1 and quantization is None:
        model.to(torch.device(device))  # pyright: ignore[reportArgumentType]  a decorator upstream
    return model.eval()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode, float32, no gradients; afterwards all is as before.

    A training of lower precision has wrapped the model's forward; here it is the plain one again,
    unless the attention knows no float32.

    A forward without its backward leaves the outermost weights of a sharded model gathered. An
    optimizer that is made then holds copies: those weights would never be trained.
    """
    was_training, forward = model.training, model.forward
    is_wrapped = hasattr(model, "_original_forward")  # as accelerate names it
    if is_wrapped and not model.config._attn_implementation.startswith("flash"):
        model.forward = model._original_forward
    model.eval()
    try:
        with torch.no_grad():  # not inference mode: weights that are sharded are gathered in place
            yield
    finally:
        if is_wrapped:
            model.forward = forward
        model.train(was_training)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def _remove_dropout(model: PreTrainedModel) -> None:
    """Randomness of a forward would make results depend on how a step is split into forwards."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def check_finite(model: PreTrainedModel, where: Path | str) -> None:
    """Refuses a model with NaN or infinite weights.

    Raises:
        TrainingError: Names the first such weight.
    """
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise TrainingError(f"{where}: weight {name} is not finite; the training diverged")


def check_outputs(model: PreTrainedModel, where: Path | str) -> None:
    """Finite weights can overflow on their way; NaN would then count as an ordinary wrong answer.

    Raises:
        StageError: The output after some token is NaN or infinite.
    """
    tokens = torch.arange(min(model.config.vocab_size, 16), device=model.device)
    with torch.no_grad():
        logits = model(tokens[None]).logits
    if not logits.isfinite().all():
        raise StageError(
            f"{where}: the model's outputs are NaN or infinite though its weights are not, so it "
            "cannot be evaluated; its training diverged. Try a smaller learning rate."
        )
