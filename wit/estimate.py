"""What a plan will cost, before it is run: tokens, steps, time, disk and memory."""

import json
import tempfile
from pathlib import Path
from typing import Any

from wit.artifacts import Artifact
from wit.config import Runtime, Settings, TrainingKnobs
from wit.plan import Plan
from wit.workers import threads_per_worker

SAMPLE_ROWS = 200  # prepared for the estimate when a data set is not prepared yet
FLOPS_PER_THREAD = 1.5e10  # float32 matrix products of small models on a common CPU core
FLOPS_OF_GPU = 1e14  # bfloat16, at a usual utilisation
BYTES_PER_WEIGHT = 16  # float32 weight, gradient, and two AdamW moments


class DataSize(Settings):
    """How much there is to train on."""

    num_rows: int
    tokens_per_row: float
    is_estimated: bool  # from a sample; exact once the data set is prepared


class Estimate(Settings):
    """Cost of what is still to be made."""

    sft_tokens: int  # over all SFT trainings to make, epochs counted
    dpo_tokens: int
    optimizer_steps: int
    seconds: float  # rough: a factor of three either way
    disk_bytes: int
    peak_memory_bytes: int  # of one training, rough
    instructions: DataSize
    preferences: DataSize


def estimate(plan: Plan, runtime: Runtime) -> Estimate:
    """The cost of the stages of a plan that do not exist yet."""
    instructions, preferences = _data_sizes(plan)
    num_weights, vocabulary, hidden, layers = _model_size(plan.base.path)
    to_make = [c for c in plan.cells if not c.sft.exists()]
    to_align = [c for c in plan.cells if not c.dpo.exists()]
    num_trainings = len(to_make) + len(to_align)
    sft, dpo = plan.study.sft, plan.study.dpo
    sft_tokens = round(len(to_make) * sft.num_epochs * _tokens(instructions))
    dpo_tokens = round(len(to_align) * dpo.num_epochs * _tokens(preferences))
    # Forward and backward take 6 operations per weight and token; the reference's forward 2 more.
    operations = num_weights * (6 * sft_tokens + 6 * dpo_tokens + 2 * dpo_tokens / dpo.num_epochs)
    speed = _speed(runtime)
    steps = len(to_make) * _steps(sft, instructions) + len(to_align) * _steps(dpo, preferences)
    micro_batch = min(runtime.micro_batch_size, sft.examples_per_step)
    tokens_in_memory = micro_batch * instructions.tokens_per_row
    activations = tokens_in_memory * (hidden * layers * 34 + min(vocabulary, 32_768)) * 4
    model_bytes = 4 * num_weights
    return Estimate(
        sft_tokens=sft_tokens,
        dpo_tokens=dpo_tokens,
        optimizer_steps=steps,
        seconds=round(operations / speed, 1),
        disk_bytes=model_bytes * (num_trainings + 3 * min(num_trainings, runtime.num_workers)),
        peak_memory_bytes=round(num_weights * BYTES_PER_WEIGHT + activations),
        instructions=instructions,
        preferences=preferences,
    )


def same_objectives(plan: Plan) -> dict[str, list[str]]:
    """Pairs of weights that are one objective, by the first of them: they lie on one ray.

    AdamW without clipping does not see the scale of a loss, only the ratio of the weights.
    """
    by_ray: dict[tuple[float, ...], list[str]] = {}
    is_scale_free = plan.study.sft.max_grad_norm == 0
    for weights in plan.study.weights:
        key = weights.ray if is_scale_free else tuple(weights.by_role().values())
        by_ray.setdefault(key, []).append(str(weights))
    return {names[0]: names for names in by_ray.values()}


def _tokens(size: DataSize) -> float:
    return size.num_rows * size.tokens_per_row


def _steps(knobs: TrainingKnobs, size: DataSize) -> int:
    return knobs.num_epochs * -(-size.num_rows // knobs.examples_per_step)


def _speed(runtime: Runtime) -> float:
    import torch

    if runtime.device != "cpu" and torch.cuda.is_available():
        return FLOPS_OF_GPU * runtime.num_workers
    return FLOPS_PER_THREAD * threads_per_worker(runtime) * runtime.num_workers


def _model_size(folder: Path) -> tuple[int, int, int, int]:
    """Weights, vocabulary, hidden size and layers, from headers alone."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    num_weights = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                count = 1
                for length in tensor["shape"]:
                    count *= length
                num_weights += count
    vocabulary, hidden, layers = (
        int(config.get(key, 1)) for key in ("vocab_size", "hidden_size", "num_hidden_layers")
    )
    return num_weights, vocabulary, hidden, layers


def _data_sizes(plan: Plan) -> tuple[DataSize, DataSize]:
    """Of instructions and preferences; where they do not exist yet, from a sample."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = plan.tokenizer.path
        if not (plan.instructions.exists() and plan.preferences.exists()):
            tokenizer = Path(folder) / "tokenizer"
            _make_tokenizer(plan.tokenizer, tokenizer)
        instructions, preferences = (
            _size_of(artifact.path)
            if artifact.exists()
            else _size_of_sample(artifact, tokenizer, Path(folder) / artifact.stage)
            for artifact in (plan.instructions, plan.preferences)
        )
    return instructions, preferences


def _make_tokenizer(tokenizer: Artifact, out: Path) -> None:
    from wit.data.prepare import make_tokenizer

    recipe: Any = tokenizer.recipe
    out.mkdir()
    make_tokenizer(recipe, tokenizer.parents["base"].path, out)


def _size_of_sample(artifact: Artifact, tokenizer: Path, out: Path) -> DataSize:
    """Prepares a few rows aside; they are thrown away."""
    from wit.data.prepare import make_instructions, make_preferences

    recipe: Any = artifact.recipe
    out.mkdir()
    rows_file = None if recipe.repo else artifact.parents["rows"].path
    make = make_instructions if artifact.stage == "instructions" else make_preferences
    make(recipe, rows_file, tokenizer, out, sample_rows=SAMPLE_ROWS)
    return _size_of(out)


def _size_of(prepared: Path) -> DataSize:
    """From prepared rows; scaled up to the whole source if they are a sample."""
    from wit.data.prepare import TRAIN, read_card, read_table

    card = read_card(prepared)
    split = read_table(prepared, TRAIN)
    # Both sides of a pair pass through the model, each with the prompt.
    of_pairs = ("prompt_ids", "prompt_ids", "chosen_ids", "rejected_ids")
    columns = ("input_ids",) if "input_ids" in split.column_names else of_pairs
    num_tokens = sum(len(chunk.flatten()) for name in columns for chunk in split[name].chunks)
    scale = card["rows_in"] / card.get("rows_sampled", card["rows_in"])
    return DataSize(
        num_rows=round(len(split) * scale),
        tokens_per_row=num_tokens / len(split),
        is_estimated="rows_sampled" in card,
    )
