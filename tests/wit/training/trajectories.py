"""One training in many forms, and the figures of its steps."""

import json
from pathlib import Path

import pytest

from wit.builtin import BASE_DIR, DATA_DIR
from wit.config import Runtime
from wit.data.prepare import make_instructions, make_tokenizer
from wit.data.splits import HELD_OUT, TRAIN, SplitFiles, read_table
from wit.recipes import InstructionsRecipe, SFTRecipe, TokenizerRecipe
from wit.training.callbacks import is_first_rank, wait_for_all_ranks
from wit.training.sft import train_sft
from wit.weights import TokenWeights

RECORDED = Path(__file__).parents[2] / "golden" / "trajectory.json"
RECIPE = SFTRecipe(
    weights=TokenWeights(prompt=0.2, response=1),
    seed=0,
    learning_rate=1e-3,
    num_epochs=5,
    examples_per_step=8,
)
# Of 25 rows the last step of an epoch has one: a short window, and nothing for the second rank.
NUM_ROWS, NUM_STEPS = 25, 20
CLASSES: dict[str, dict[str, object]] = {
    "1x8": {"packing": False, "micro_batch_size": 8},
    "2x4": {"packing": False, "micro_batch_size": 4},
    "8x1": {"packing": False, "micro_batch_size": 1},
    "uneven": {"packing": False, "micro_batch_size": 3},
    "packed": {},
    "packed to little bins": {"packing": True, "packed_tokens": 96},
    "packed, eager attention": {"packing": True, "packed_tokens": 200, "attention": "eager"},
    "recomputed activations": {"packing": False, "gradient_checkpointing": True},
    "two ranks": {"packing": False, "num_processes": 2, "micro_batch_size": 2},
    "two ranks, sharded": {
        "packing": False,
        "num_processes": 2,
        "sharding": "fsdp",
        "micro_batch_size": 2,
    },
    "two ranks, packed": {"num_processes": 2, "packing": True, "packed_tokens": 96},
    "two ranks, sharded, packed, recomputed": {
        "num_processes": 2,
        "sharding": "fsdp",
        "packing": True,
        "packed_tokens": 96,
        "gradient_checkpointing": True,
    },
}
ON_RANKS = [name for name, runtime in CLASSES.items() if "num_processes" in runtime]
Trajectory = dict[str, list[float]]


def trajectory(
    data: tuple[Path, Path], out: Path, runtime: dict[str, object], recipe: SFTRecipe = RECIPE
) -> Trajectory:
    """Loss and gradient norm of every step, and held-out likelihoods at the end."""
    steps: list[dict[str, float]] = []
    held_out: list[float] = []

    def log(figures: dict[str, float], step: int) -> None:
        if "loss" in figures:
            steps.append(figures)
        if "nll_prompt" in figures:
            held_out[:] = [figures["nll_prompt"], figures["nll_response"]]

    tokenizer, instructions = data
    out.mkdir(exist_ok=True)
    where = Runtime(**{"device": "cpu", **runtime})
    train_sft(recipe, BASE_DIR, instructions, tokenizer, out, where, log)
    assert len(steps) == (NUM_STEPS if is_first_rank() else 0)
    shown = {name: [step[name] for step in steps] for name in ("loss", "grad_norm")}
    return {**shown, "held_out": held_out}


def prepared(folder: Path) -> tuple[Path, Path]:
    tokenizer, instructions = folder / "tokenizer", folder / "instructions"
    tokenizer.mkdir()
    instructions.mkdir()
    make_tokenizer(TokenizerRecipe(), BASE_DIR, tokenizer)
    recipe = InstructionsRecipe(path="builtin", max_rows=40, held_out_fraction=0.1)
    make_instructions(recipe, DATA_DIR / "instructions.jsonl", tokenizer, instructions)
    rows, held_out = (read_table(instructions, split) for split in (TRAIN, HELD_OUT))
    assert len(rows) >= NUM_ROWS
    few = instructions.with_name("few")
    few.mkdir()
    with SplitFiles(few, rows.schema) as files:
        files.write(TRAIN, rows.slice(0, NUM_ROWS).combine_chunks().to_batches()[0])
        files.write(HELD_OUT, held_out.combine_chunks().to_batches()[0])
    return tokenizer, few


def train_on_ranks(tokenizer: Path, instructions: Path, out: Path) -> None:
    """Makes ``OUT/NAME.json`` and ``OUT/NAME/model`` of the forms on ranks; every rank calls it."""
    for name in ON_RANKS:
        found = trajectory((tokenizer, instructions), out / name, CLASSES[name])
        if is_first_rank():
            (out / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
        wait_for_all_ranks()


def assert_as_recorded(found: Trajectory) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    for figure, values in recorded.items():
        assert found[figure] == pytest.approx(values, rel=2e-4), figure
    # What is left is rounding, which leans to neither side.
    errors = [a / b - 1 for a, b in zip(found["loss"], recorded["loss"], strict=True)]
    assert abs(sum(errors) / len(errors)) < 2e-5
