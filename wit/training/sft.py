"""Weighted instruction tuning."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import parse_flag_from_env
from datasets import Dataset
from transformers import PreTrainedModel, set_seed
from trl.trainer.sft_config import SFTConfig

from wit.config import Runtime
from wit.data.collate import RoleCollator
from wit.data.prepare import HELD_OUT, TRAIN, read_split
from wit.data.special_tokens import special_tokens_of
from wit.errors import ConfigError
from wit.files import write_durably
from wit.likelihood import held_out_nll
from wit.losses import dft
from wit.models import check_finite, evaluating, load_model
from wit.recipes import RungRecipe, SFTRecipe
from wit.rungs import CARD
from wit.tokenizers import Tokenizer, load_tokenizer
from wit.training.adapters import ADAPTER, save_adapter, with_adapters
from wit.training.arguments import sft_arguments, step_of
from wit.training.callbacks import (
    AfterEpoch,
    AtRung,
    History,
    Log,
    first_rank_says,
    is_first_rank,
    num_ranks,
    train_resumably,
)
from wit.training.packing import problem_with_packing
from wit.training.quantised import is_quantised, load_quantised, merge
from wit.training.shards import gathered_weights
from wit.training.trainer import WeightedSFTTrainer

MODEL = "model"
OF_TRL: dict[str, Any] = {  # nothing of what TRL would do by itself
    "loss_type": "nll",
    "packing": False,
    "completion_only_loss": False,
    "assistant_only_loss": False,
    "router_aux_loss_coef": 0.0,  # its mean over a micro-batch would depend on the split
    "dataset_kwargs": {"skip_prepare_dataset": True},
}


def train_sft(
    recipe: SFTRecipe,
    base: Path,
    instructions: Path,
    tokenizer_folder: Path,
    out: Path,
    runtime: Runtime,
    log: Log,
) -> None:
    """Trains the base with the recipe's weights; leaves ``model/`` and ``history.jsonl``.

    Up to a rung it leaves its checkpoint instead of a model, and in ``card.json`` the likelihoods
    of held-out rows there. Continues from the last checkpoint in ``out``, if there is one. Every
    rank calls this.

    Raises:
        ConfigError: Recipe and runtime do not go together.
        TrainingError: The loss or a weight is not finite.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    rows = read_split(instructions, TRAIN)
    if isinstance(recipe, RungRecipe) and not len(read_split(instructions, HELD_OUT)):
        raise ConfigError(
            "weights.search.stop.sft_rungs: no row is held out whose likelihood could decide; "
            "raise instructions.held_out_fraction, or leave sft_rungs out"
        )
    trainer = make_trainer(recipe, base, rows, tokenizer, out, runtime)
    history = History(out, log)

    def held_out() -> dict[str, float]:
        model: Any = trainer.model
        with evaluating(model):
            return held_out_figures(model, instructions, runtime)

    def is_measured(step: int) -> bool:
        return first_rank_says(history.has("nll_", step))

    after_epoch = AfterEpoch(lambda step: history.write(held_out(), step), is_measured)
    if isinstance(recipe, RungRecipe):
        step = step_of(recipe, len(rows))
        at_rung = AtRung(step, lambda: _write_card(out, {"step": step, **held_out()}))
        train_resumably(trainer, history, out, runtime, after_epoch, at_rung)
        return
    train_resumably(trainer, history, out, runtime, after_epoch)
    model = whole_model(trainer, recipe, base)
    if is_first_rank():
        takes = recipe.adapter is not None and recipe.adapter.takes_from_weights
        tokens = trained_tokens(recipe, rows, tokenizer)
        begun = trainable(recipe, load_model(base), tokens) if takes else None
        save_adapter(model, out / ADAPTER, begun)
        save_model(merge(model, base, recipe.adapter), tokenizer_folder, out / MODEL)


def held_out_figures(model: Any, instructions: Path, runtime: Runtime) -> dict[str, float]:
    """Likelihoods of held-out rows by role, and how many tokens each has."""
    by_role = held_out_nll(model, instructions, batch_size=runtime.evaluation_batch_size)
    figures = {f"nll_{role}": figure.nll for role, figure in by_role.items()}
    counts = {f"tokens_{role}": float(figure.num_tokens) for role, figure in by_role.items()}
    return {**figures, **counts}


def _write_card(out: Path, figures: dict[str, float]) -> None:
    if is_first_rank():
        write_durably(out / CARD, json.dumps(figures).encode())


def make_trainer(
    recipe: SFTRecipe,
    base: Path,
    rows: Dataset,
    tokenizer: Tokenizer,
    out: Path,
    runtime: Runtime,
) -> WeightedSFTTrainer:
    """The trainer of a recipe, ready to train.

    Raises:
        ConfigError: Recipe and runtime do not go together.
    """
    _refuse_other_sharding()
    collator = RoleCollator(recipe.weights, tokenizer.pad_token_id)
    arguments = sft_arguments(recipe, recipe.seed, runtime, out, len(rows))
    attention = None if runtime.attention == "auto" else runtime.attention
    num_shards = num_ranks() if runtime.sharding == "fsdp" else 1
    if recipe.adapter is not None and is_quantised(recipe.adapter):
        plain = load_quantised(base, recipe.adapter, runtime.device, attention=attention)
    else:
        plain = load_model(base, attention=attention, num_shards=num_shards)
    model = trainable(recipe, plain, trained_tokens(recipe, rows, tokenizer))
    trainer = WeightedSFTTrainer(
        model=model,
        args=SFTConfig(**arguments, **OF_TRL),
        train_dataset=rows,
        processing_class=tokenizer,
        collator=collator,
        examples_per_step=recipe.examples_per_step,
        runtime=runtime,
        normaliser=recipe.normaliser,
        reweighting=dft if recipe.loss == "dft" else None,
        decay_norms=recipe.decay_norms,
    )
    refuse_to_learn_nothing(rows, collator, recipe)
    collator.packing = runtime.packing is not False and can_pack(trainer.model, recipe, runtime)
    return trainer


def can_pack(model: Any, recipe: SFTRecipe, runtime: Runtime) -> bool:
    """Whether the model keeps rows apart.

    Raises:
        ConfigError: It does not, and the runtime asks for it.
    """
    problem = problem_with_packing(model, recipe.precision)
    if problem and runtime.packing:
        raise ConfigError(
            f"packing: {problem}; set runtime packing to false, or choose another attention"
        )
    return problem is None


def refuse_to_learn_nothing(rows: Dataset, collator: RoleCollator, recipe: SFTRecipe) -> None:
    """Refuses weights of roles that messages' own weights make 0 in all rows.

    Raises:
        ConfigError: They do.
    """
    shuffled = np.random.default_rng(0).permutation(
        len(rows)
    )  # else a masked source may come first
    one_by_one: Any = (rows[int(row)] for row in shuffled)
    if not any(collator([row])["token_weights"][:, 1:].any() for row in one_by_one):
        raise ConfigError(
            f"weights {recipe.weights}: no token of any row has a weight above 0, which is that of "
            "its role times that of its message, so nothing would be learned"
        )


def _refuse_other_sharding() -> None:
    """Refuses ``accelerate launch --use_fsdp``, and before a model is loaded: it may stay empty.

    Raises:
        ConfigError: It is asked for.
    """
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ConfigError(
            "fsdp of accelerate (--use_fsdp) keeps neither weights of tokens nor checkpoints; "
            "leave it out, and set runtime sharding: fsdp"
        )


def trained_tokens(recipe: SFTRecipe, rows: Dataset, tokenizer: Tokenizer) -> list[int]:
    """Ids of the tokens whose embeddings an adapter trains too."""
    if recipe.adapter is None or not recipe.adapter.trains_tokens:
        return []
    ids: Any = rows.select_columns("input_ids").with_format("arrow")[:]
    return special_tokens_of(ids["input_ids"], tokenizer)


def trainable(recipe: SFTRecipe, model: PreTrainedModel, tokens: Sequence[int] = ()) -> Any:
    """The model itself, or with adapters that alone are trained.

    Args:
        recipe: Says which.
        model: To be trained.
        tokens: Whose embeddings adapters train too.

    Raises:
        ConfigError: It has no modules of those names.
    """
    if recipe.adapter is None:
        return model
    set_seed(recipe.seed)  # adapters begin at random
    return with_adapters(model, recipe.adapter, "sft.adapter", tokens)


def whole_model(trainer: WeightedSFTTrainer, recipe: SFTRecipe, base: Path) -> Any:
    """The trained model and its adapters; of a sharded one a copy, gathered on every rank."""
    model: Any = trainer.model
    if trainer.is_distributed_loading_by_transformers:
        state = gathered_weights(model)
        if not is_first_rank():
            return None
        model = trainable(recipe, load_model(base))
        model.load_state_dict(state)
    return model


def save_model(model: PreTrainedModel, tokenizer_folder: Path, folder: Path) -> None:
    """Writes a Hugging Face folder: weights, and the tokenizer byte for byte.

    Raises:
        TrainingError: A weight is not finite.
    """
    check_finite(model, "after training")
    stop = load_tokenizer(tokenizer_folder).eos_token_id
    if model.generation_config is not None:
        model.generation_config.eos_token_id = stop
    model.config.eos_token_id = stop
    model.save_pretrained(folder)
    for file in tokenizer_folder.iterdir():
        if file.name.startswith(("tokenizer", "chat_template", "special_tokens", "added_tokens")):
            shutil.copyfile(file, folder / file.name)
