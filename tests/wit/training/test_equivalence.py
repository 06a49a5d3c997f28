"""One trajectory of loss and gradient norm, however a training is split, packed or spread.

``python -m tests.wit.training.test_equivalence`` records it anew, after a change that is meant to
change results; the commit says which.
"""

import json
import os
from pathlib import Path

import pytest

from wit.builtin import BASE_DIR, DATA_DIR
from wit.config import Runtime
from wit.data.prepare import make_instructions, make_tokenizer
from wit.data.splits import HELD_OUT, TRAIN, SplitFiles, read_table
from wit.models import load_model
from wit.recipes import InstructionsRecipe, SFTRecipe, TokenizerRecipe
from wit.training.ranks import train_sft_on_ranks
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
    "1x8": {"micro_batch_size": 8},
    "2x4": {"micro_batch_size": 4},
    "8x1": {"micro_batch_size": 1},
    "uneven": {"micro_batch_size": 3},
    "packed": {"packing": True},
    "packed to little bins": {"packing": True, "packed_tokens": 96},
    "packed, eager attention": {"packing": True, "packed_tokens": 200, "attention": "eager"},
    "recomputed activations": {"gradient_checkpointing": True},
    "two ranks": {"num_processes": 2, "micro_batch_size": 2},
    "two ranks, sharded": {"num_processes": 2, "sharding": "fsdp", "micro_batch_size": 2},
    "two ranks, packed": {"num_processes": 2, "packing": True, "packed_tokens": 96},
    "two ranks, sharded, packed, recomputed": {
        "num_processes": 2,
        "sharding": "fsdp",
        "packing": True,
        "packed_tokens": 96,
        "gradient_checkpointing": True,
    },
}
Trajectory = dict[str, list[float]]


def trajectory(
    data: tuple[Path, Path], out: Path, runtime: dict[str, object], recipe: SFTRecipe = RECIPE
) -> Trajectory:
    """Loss and gradient norm of the first steps, and held-out likelihoods at the end."""
    steps: list[dict[str, float]] = []
    held_out: list[float] = []

    def log(figures: dict[str, float], step: int) -> None:
        if "loss" in figures:
            steps.append(figures)
        if "nll_prompt" in figures:
            held_out[:] = [figures["nll_prompt"], figures["nll_response"]]

    train = train_sft_on_ranks if "num_processes" in runtime else train_sft
    tokenizer, instructions = data
    out.mkdir()
    where = Runtime(**{"device": "cpu", **runtime})
    train(recipe, BASE_DIR, instructions, tokenizer, out, where, log)
    assert len(steps) == NUM_STEPS
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


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return prepared(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_follows_the_recorded_trajectory(
    name: str, data: tuple[Path, Path], tmp_path: Path
) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    found = trajectory(data, tmp_path / "out", CLASSES[name])
    for figure, values in recorded.items():
        assert found[figure] == pytest.approx(values, rel=2e-4), figure
    # What is left is rounding, which leans to neither side.
    errors = [a / b - 1 for a, b in zip(found["loss"], recorded["loss"], strict=True)]
    assert abs(sum(errors) / len(errors)) < 2e-5
    load_model(tmp_path / "out" / "model")


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.gpu)])
def test_low_precision_stays_near_the_trajectory(
    precision: str, data: tuple[Path, Path], tmp_path: Path
) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    low = RECIPE.model_copy(update={"precision": precision})
    device = "cuda" if precision == "float16" else "cpu"
    found = trajectory(data, tmp_path / "out", {"device": device, "micro_batch_size": 3}, low)
    assert found["loss"][0] == pytest.approx(recorded["loss"][0], rel=5e-3)
    assert found["loss"] == pytest.approx(recorded["loss"], rel=5e-2)
    assert found["loss"] != pytest.approx(recorded["loss"], rel=1e-6), "it was float32 all along"


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["sdpa", "flex_attention"])
@pytest.mark.parametrize("packing", [False, True])
def test_a_gpu_follows_the_recorded_trajectory(
    attention: str, packing: bool, data: tuple[Path, Path], tmp_path: Path
) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    runtime = {"device": "cuda", "attention": attention, "packing": packing}
    found = trajectory(data, tmp_path / "out", {**runtime, "micro_batch_size": 3})
    assert found["loss"] == pytest.approx(recorded["loss"], rel=5e-3)


def record() -> None:
    from tempfile import TemporaryDirectory

    os.environ["TQDM_DISABLE"] = "1"
    with TemporaryDirectory() as folder:
        data = prepared(Path(folder))
        found = trajectory(data, Path(folder) / "out", CLASSES["1x8"])
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
