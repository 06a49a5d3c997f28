"""Sets of rows that are prepared and read back."""

import json
from pathlib import Path
from typing import Any

from samples import write_jsonl
from transformers import AutoTokenizer

from wit.data.prepare import CARD, HELD_OUT, TRAIN, make_instructions, make_preferences, read_split
from wit.data.tokenize import Tokens, decode_runs
from wit.recipes import InstructionsRecipe, PreferencesRecipe
from wit.roles import Role


class Prepared:
    """A prepared folder, read back."""

    def __init__(self, folder: Path, tokenizer: Path) -> None:
        self.folder = folder
        self.card = json.loads((folder / CARD).read_text())
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        self.rows: dict[str, list[Any]] = {
            split: read_split(folder, split).to_list() for split in (TRAIN, HELD_OUT)
        }

    def text(self, row: dict[str, Any], role: Role) -> str:
        return self.texts(row, role)

    def texts(self, row: dict[str, Any], *roles: Role) -> str:
        factors = row["factors"] or [1.0] * len(row["roles"])
        runs = decode_runs(self.tokenizer, Tokens(row["input_ids"], row["roles"], factors))
        return "".join(run.text for run in runs if run.role in roles)

    def prompt(self, row: dict[str, Any]) -> str:
        """With what it shares with all others."""
        return self.texts(row, Role.BOILERPLATE, Role.PROMPT)

    def prompts(self, split: str) -> set[str]:
        return {self.prompt(row) for row in self.rows[split]}

    def side_of(self, column: str = "row") -> dict[int, str]:
        return {row[column]: split for split, rows in self.rows.items() for row in rows}


def prepare(folder: Path, tokenizer: Path, rows: list[Any], **knobs: Any) -> Prepared:
    """Instructions if the rows are such, else preferences."""
    source = write_jsonl(folder / "source" / "rows.jsonl", rows)
    kind, make = (
        (PreferencesRecipe, make_preferences)
        if not rows[0].keys().isdisjoint(("chosen", "scores", "label"))
        else (InstructionsRecipe, make_instructions)
    )
    out = folder / "out"
    out.mkdir(parents=True)
    make(kind(path=str(source), **knobs), source, tokenizer, out)  # pyright: ignore
    return Prepared(out, tokenizer)


def asks(*numbers: int) -> list[dict[str, str]]:
    return [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in numbers]


def pairs(*numbers: int) -> list[dict[str, str]]:
    return [
        {"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No."} for n in numbers
    ]
