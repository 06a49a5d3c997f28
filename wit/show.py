"""Real rows with every token's role and weight in sight, in colour or without."""

from collections.abc import Iterable, Iterator
from itertools import chain, groupby, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wit.config import TokenWeights
from wit.data.card import read_card
from wit.data.splits import TRAIN, read_table
from wit.preview import Prepared
from wit.roles import Role
from wit.show_card import show_card
from wit.tokenizers import Tokenizer, load_tokenizer

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
# Of a pair, and of a response that is good or bad.
SIDES = {
    "prompt": "cyan",
    "chosen": "bold blue",
    "rejected": "magenta",
    "response": "bold blue",
}


class Run(NamedTuple):
    """A stretch of tokens that count alike."""

    role: Role
    factor: float  # on the weight of the role
    text: str

    @property
    def label(self) -> str:
        """What stands for its colour where there is none."""
        factor = "" if self.factor == 1 else f" x{self.factor:g}"
        return f"{self.role.name.lower()}{factor}"


def rows_as_json(
    folders: Prepared, all_weights: tuple[TokenWeights, ...], num_rows: int
) -> dict[str, Any]:
    """The cards of both sets, rows as tokens with their roles, preferences, and weights of roles.

    Of ``pairs`` and ``unpaired`` one is empty, as the preferences are. ``weights`` holds the
    general weight of each role in every cell, ``weights_by_source`` those of the sources that have
    a table of their own in some cell.
    """
    tokenizer = load_tokenizer(folders.tokenizer)
    rows = _first_rows(folders.instructions, num_rows)
    preferences = [
        _origin(row)
        | {side: _decoded(row[f"{side}_ids"], tokenizer) for side in _sides(row)}
        | {name: row[name] for name in ("is_desirable",) if name in row}
        for row in _first_rows(folders.preferences, num_rows)
    ]
    return {
        "card": read_card(folders.instructions),
        "preferences": read_card(folders.preferences),
        "weights": _weights_by_role(all_weights, ""),
        "weights_by_source": {
            source: _weights_by_role(all_weights, source) for source in _own_sources(all_weights)
        },
        "rows": [list(_tokens(row, tokenizer)) for row in rows],
        "origins": [_origin(row) for row in rows],
        "pairs": [row for row in preferences if "is_desirable" not in row],
        "unpaired": [row for row in preferences if "is_desirable" in row],
    }


def show_rows(
    console: Console,
    folders: Prepared,
    all_weights: tuple[TokenWeights, ...],
    num_rows: int,
    *,
    is_plain: bool = False,
) -> None:
    """Prints rows and pairs, the weights of roles in every cell, and the cards of both sets.

    Args:
        console: Where to; a name stands before every stretch if it shows no colours.
        folders: The prepared sets.
        all_weights: Of the cells.
        num_rows: Of instructions, and as many preferences.
        is_plain: Names instead of colours in any case.
    """
    tokenizer = load_tokenizer(folders.tokenizer)
    is_plain = is_plain or console.no_color or console.color_system is None
    for row in _first_rows(folders.instructions, num_rows):
        num_tokens = len(row["input_ids"])
        console.print(Text(f"row {_place(row)}, {num_tokens:,} tokens", style="dim"))
        _print_runs(console, _runs(row, tokenizer), is_plain)
    for row in _first_rows(folders.preferences, num_rows):
        num_tokens = sum(len(row[f"{side}_ids"]) for side in _sides(row))
        name = _name_of_preference(row)
        console.print(Text(f"{name} {_place(row)}, {num_tokens:,} tokens", style="dim"))
        for side in _sides(row):
            text, style = _decoded(row[f"{side}_ids"], tokenizer), SIDES[side]
            shown = Text(_marked(text) if is_plain else text, style="" if is_plain else style)
            _print_labelled(console, side, shown, len("rejected"))
        console.print()
    card = read_card(folders.instructions)
    console.print(_legend(all_weights, card, is_plain))
    show_card(console, "instructions", card)
    show_card(console, "preferences", read_card(folders.preferences))


def _print_runs(console: Console, runs: Iterable[Run], is_plain: bool) -> None:
    found = list(runs)
    if is_plain:
        width = max(len(run.label) for run in found)
        for run in found:
            _print_labelled(console, run.label, Text(_marked(run.text)), width)
    else:
        text = Text()
        for run in found:
            text.append(run.text, style=STYLE[run.role])
            if run.factor != 1:
                text.append(f"[x{run.factor:g}]", style="red")
        console.print(text)
    console.print()


def _print_labelled(console: Console, label: str, text: Text, width: int) -> None:
    """A text beside its name."""
    space = max(20, console.width - width - 3)
    for part in text.wrap(console, space, overflow="fold"):
        console.print(Text(f"{label:{width}} | ").append_text(part), soft_wrap=True)
        label = ""


def _marked(text: str) -> str:
    r"""Says ``\n`` where a text breaks the line, so that the end of a stretch can be told."""
    marked = text.replace("\n", "\\n\n")
    return marked.removesuffix("\n")


def _first_rows(folder: Path, num_rows: int) -> list[dict[str, Any]]:
    """The first training rows; of a mixture, the first of each source in turn."""
    names = read_card(folder).get("sources") or [""]
    of_source: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    quota = -(-num_rows // len(of_source))
    for batch in read_table(folder, TRAIN).to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            found = of_source[row["source"]]
            if len(found) < quota:
                found.append(row)
        if all(len(found) == quota for found in of_source.values()):
            break
    in_turn = chain.from_iterable(zip_longest(*of_source.values()))
    return [row for row in in_turn if row is not None][:num_rows]


def _sides(row: Any) -> list[str]:
    return [side for side in SIDES if f"{side}_ids" in row]


def _name_of_preference(row: Any) -> str:
    if "is_desirable" not in row:
        return "pair"
    return "good response" if row["is_desirable"] else "bad response"


def _origin(row: Any) -> dict[str, Any]:
    return {"row": row["row"], "source": row["source"]}


def _place(row: Any) -> str:
    return f"{row['row']} of {row['source']}" if row["source"] else str(row["row"])


def _decoded(ids: list[int], tokenizer: Tokenizer) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _factors(row: Any) -> list[float]:
    return row["factors"] or [1.0] * len(row["input_ids"])


def _runs(row: Any, tokenizer: Tokenizer) -> Iterator[Run]:
    """Stretches of one role and factor."""
    ids, end, so_far = row["input_ids"], 0, ""
    for (role, factor), same in groupby(zip(row["roles"], _factors(row), strict=True)):
        end += len(list(same))
        complete = _complete(ids, end, so_far, tokenizer)
        yield Run(Role(role), factor, complete[len(so_far) :])
        so_far = complete


def _tokens(row: Any, tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """Ids, texts, roles and factors; a text is what the token adds to those before it."""
    ids, so_far = row["input_ids"], ""
    for end, (role, factor) in enumerate(zip(row["roles"], _factors(row), strict=True), start=1):
        complete = _complete(ids, end, so_far, tokenizer)
        text = complete[len(so_far) :]
        yield {
            "id": ids[end - 1],
            "text": text,
            "role": Role(role).name.lower(),
            "factor": factor,
        }
        so_far = complete


def _complete(ids: list[int], end: int, so_far: str, tokenizer: Tokenizer) -> str:
    """The text of the first tokens, up to the last that ends a character.

    Half a character decodes to a replacement mark; it is shown with the token that ends it.
    """
    decoded = _decoded(ids[:end], tokenizer)
    return so_far if decoded.endswith("\ufffd") and end < len(ids) else decoded


def _own_sources(all_weights: tuple[TokenWeights, ...]) -> list[str]:
    """Sources of the mixture that have weights of their own in some cell."""
    return sorted({source for weights in all_weights for source in weights.sources})


def _weights_by_role(
    all_weights: tuple[TokenWeights, ...], source: str
) -> dict[str, dict[str, float]]:
    return {
        role.name.lower(): {str(weights): weights.table(source)[role] for weights in all_weights}
        for role in Role
    }


def _legend(all_weights: tuple[TokenWeights, ...], card: dict[str, Any], is_plain: bool) -> Table:
    """The weights of every cell, below the roles that the rows have."""
    counts = card["train_tokens_by_role"]
    roles = [role for role in Role if role.name.lower() in counts]
    table = Table(
        title="Training tokens of each role, and its loss weight in every cell", box=box.SIMPLE_HEAD
    )
    table.add_column("", overflow="fold")
    for role in roles:
        name = Text(role.name.lower(), style="" if is_plain else STYLE[role])
        table.add_column(name, justify="right")
    tokens = [f"{counts[role.name.lower()]:,}" for role in roles]
    table.add_row("tokens", *tokens, end_section=True)
    for weights in all_weights:
        table.add_row(str(weights), *(f"{weights.table('')[role]:g}" for role in roles))
        for source in weights.sources:
            own = (f"{weights.table(source)[role]:g}" for role in roles)
            table.add_row(f"  in rows of {source}", *own)
    return table
