"""Real rows with every token's role and weight in sight."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from wit.artifacts import Artifact
from wit.config import TokenWeights
from wit.data.prepare import CARD, TRAIN, make_instructions, make_tokenizer, read_split
from wit.models import load_tokenizer
from wit.plan import Plan
from wit.roles import Role

# Distinct for people who do not see red and green apart, on dark and on light terminals.
STYLE = {
    Role.SPECIAL: "dim",
    Role.TEMPLATE: "bright_black",
    Role.BOILERPLATE: "yellow",
    Role.SYSTEM: "magenta",
    Role.PROMPT: "cyan",
    Role.RESPONSE: "bold blue",
    Role.STOP: "reverse blue",
}


@contextmanager
def prepared(plan: Plan) -> Iterator[tuple[Path, Path]]:
    """Folders of instructions and tokenizer; prepared aside, and thrown away, if not made yet."""
    if plan.instructions.exists():
        yield plan.instructions.verified().path, plan.tokenizer.verified().path
        return
    with tempfile.TemporaryDirectory() as scratch:
        instructions, tokenizer = Path(scratch) / "instructions", Path(scratch) / "tokenizer"
        instructions.mkdir()
        tokenizer.mkdir()
        make_tokenizer(_recipe(plan.tokenizer), plan.tokenizer.parents["base"].path, tokenizer)
        recipe = _recipe(plan.instructions)
        rows = None if recipe.repo else plan.instructions.parents["rows"].path
        make_instructions(recipe, rows, tokenizer, instructions)
        yield instructions, tokenizer


def _recipe(artifact: Artifact) -> Any:
    return artifact.recipe


def rows_as_json(instructions: Path, tokenizer_folder: Path, num_rows: int) -> dict[str, Any]:
    """The card, and rows as lists of tokens with their roles."""
    tokenizer = load_tokenizer(tokenizer_folder)
    rows = [
        [
            {"id": token, "text": text, "role": Role(role).name.lower()}
            for token, text, role in _tokens(row, tokenizer)
        ]
        for row in _first_rows(instructions, num_rows)
    ]
    card = json.loads((instructions / CARD).read_text(encoding="utf-8"))
    return {"card": card, "rows": rows}


def show_rows(
    console: Console,
    instructions: Path,
    tokenizer_folder: Path,
    all_weights: tuple[TokenWeights, ...],
    num_rows: int,
) -> None:
    """Prints the legend with the weights of every cell, coloured rows, and what was dropped."""
    tokenizer = load_tokenizer(tokenizer_folder)
    for row in _first_rows(instructions, num_rows):
        text = Text()
        for _, piece, role in _tokens(row, tokenizer):
            text.append(piece, style=STYLE[Role(role)])
        console.print(Text(f"row {row['row']}, {len(row['input_ids'])} tokens", style="dim"))
        console.print(text)
        console.print()
    card = json.loads((instructions / CARD).read_text(encoding="utf-8"))
    console.print(Group(_legend(all_weights, card), _counts(card)))


def _first_rows(instructions: Path, num_rows: int) -> Any:
    split = read_split(instructions, TRAIN)
    return split.select(range(min(num_rows, len(split))))


def _tokens(row: Any, tokenizer: Any) -> Iterator[tuple[int, str, int]]:
    """Ids, texts and roles; a text is what the token adds to those before it."""
    ids, so_far = row["input_ids"], ""
    for end, role in enumerate(row["roles"], start=1):
        decoded = tokenizer.decode(
            ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        # Half a character decodes to a replacement mark; it is shown with the token that ends it.
        is_half = decoded.endswith("\ufffd") and end < len(ids)
        complete = so_far if is_half else decoded
        yield ids[end - 1], complete[len(so_far) :], role
        so_far = complete


def _legend(all_weights: tuple[TokenWeights, ...], card: dict[str, Any]) -> RenderableType:
    table = Table(title="Roles, training tokens, and the weight of each in every cell")
    table.add_column("role")
    table.add_column("tokens", justify="right")
    for weights in all_weights:
        table.add_column(str(weights), justify="right")
    counts = card["train_tokens_by_role"]
    for role in Role:
        name = role.name.lower()
        if name in counts:
            cells = [f"{weights.by_role()[role]:g}" for weights in all_weights]
            table.add_row(Text(name, style=STYLE[role]), f"{counts[name]:,}", *cells)
    return table


def _counts(card: dict[str, Any]) -> RenderableType:
    rows = ", ".join(f"{count:,} {split}" for split, count in card["rows"].items())
    lines = [f"{card['rows_in']:,} rows in: {rows}; {card['truncated']:,} truncated"]
    lines += [f"dropped {count:,}: {reason}" for reason, count in card["dropped"].items()]
    return Text("\n".join(lines))
