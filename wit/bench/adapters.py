"""Training of every kind of adapter against that of all weights, in one run."""

import tempfile
from collections.abc import Collection, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer

from wit.adapter_recipes import AdapterKnobs
from wit.bench.arms import MIB, Run, in_turns
from wit.bench.flops import flops_per_token, mean_length
from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.bench.sft import Parts, peak_mib, prepare, tokens_per_second, train
from wit.builtin import BASE_DIR
from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.models import load_model
from wit.recipes import SFTRecipe
from wit.tokenizers import load_tokenizer
from wit.training.adapters import with_adapters
from wit.training.quantised import PACKAGE, load_quantised
from wit.training.sft import make_trainer
from wit.weights import TokenWeights

FULL = "full"
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora"},
    "dora": {"method": "lora", "dora": True},
    "mora, rotation": {"method": "mora"},
    "mora, sharing": {"method": "mora", "type": "sharing"},
    "qlora": {"method": "qlora"},
    "miss": {"method": "miss", "config": {"r": 16}},
}
Size = Literal["embedded", "20 M"]
NUM_ROWS: dict[Size, int] = {"embedded": 512, "20 M": 128}  # of the embedded instructions
EXAMPLES_PER_STEP = 32
WITHOUT_WEIGHTS = "frozen weights have no gradient, and the adapter takes no time"


def recipe_of(name: str) -> SFTRecipe:
    """How one contestant is trained; the same but for what is trained."""
    return SFTRecipe(
        weights=TokenWeights(prompt=1, response=1),
        seed=0,
        learning_rate=1e-3,
        num_epochs=1,
        examples_per_step=EXAMPLES_PER_STEP,
        adapter=None if name == FULL else AdapterKnobs.model_validate(ADAPTERS[name]),
    )


def available() -> list[str]:
    """Those that can be trained here; QLoRA needs a package."""
    return [name for name in ADAPTERS if name != "qlora" or find_spec(PACKAGE) is not None]


def measure(
    repeats: int,
    size: Size = "embedded",
    *,
    names: Collection[str] = (),
    num_rows: int | None = None,
) -> BenchResult:
    """Trains every kind on the same rows, in turns, each in a process of its own.

    Args:
        repeats: Turns.
        size: Of the base: the embedded one; or one of 20 M random weights, where memory is that of
            weights and not of the process.
        names: Of the adapters; empty: all that can be trained here.
        num_rows: Of the embedded instructions; unset: as many as suit the size.

    Raises:
        StageError: One did more or less than another.
    """
    names = list(names or available())
    num_rows = num_rows or NUM_ROWS[size]
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder)
        prepare(prepared)
        base = base_of(size, prepared / "base")
        arms = {name: (run, (name, base, prepared, num_rows)) for name in (FULL, *names)}
        runs = in_turns(arms, repeats)
        speed_limit = limit_of_speed(base, prepared, num_rows)
        held = {name: held_bytes(name, base) for name in names}
        num_weights = sum(weight.numel() for weight in load_model(base).parameters())
    return BenchResult(
        name=f"adapters, {size}",
        ours="adapters on all linear layers, LoRA of rank 16 and MoRA of as many weights",
        baseline="training of all weights by the same trainer on the same rows",
        figures=figures_of(runs, speed_limit, held),
        sizes={"weights": num_weights, "rows per step": EXAMPLES_PER_STEP},
        same_work=same_work({name: found[0].counts for name, found in runs.items()}),
        machine=machine_name(),
        versions=versions_of("torch", "transformers", "peft"),
    )


def figures_of(
    runs: Mapping[str, list[Run]], speed_limit: float, held: Mapping[str, int]
) -> tuple[Figure, ...]:
    """Tokens per second and peak memory of each adapter, over those of full tuning.

    Args:
        runs: By name, with those of full tuning.
        speed_limit: Ratio that no adapter can pass, if the device is as fast for both.
        held: Bytes of each adapter that have to be there at the least.
    """
    found = []
    full = runs[FULL]
    for name in (name for name in runs if name != FULL):
        found.append(
            Figure(
                quantity=f"tokens/s, {name}",
                ours=tuple(map(tokens_per_second, runs[name])),
                baseline=tuple(map(tokens_per_second, full)),
                limit=speed_limit,
                limit_is=WITHOUT_WEIGHTS,
            )
        )
        found.append(
            Figure(
                quantity=f"peak memory, MiB, {name}",
                ours=tuple(map(peak_mib, runs[name])),
                baseline=tuple(map(peak_mib, full)),
                limit=held[name] / MIB / median(map(peak_mib, full)),
                limit_is="weights, and gradients and two moments of those that are trained",
            )
        )
    return tuple(found)


def limit_of_speed(base: Path, prepared: Path, num_rows: int) -> float:
    """Operations of full tuning over those of one that has no gradients of weights to compute."""
    lengths = [len(ids) for ids in _rows(prepared, num_rows)["input_ids"]]
    config = load_model(base).config
    length = mean_length(lengths)
    frozen = flops_per_token(config, length, trained="adapters", rank=0)
    return flops_per_token(config, length) / frozen


def held_bytes(name: str, base: Path) -> int:
    """Of weights, and three times those that are trained: gradients and two moments."""
    adapter = recipe_of(name).adapter
    assert adapter is not None
    plain = load_quantised(base, adapter, "cpu") if name == "qlora" else load_model(base)
    model = with_adapters(plain, adapter, "sft.adapter")
    return sum(w.nbytes * (4 if w.requires_grad else 1) for w in model.parameters())


def base_of(size: Size, folder: Path) -> Path:
    """Folder of a model; one of random weights is made there."""
    if size == "embedded":
        return BASE_DIR
    config = LlamaConfig(**{**load_model(BASE_DIR).config.to_dict(), **WIDE})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


WIDE = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 64,
}


def run(name: str, base: Path, prepared: Path, num_rows: int) -> Run:
    """One contestant, in the process that calls it."""
    tokenizer = load_tokenizer(prepared / "tokenizer")
    with tempfile.TemporaryDirectory() as scratch:
        parts = Parts(_rows(prepared, num_rows), tokenizer, Path(scratch))
        return train(partial(_make, name, base), parts, EXAMPLES_PER_STEP)


def _make(name: str, base: Path, parts: Parts) -> Trainer:
    recipe = recipe_of(name)
    return make_trainer(recipe, base, parts.rows, parts.tokenizer, parts.scratch, Runtime())


def _rows(prepared: Path, num_rows: int) -> Any:
    return read_split(prepared / "instructions", TRAIN).select(range(num_rows))
