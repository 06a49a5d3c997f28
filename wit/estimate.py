"""What a plan will cost, before it is run: tokens, steps, time, disk and memory."""

from collections import Counter
from pathlib import Path

from wit.adapter_recipes import QUANTISED, AdapterKnobs
from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.artifact_store import store_of
from wit.artifacts import Artifact
from wit.base_files import tokenizer_folder
from wit.cell_plan import CellPlan
from wit.config import Runtime, Settings
from wit.errors import InputError
from wit.judge_cost import JudgeCost, judge_cost
from wit.model_size import ModelSize, model_size
from wit.on_policy.recipes import PairsRecipe
from wit.plan import Plan
from wit.recipes import DataRecipe, RungRecipe, TrainingKnobs
from wit.space import bytes_of_model, bytes_while_training
from wit.worker_environment import threads_per_worker

ADAPTER = "adapter"  # the knob
SAMPLE_ROWS = 200  # prepared for the estimate when a data set is not prepared yet
FLOPS_PER_THREAD = 1.5e10  # float32 matrix products of small models on a common CPU core
FLOPS_OF_GPU = 1e14  # bfloat16, at a usual utilisation
BYTES_OF_WEIGHT = 4  # float32
BYTES_OF_TRAINED = 16  # float32 weight, gradient, and two AdamW moments
BYTES_OF_QUANTISED = 0.52  # four bits, and the constants of a block of 64


class DataSize(Settings):
    """How much there is to train on."""

    num_rows: int
    tokens_per_row: float
    is_estimated: bool  # from a sample; exact once the data set is prepared


class Estimate(Settings):
    """Cost of what is still to be made."""

    sft_tokens: int  # over all SFT trainings to make, epochs counted
    dpo_tokens: int
    optimizer_steps: int  # on policy at most, as if every prompt gave a pair
    responses_to_draw: int = 0  # on policy
    # Unknown as long as the base is on the hub, which is out of reach.
    seconds: float | None  # rough: a factor of three either way
    disk_bytes: int | None
    peak_memory_bytes: int | None  # of the largest training, rough
    # Weights that each training learns: of SFT (of several tunings, by name), and of alignments.
    trained_weights: dict[str, int] | None = None
    instructions: DataSize
    preferences: DataSize
    num_downloads: int = 0  # artifacts that are brought from the artifact store
    download_bytes: int | None = 0  # of these; unknown where the store cannot say
    judge: JudgeCost | None = None  # None: nothing is left to be judged


class Sharing(Settings):
    """What several alignments of one SFT model need not make again."""

    num_alignments: int
    num_sft: int
    num_references: int
    num_trainings_saved: int  # SFT, beside a study for each alignment
    num_references_saved: int

    def __str__(self) -> str:
        said = f"{self.num_alignments} alignments share {_counted(self.num_sft, 'SFT model')}"
        saved = _counted(self.num_trainings_saved, "training")
        if self.num_references_saved:
            said += f" and {_counted(self.num_references, 'reference')}"
            saved += f" and {_counted(self.num_references_saved, 'reference')}"
        return f"{said}: {saved} fewer"


def sharing(plan: Plan) -> Sharing:
    """How much is made once for all alignments, whether it exists already or not."""
    num_others, num_sft = len(plan.study.aligned_by) - 1, len(plan.cells)
    once = Counter(step.stage for cell in plan.cells for step in cell.alignment_steps)
    apart = Counter(s.stage for cell in plan.cells for one in cell.aligned for s in one.made)
    return Sharing(
        num_alignments=num_others + 1,
        num_sft=num_sft,
        num_references=once["reference"],
        num_trainings_saved=num_others * num_sft + apart["dpo"] - once["dpo"],
        num_references_saved=apart["reference"] - once["reference"],
    )


def estimate(plan: Plan, runtime: Runtime) -> Estimate:
    """The cost of the stages of a plan that do not exist yet; of a search at most.

    Raises:
        InputError: The base or the data cannot be read.
    """
    plan = plan.at_most
    model = model_size(plan.base)
    instructions, preferences, num_tokens = _data_sizes(plan)
    to_make = [
        (share, plan.study.tuned_by[cell.cell.tuning])
        for cell in plan.cells
        if (share := _share_to_make(plan, cell))
    ]
    steps_to_make = [s for c in plan.cells for s in c.alignment_steps if not plan.is_made(s)]
    to_align = [s.recipe for s in steps_to_make if isinstance(s.recipe, DPORecipe)]
    to_draw = [s.recipe for s in steps_to_make if isinstance(s.recipe, PairsRecipe)]
    num_to_score = sum(isinstance(step.recipe, ReferenceRecipe) for step in steps_to_make)
    num_trainings = len(to_make) + len(to_align)
    num_passes = sum(share * knobs.num_epochs for share, knobs in to_make)
    sft_tokens = round(num_passes * _tokens(instructions))
    dpo_tokens = round(sum(knobs.num_epochs for knobs in to_align) * _tokens(preferences))
    # Forward and backward take 6 operations per weight and token, a reference's forward 2.
    operations = 6 * sft_tokens + 6 * dpo_tokens + 2 * num_to_score * _tokens(preferences)
    drawn = [_num_responses(recipe, preferences) for recipe in to_draw]
    # As if every response were as long as it may be.
    operations += 2 * sum(n * r.max_new_tokens for n, r in zip(drawn, to_draw, strict=True))
    steps = round(sum(share * _steps(knobs, instructions) for share, knobs in to_make))
    steps += sum(_steps(knobs, preferences) for knobs in to_align)
    tunings = plan.study.tuned_by.values()
    largest_step = max(knobs.examples_per_step for knobs in tunings)
    micro_batch = min(runtime.micro_batch_size, largest_step)
    at_once = min(num_trainings, runtime.num_workers)
    downloads = plan.downloads()
    trained = _trained_weights(plan, model, num_tokens) if model else {}
    return Estimate(
        sft_tokens=sft_tokens,
        dpo_tokens=dpo_tokens,
        optimizer_steps=steps,
        responses_to_draw=sum(drawn),
        seconds=model and round(model.num_weights * operations / _speed(runtime), 1),
        disk_bytes=model
        and num_trainings * bytes_of_model(model.num_weights)
        # Of those that run at the same time.
        + at_once
        * bytes_while_training(
            model.num_weights,
            is_adapted=all(k.adapter for k in (*tunings, *plan.study.aligned_by.values())),
        ),
        peak_memory_bytes=model
        and _memory(model, trained, plan, micro_batch * instructions.tokens_per_row),
        trained_weights=trained or None,
        instructions=instructions,
        preferences=preferences,
        num_downloads=len(downloads),
        download_bytes=_bytes_in_store(downloads, runtime),
        judge=judge_cost(plan, runtime, preferences.num_rows),
    )


def _share_to_make(plan: Plan, cell: CellPlan) -> float:
    """How much of an SFT is to be trained at most; what a rung has left of it may be lost."""
    if cell.is_tuned and not plan.is_made(cell.sft):
        return 1.0
    recipes = (rung.recipe for rung in cell.rungs if not plan.is_made(rung))
    return max((recipe.share for recipe in recipes if isinstance(recipe, RungRecipe)), default=0.0)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _bytes_in_store(artifacts: list[Artifact], runtime: Runtime) -> int | None:
    store = store_of(runtime)
    try:
        return store.num_bytes(artifacts) if store is not None else 0
    except InputError:  # who downloads it says what is wrong
        return None


def _tokens(size: DataSize) -> float:
    return size.num_rows * size.tokens_per_row


def _num_responses(recipe: PairsRecipe, preferences: DataSize) -> int:
    num_prompts = min(preferences.num_rows, recipe.max_prompts or preferences.num_rows)
    return num_prompts * recipe.num_responses


def _steps(knobs: TrainingKnobs, size: DataSize) -> int:
    return knobs.num_epochs * -(-size.num_rows // knobs.examples_per_step)


def _speed(runtime: Runtime) -> float:
    import torch

    if runtime.device != "cpu" and torch.cuda.is_available():
        return FLOPS_OF_GPU * runtime.num_workers
    return FLOPS_PER_THREAD * threads_per_worker(runtime) * runtime.num_workers


def _trained_weights(plan: Plan, model: ModelSize, num_tokens: int) -> dict[str, int]:
    """Of every tuning and every alignment by its name; of one that goes on, the most of any SFT.

    Raises:
        ConfigError: An adapter does not fit the base.
    """
    study = plan.study
    counts = {
        tuning or "sft": _num_trained(
            plan, model, knobs.adapter, study.key_of_sft(tuning, ADAPTER), num_tokens
        )
        for tuning, knobs in study.tuned_by.items()
    }
    of_sft = max(counts.values())
    for name, knobs in study.aligned_by.items():
        key = study.key_of(name, ADAPTER)
        counts[name] = (
            of_sft if knobs.continues_adapter else _num_trained(plan, model, knobs.adapter, key)
        )
    return counts


def _num_trained(
    plan: Plan,
    model: ModelSize,
    adapter: AdapterKnobs | None,
    key: tuple[str, ...],
    num_tokens: int = 0,
) -> int:
    if adapter is None:
        return model.num_weights
    from wit.training.adapters import num_trained  # imports PEFT, which takes seconds

    tokens = num_tokens if adapter.trains_tokens else 0
    return num_trained(tokenizer_folder(plan.base), adapter, ".".join(key), tokens)


def _memory(model: ModelSize, trained: dict[str, int], plan: Plan, num_tokens: float) -> int:
    """Of the largest training: weights, gradients and moments of what is trained, activations."""
    per_token = (model.hidden * model.layers * 34 + min(model.vocabulary, 32_768)) * 4
    frozen = model.num_weights * BYTES_OF_WEIGHT
    # Embeddings and the LM head are left as they are.
    whole = min(model.num_weights, 2 * model.vocabulary * model.hidden)
    quantised = (model.num_weights - whole) * BYTES_OF_QUANTISED
    least = {
        tuning or "sft": round(whole * BYTES_OF_WEIGHT + quantised)
        for tuning, knobs in plan.study.tuned_by.items()
        if knobs.adapter is not None and knobs.adapter.method in QUANTISED
    }
    weights = max(
        least.get(name, frozen)
        + num_weights * (BYTES_OF_TRAINED - BYTES_OF_WEIGHT * (num_weights == model.num_weights))
        for name, num_weights in trained.items()
    )
    return round(weights + num_tokens * per_token)


def _data_sizes(plan: Plan) -> tuple[DataSize, DataSize, int]:
    """Of instructions and preferences, and how many special tokens the instructions have.

    Where they do not exist yet, from a sample.
    """
    from wit.data.prepare import TRAIN, read_table
    from wit.data.special_tokens import special_tokens_of
    from wit.preview import prepared
    from wit.tokenizers import load_tokenizer

    with prepared(plan, sample_rows=SAMPLE_ROWS) as folders:
        return (
            _size_of(folders.instructions, plan.study.instructions),
            _size_of(folders.preferences, plan.study.preferences),
            len(
                special_tokens_of(
                    read_table(folders.instructions, TRAIN)["input_ids"],
                    load_tokenizer(folders.tokenizer),
                )
            ),
        )


def _size_of(prepared: Path, recipe: DataRecipe) -> DataSize:
    """From prepared rows; scaled up to the whole source if they are a sample."""
    from wit.data.prepare import TRAIN, read_card, read_table

    card = read_card(prepared)
    split = read_table(prepared, TRAIN)
    # Both sides of a pair pass through the model, each with the prompt.
    of_pairs = ("prompt_ids", "prompt_ids", "chosen_ids", "rejected_ids")
    names = split.column_names
    of_single = ("prompt_ids", "response_ids") if "response_ids" in names else ("input_ids",)
    columns = of_pairs if "chosen_ids" in names else of_single
    num_tokens = sum(len(chunk.flatten()) for name in columns for chunk in split[name].chunks)
    scale = card["rows_in"] / card.get("rows_sampled", card["rows_in"])
    return DataSize(
        num_rows=min(round(len(split) * scale), recipe.max_rows or card["rows_in"]),
        tokens_per_row=num_tokens / len(split),
        is_estimated="rows_sampled" in card,
    )
