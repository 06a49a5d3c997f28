"""Alignment with preferences from one SFT checkpoint: DPO, or another objective."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import set_seed
from trl.trainer.dpo_config import DPOConfig

from wit.adapter_recipes import AdapterKnobs
from wit.alignment_recipes import DPORecipe
from wit.config import Runtime
from wit.data.splits import TRAIN, read_split
from wit.errors import ArtifactError, ConfigError
from wit.models import choose_device, load_model
from wit.tokenizers import load_tokenizer
from wit.training.adapters import ADAPTER, with_adapters, with_saved_adapters
from wit.training.alignment_trainer import AlignmentTrainer
from wit.training.arguments import training_arguments
from wit.training.callbacks import History, Log, train_resumably
from wit.training.quantised import is_quantised, load_quantised, merge
from wit.training.reference import with_reference
from wit.training.refusals import refuse_head
from wit.training.responses import is_of_pairs
from wit.training.sft import MODEL, save_model


def train_dpo(
    recipe: DPORecipe,
    policy: Path,
    preferences: Path,
    references: list[Path],
    out: Path,
    runtime: Runtime,
    log: Log,
    *,
    base: Path | None = None,
    adapter: AdapterKnobs | None = None,
    starts_at_reference: bool = True,
) -> None:
    """Trains ``policy``, which is the SFT model and the reference; leaves ``model/``.

    Continues from the last checkpoint in ``out``, if there is one.

    Args:
        recipe: Of the stage.
        policy: Folder of the artifact that training starts from.
        preferences: Folder of the preferences artifact.
        references: ``reference`` artifacts that the objective reads; none where it reads none.
        out: Where to write.
        runtime: Where and how fast.
        log: Takes figures and their step.
        base: Folder of the model that the policy's adapter is of, if training goes on with it.
        adapter: What that is.
        starts_at_reference: Unset for later rounds on policy: the policy is the model of the round
            before then, and the reference still the SFT model.

    Raises:
        ConfigError: Recipe, policy and preferences do not go together.
        HandOverError: The reference is not the SFT model.
        TrainingError: The loss or a weight is not finite.
    """
    rows = rows_of(recipe, preferences, references)
    device = choose_device(runtime.device)
    trainer = AlignmentTrainer(
        _trainable(recipe, policy, base, adapter, device),
        knobs=recipe,
        args=DPOConfig(
            **training_arguments(recipe, recipe.seed, runtime, out, len(rows)),
            disable_dropout=True,
            precompute_ref_log_probs=True,  # else a reference would be loaded; see the stage
        ),
        train_dataset=rows,
        processing_class=load_tokenizer(policy / MODEL),
        starts_at_reference=starts_at_reference,
    )
    model: Any = trainer.model
    if isinstance(model, PeftModel) and "ref" in model.peft_config:
        model.delete_adapter("ref")  # upstream's copy for a reference that is read here
    train_resumably(trainer, History(out, log), out, runtime)
    if not recipe.continues_adapter:
        base, adapter = policy / MODEL, recipe.adapter
    assert base is not None
    save_model(merge(trainer.model, base, adapter), policy / MODEL, out / MODEL)


def rows_of(recipe: DPORecipe, preferences: Path, references: list[Path]) -> Dataset:
    """The rows that are trained on, with all that the objective reads of them.

    Raises:
        ConfigError: They are single responses, and the objective needs pairs.
        ArtifactError: The reference is of other rows.
    """
    rows = read_split(preferences, TRAIN)
    if not recipe.is_for_unpaired and not is_of_pairs(rows):
        raise ConfigError(
            f"dpo.objective = {recipe.objective} learns from pairs, and the preferences are single "
            "responses, good or bad; set dpo.objective to kto"
        )
    for folder in references:
        rows = with_reference(rows, folder, TRAIN)
    return rows


def _trainable(
    recipe: DPORecipe,
    policy: Path,
    base: Path | None,
    adapter: AdapterKnobs | None,
    device: torch.device,
) -> Any:
    """What is trained: all weights of the policy, new adapters on it, or its own adapters."""
    if not recipe.continues_adapter:
        model = load_model(policy / MODEL, device)
        if recipe.adapter is None:
            return model
        set_seed(recipe.seed)  # adapters begin at random
        model = with_adapters(model, recipe.adapter, "dpo.adapter")
    else:
        assert base is not None
        if not (policy / ADAPTER).is_dir():
            raise ArtifactError(
                f"{policy}: has no adapter that training could go on with. Delete {policy} and run "
                "again: it will be made anew, with its adapter"
            )
        if adapter is not None and is_quantised(adapter):
            plain = load_quantised(base, adapter, device.type)
        else:
            plain = load_model(base, device)
        model = with_saved_adapters(plain, policy / ADAPTER)
    refuse_head(model)
    return model
