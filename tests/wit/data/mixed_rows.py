"""Rows of several sources, prepared as one mixture."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samples import write_jsonl

from wit.data.prepare import TRAIN, make_instructions, read_table
from wit.recipes import InstructionsRecipe, PreferencesRecipe

Row = dict[str, Any]
WORDS = ["apple", "bridge", "cloud", "door", "engine", "forest", "garden", "house", "jar", "kite"]


def rows(number: int, *, seed: int = 0, num_words: int = 6) -> list[Row]:
    """No two alike, and nothing that all have in common."""
    rng = random.Random(seed)
    return [
        {"prompt": " ".join(rng.choices(WORDS, k=num_words)) + f" {seed}-{n}", "response": "Yes."}
        for n in range(number)
    ]


def mixture(
    folder: Path,
    tokenizer: Path,
    sources: dict[str, list[Row]],
    options: dict[str, Any] | None = None,
    make: Callable[..., None] = make_instructions,
    **knobs: Any,
) -> Path:
    """Prepares rows of named sources, each with its options."""
    files = {
        name: write_jsonl(folder / f"{name}.jsonl", of_source)
        for name, of_source in sources.items()
    }
    of_sources = {
        name: {"path": str(file), **(options or {}).get(name, {})} for name, file in files.items()
    }
    kind = InstructionsRecipe if make is make_instructions else PreferencesRecipe
    recipe = kind.model_validate({"held_out_fraction": 0, **knobs, "sources": of_sources})
    out = folder / "out"
    out.mkdir(parents=True)
    make(recipe, files, tokenizer, out)
    return out


def numbers(out: Path, split: str = TRAIN) -> dict[str, set[int]]:
    """Numbers of the rows that were kept, by source."""
    kept: dict[str, set[int]] = {}
    for row in read_table(out, split).select(["source", "row"]).to_pylist():
        kept.setdefault(row["source"], set()).add(row["row"])
    return kept
