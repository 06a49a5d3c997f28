"""Preparation for tests that start processes, which import this and need little else for it."""

from pathlib import Path

from wit.data import prepare
from wit.recipes import InstructionsRecipe


def prepare_few_rows(file: Path, tokenizer: Path, out: Path, num_workers: int) -> None:
    """In as many processes as it says, though the file is small."""
    usual = prepare.LEAST_ROWS_PER_PROCESS, prepare.CORES_OF_ONE
    prepare.LEAST_ROWS_PER_PROCESS, prepare.CORES_OF_ONE = 100, 1
    out.mkdir()
    recipe = InstructionsRecipe(path=str(file), held_out_fraction=0.2, max_tokens=40)
    try:
        prepare.make_instructions(recipe, file, tokenizer, out, num_workers=num_workers)
    finally:
        prepare.LEAST_ROWS_PER_PROCESS, prepare.CORES_OF_ONE = usual
