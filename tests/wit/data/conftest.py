"""The tokenizer that most preparations here use."""

from pathlib import Path

import pytest
from samples import embedded_tokenizer, save_tokenizer

from wit.data.prepare import make_tokenizer
from wit.recipes import TokenizerRecipe


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the embedded tokenizer, made as the stage makes it; nobody writes there."""
    base = save_tokenizer(embedded_tokenizer(), tmp_path_factory.mktemp("base"))
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(TokenizerRecipe(), base, folder)
    return folder
