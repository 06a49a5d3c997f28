"""A model small enough to train in a second, with the embedded tokenizer and data."""

from pathlib import Path

import pytest
from tiny import make_tiny_base
from trainers import Parts

from wit.builtin import BASE_DIR, DATA_DIR
from wit.data.prepare import make_instructions, make_preferences, make_tokenizer
from wit.recipes import InstructionsRecipe, PreferencesRecipe, TokenizerRecipe

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
