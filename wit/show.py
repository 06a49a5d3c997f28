"""Real rows with every token's role and weight in sight."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from wit.config import TokenWeights
from wit.data.prepare import TRAIN, read_card, read_split
from wit.preview import Prepared
from wit.roles import Role
from wit.tokenizers import load_tokenizer

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


def rows_as_json(
    folders: Prepared, all_weights: tuple[TokenWeights, ...], num_rows: int
) -> dict[str, Any]:
    """The cards of both sets, instruction rows as tokens with their roles, weights of roles."""
    tokenizer = load_tokenizer(folders.tokenizer)
    rows = [
        [
            {"id": token, "text": text, "role": Role(role).name.lower()}
            for token, text, role in _tokens(row, tokenizer)
        ]
        for row in _first_rows(folders.instructions, num_rows)
    ]
    return {
        "card": read_card(folders.instructions),
        "preferences": read_card(folders.preferences),
        "weights": {
            role.name.lower(): {str(weights): weights.by_role()[role] for weights in all_weights}
            for role in Role
        },
        "rows": rows,
    }


def show_rows(
    console: Console, folders: Prepared, all_weights: tuple[TokenWeights, ...], num_rows: int
) -> None:
    """Prints the legend with the weights of every cell, coloured rows, and what was dropped."""
    tokenizer = load_tokenizer(folders.tokenizer)
    for row in _first_rows(folders.instructions, num_rows):
        text = Text()
        for _, piece, role in _tokens(row, tokenizer):
            text.append(piece, style=STYLE[Role(role)])
        console.print(Text(f"row {row['row']}, {len(row['input_ids'])} tokens", style="dim"))
        console.print(text)
        console.print()
    card, of_pairs = read_card(folders.instructions), read_card(folders.preferences)
    console.print(_legend(all_weights, card))
    console.print(Group(_counts("instructions", card), _counts("preferences", of_pairs)))


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


def _counts(name: str, card: dict[str, Any]) -> RenderableType:
    rows = ", ".join(f"{count:,} {split}" for split, count in card["rows"].items())
    lines = [f"{name}: {card['rows_in']:,} rows in: {rows}; {card['truncated']:,} truncated"]
    lines += [f"  dropped {count:,}: {reason}" for reason, count in card["dropped"].items()]
    return Text("\n".join(lines))
