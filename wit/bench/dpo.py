"""DPO that reads the reference's log-probabilities, against TRL's with the reference in memory."""

import gc
import random
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.bench.arms import MIB, Run, in_turns, peak_since, reset_peak, timed
from wit.bench.flops import flops_per_token, mean_length, measured_peak
from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.builtin import BASE_DIR, DATA_DIR
from wit.config import Runtime
from wit.data.prepare import make_preferences, make_tokenizer
from wit.data.splits import TRAIN, read_split
from wit.models import choose_device, load_model
from wit.recipes import PreferencesRecipe, TokenizerRecipe
from wit.tokenizers import load_tokenizer
from wit.training.alignment_trainer import AlignmentTrainer
from wit.training.arguments import training_arguments
from wit.training.reference import columns_of, logps_in_batches, with_fused_head

Size = Literal["embedded", "large-vocabulary"]
NUM_PAIRS: dict[Size, int] = {"embedded": 256, "large-vocabulary": 8}
EXAMPLES_PER_STEP: dict[Size, int] = {"embedded": 16, "large-vocabulary": 4}
LARGE_VOCABULARY = 128_256  # Llama 3's
PROMPT_TOKENS, RESPONSE_TOKENS = (50, 150), (100, 300)  # of pairs that are made up: from, to
SIDES = ("prompt_ids", "chosen_ids", "rejected_ids")
FLOAT = 4  # bytes


class Parts(NamedTuple):
    """What every contestant gets."""

    base: Path
    tokenizer: Path
    rows: Path  # as ``datasets`` saves them
    toy: Path  # a model of a few weights
    examples_per_step: int


class Seen:
    """A collator of a contestant, and what went through it."""

    def __init__(self, collator: Any) -> None:
        """Nothing has yet."""
        self.collator = collator
        self.counts = {"pairs": 0, "prompt_tokens": 0, "chosen_tokens": 0, "rejected_tokens": 0}

    def __call__(self, rows: Sequence[Any]) -> Any:
        """What the collator makes of the rows."""
        self.counts["pairs"] += len(rows)
        for side in SIDES:
            self.counts[side.replace("ids", "tokens")] += sum(len(row[side]) for row in rows)
        return self.collator(rows)


def measure(repeats: int, base: Path | None = None, size: Size = "embedded") -> BenchResult:
    """Trains on the same pairs in turns, each contestant after a training of a toy in its process.

    Args:
        repeats: Turns.
        base: Folder of a model whose vocabulary holds the embedded tokenizer's; unset: that of
            the size.
        size: The embedded model and pairs; or a random one of Llama 3's vocabulary, where memory
            is that of weights and head and not of the process, and made-up pairs.

    Raises:
        StageError: They did not see the same pairs and steps.
    """
    with tempfile.TemporaryDirectory() as folder:
        parts = _prepared(base, size, Path(folder))
        arms = {"ours": train_ours, "with the stage": train_with_stage, "trl": train_trl}
        found = in_turns({name: (arm, (parts,)) for name, arm in arms.items()}, repeats)
        counts = same_work({name: runs[0].counts for name, runs in found.items()})
        num_weights = sum(weight.numel() for weight in load_model(parts.base).parameters())
        rows = Dataset.load_from_disk(str(parts.rows))
        limit = pairs_limit(parts.base, rows)
    return BenchResult(
        name="dpo" if size == "embedded" else "dpo, large vocabulary",
        ours="DPO that reads what the reference stage found",
        baseline="TRL's DPOTrainer with the reference model in memory",
        figures=_figures(found, limit, num_weights),
        sizes={"weights": num_weights, "pairs per step": parts.examples_per_step},
        same_work=counts,
        machine=machine_name(),
        versions=versions_of("torch", "transformers", "trl"),
    )


def pairs_limit(base: Path, rows: Dataset) -> tuple[float, str]:
    """Pairs per second if the device did nothing but the model's products, at its best; why."""
    prompts, *responses = ([len(ids) for ids in rows[side]] for side in SIDES)
    lengths = [sum(of_pair) for of_pair in zip(prompts, *responses, strict=True)]
    share = sum(map(sum, responses)) / sum(lengths)
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    per_token = flops_per_token(config, mean_length(lengths), targets=share)
    peak = measured_peak(choose_device("auto"), torch.float32)
    why = f"{per_token:,.0f} operations per token, prompts once; {peak.source}"
    return peak.flops * len(lengths) / (per_token * sum(lengths)), why


def _figures(
    found: dict[str, list[Run]], limit: tuple[float, str], num_weights: int
) -> tuple[Figure, ...]:
    """Speed and memory; the limit of speed is that of the device, over what the baseline did."""
    speeds = {
        arm: tuple(run.counts["pairs"] / run.seconds for run in runs) for arm, runs in found.items()
    }
    peaks = {arm: tuple(run.peak_bytes / MIB for run in runs) for arm, runs in found.items()}
    return (
        Figure(
            quantity="pairs/s",
            ours=speeds["ours"],
            baseline=speeds["trl"],
            at_least=1.25,
            limit=limit[0] / median(speeds["trl"]),
            limit_is=limit[1],
        ),
        Figure(
            quantity="pairs/s, the stage for one training",
            ours=speeds["with the stage"],
            baseline=speeds["trl"],
            at_least=1.25,
            # Forward and backward are three units of work, and the reference's forward is one.
            limit=0.75 * limit[0] / median(speeds["trl"]),
            limit_is="the same, and a forward of the reference over as many tokens",
        ),
        Figure(
            quantity="peak memory, MiB",
            ours=peaks["ours"],
            baseline=peaks["trl"],
            at_most=0.6,
            limit=4 * FLOAT * num_weights / MIB / max(peaks["trl"]),
            limit_is="weights, gradients and AdamW's two moments, and no activation; the "
            "baseline has a fifth copy, so 0.8 where weights are all",
        ),
    )


def train_ours(parts: Parts) -> Run:
    """Reads log-probabilities that were made before the clock starts."""
    return _run(parts, _our_trainer, has_stage=False)


def train_with_stage(parts: Parts) -> Run:
    """The same, and the clock runs while they are made."""
    return _run(parts, _our_trainer, has_stage=True)


def train_trl(parts: Parts) -> Run:
    """With two models."""
    return _run(parts, _trainer_of_trl, has_stage=False)


def _run(parts: Parts, make: Any, *, has_stage: bool) -> Run:
    # All that is imported on the way is in memory before memory is measured.
    toy = parts._replace(base=parts.toy, examples_per_step=1)
    row = {side: [[1, 2]] for side in SIDES}
    _train(toy, Dataset.from_dict(row), make, has_stage=has_stage)
    gc.collect()
    before = reset_peak()
    seconds, counts = _train(
        parts, Dataset.load_from_disk(str(parts.rows)), make, has_stage=has_stage
    )
    return Run(seconds, peak_since(before), counts)


def _train(
    parts: Parts, rows: Dataset, make: Any, *, has_stage: bool
) -> tuple[float, dict[str, int]]:
    """Seconds, and what was counted."""
    seconds = 0.0
    if make is _our_trainer:
        rows, of_stage = _with_reference(parts, rows)
        seconds += of_stage if has_stage else 0.0
    with tempfile.TemporaryDirectory() as scratch:
        trainer = make(parts, rows, Path(scratch))
        trainer.remove_callback(PrinterCallback)
        trainer.data_collator = seen = Seen(trainer.data_collator)
        seconds += timed(trainer.train)
    return seconds, {**seen.counts, "steps": trainer.state.global_step}


def _with_reference(parts: Parts, rows: Dataset) -> tuple[Dataset, float]:
    """As the stage writes them, and its seconds; its model is gone before one is trained."""
    model, found = _model(parts), list[np.ndarray]()
    seconds = timed(lambda: found.append(_logps(model, rows)))
    for name, values in zip(columns_of(rows, ReferenceRecipe()), found[0], strict=True):
        column: Any = values
        rows = rows.add_column(name, column)
    return rows, seconds


def _our_trainer(parts: Parts, rows: Dataset, scratch: Path) -> AlignmentTrainer:
    return AlignmentTrainer(
        _model(parts),
        knobs=_recipe(parts),
        args=DPOConfig(**_arguments(parts, rows, scratch), precompute_ref_log_probs=True),
        train_dataset=rows,
        processing_class=load_tokenizer(parts.tokenizer),
    )


def _trainer_of_trl(parts: Parts, rows: Dataset, scratch: Path) -> DPOTrainer:
    class OfPreparedRows(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    return OfPreparedRows(
        model=_model(parts),
        ref_model=_model(parts),
        args=DPOConfig(**_arguments(parts, rows, scratch), beta=_recipe(parts).beta),
        train_dataset=rows,
        processing_class=load_tokenizer(parts.tokenizer),
    )


def _logps(model: Any, rows: Dataset) -> np.ndarray:
    found = np.empty((2, len(rows)), dtype=np.float32)
    with torch.no_grad():
        batch_size = 2 * Runtime().evaluation_batch_size
        for places, values in logps_in_batches(
            with_fused_head(model), rows, ReferenceRecipe(), batch_size
        ):
            found[places] = values
    return found


def _model(parts: Parts) -> Any:
    return load_model(parts.base, choose_device("auto"))


def _recipe(parts: Parts) -> DPORecipe:
    step = parts.examples_per_step
    return DPORecipe(seed=0, num_epochs=1, examples_per_step=step, learning_rate=1e-5)


def _arguments(parts: Parts, rows: Dataset, scratch: Path) -> dict[str, Any]:
    return training_arguments(_recipe(parts), 0, Runtime(), scratch, len(rows))


def _prepared(base: Path | None, size: Size, scratch: Path) -> Parts:
    tokenizer, rows = scratch / "tokenizer", scratch / "rows"
    tokenizer.mkdir()
    make_tokenizer(TokenizerRecipe(), BASE_DIR, tokenizer)
    if size == "embedded":
        base = base or BASE_DIR
        found = _embedded_rows(tokenizer, scratch)
    else:
        sizes = {"vocab_size": LARGE_VOCABULARY, "hidden_size": 128, "intermediate_size": 512}
        base = base or _random_base(scratch / "base", **sizes)
        found = _made_up_rows()
    found.select(range(NUM_PAIRS[size])).select_columns(list(SIDES)).save_to_disk(str(rows))
    toy = _random_base(scratch / "toy", vocab_size=1000, hidden_size=8, intermediate_size=8)
    return Parts(base, tokenizer, rows, toy, EXAMPLES_PER_STEP[size])


def _embedded_rows(tokenizer: Path, scratch: Path) -> Dataset:
    preferences = scratch / "preferences"
    preferences.mkdir()
    recipe = PreferencesRecipe(path="builtin", held_out_fraction=0.0)
    make_preferences(recipe, DATA_DIR / "preferences.jsonl", tokenizer, preferences)
    return read_split(preferences, TRAIN)


def _made_up_rows() -> Dataset:
    rng = random.Random(0)
    ids = partial(rng.randrange, 10, LARGE_VOCABULARY)
    lengths = (PROMPT_TOKENS, RESPONSE_TOKENS, RESPONSE_TOKENS)
    rows = [
        [[ids() for _ in range(rng.randint(*of))] for of in lengths]
        for _ in range(NUM_PAIRS["large-vocabulary"])
    ]
    return Dataset.from_dict(dict(zip(SIDES, zip(*rows, strict=True), strict=True)))


def _random_base(folder: Path, **sizes: Any) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        **sizes, num_hidden_layers=4, num_attention_heads=4, tie_word_embeddings=True
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
