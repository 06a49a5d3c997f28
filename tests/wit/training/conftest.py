"""A model small enough to train in a second, with the embedded tokenizer and data."""

import shutil
from pathlib import Path

import pytest
from tiny import make_tiny_base
from trainers import Parts

from wit.builtin import BASE_DIR, DATA_DIR
from wit.config import Runtime
from wit.data.prepare import make_instructions, make_preferences, make_tokenizer
from wit.recipes import InstructionsRecipe, PreferencesRecipe, SFTRecipe, TokenizerRecipe
from wit.training.sft import train_sft
from wit.weights import TokenWeights

MAX_ROWS = 72


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(TokenizerRecipe(), BASE_DIR, folder)
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def instructions(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("instructions")
    recipe = InstructionsRecipe(path="builtin", max_rows=MAX_ROWS, held_out_fraction=0.2)
    make_instructions(recipe, DATA_DIR / "instructions.jsonl", tokenizer_folder, folder)
    return folder


@pytest.fixture(scope="session")
def preferences(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("preferences")
    recipe = PreferencesRecipe(path="builtin", max_rows=MAX_ROWS, held_out_fraction=0.2)
    make_preferences(recipe, DATA_DIR / "preferences.jsonl", tokenizer_folder, folder)
    return folder


@pytest.fixture(scope="session")
def parts(base: Path, instructions: Path, tokenizer_folder: Path) -> Parts:
    """What a training takes."""
    return base, instructions, tokenizer_folder


@pytest.fixture(scope="session")
def policy(
    base: Path,
    instructions: Path,
    tokenizer_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    weights = TokenWeights(prompt=0.2, response=1)
    recipe = SFTRecipe(
        weights=weights, seed=0, learning_rate=1e-2, num_epochs=2, examples_per_step=8
    )
    train_sft(
        recipe, base, instructions, tokenizer_folder, folder, Runtime(device="cpu"), lambda *_: None
    )
    return folder


@pytest.fixture(scope="session")
def base_as_policy(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base_as_policy")
    shutil.copytree(base, folder / "model")
    return folder
