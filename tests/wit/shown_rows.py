"""Small sets of rows, and what a person sees of them."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from samples import save_tokenizer, write_jsonl

from wit.data.prepare import make_instructions, make_preferences, make_tokenizer
from wit.preview import Prepared
from wit.recipes import InstructionsRecipe, PreferencesRecipe, TokenizerRecipe
from wit.show import show_rows
from wit.weights import TokenWeights

ROWS = [
    {"prompt": "Say 👩\u200d👧!", "response": "👩\u200d👧 [bold]yes[/bold]", "system": "Be brief."},
    {"prompt": "And now?", "response": "ends with \ufffd"},
    {"prompt": "And now?", "response": "ends with \ufffd"},
]
PAIRS = [
    {"prompt": "And now?", "chosen": "one", "rejected": "two"},
    {"prompt": "Then?", "chosen": "same", "rejected": "same"},
]
WEIGHTS = (
    TokenWeights(prompt=0, response=1),
    TokenWeights(prompt=0.25, response=1, system=0.125),
)


def prepare(
    folder: Path,
    tokenizer: Any,
    template: str,
    sources: dict[str, list[Any]] | None = None,
    preferences: list[Any] | None = None,
    **knobs: Any,
) -> Prepared:
    """Sets of these rows, or of a mixture with such rows."""
    base = save_tokenizer(tokenizer, folder / "base")
    folders = Prepared(*(folder / name for name in ("tokenizer", "instructions", "preferences")))
    for out in folders:
        out.mkdir()
    make_tokenizer(TokenizerRecipe(template=template), base, folders.tokenizer)
    named = sources or {"": ROWS}
    files = {name: write_jsonl(folder / f"{name}rows.jsonl", rows) for name, rows in named.items()}
    places: Any = {name: {"path": str(file)} for name, file in files.items()}
    where = {"sources": places} if sources else places[""]
    recipe = InstructionsRecipe(held_out_fraction=0, **where, **knobs)
    make_instructions(recipe, files, folders.tokenizer, folders.instructions)
    pairs = write_jsonl(folder / "pairs.jsonl", preferences or PAIRS)
    make_preferences(
        PreferencesRecipe(path=str(pairs), held_out_fraction=0),
        pairs,
        folders.tokenizer,
        folders.preferences,
    )
    return folders


def lines_of(
    folders: Prepared, weights: Any = WEIGHTS, num_rows: int = 9, **more: Any
) -> list[str]:
    """What a hundred columns without colours show."""
    page = io.StringIO()
    show_rows(Console(file=page, width=100, **more), folders, weights, num_rows)
    lines = [Text.from_ansi(line) for line in page.getvalue().splitlines()]
    assert max(line.cell_len for line in lines) <= 100
    return [line.plain.rstrip() for line in lines]
