"""The card of a prepared set on a terminal."""

from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

MAX_TEXTS = 8  # of boilerplate that are shown


def show_card(console: Console, name: str, card: dict[str, Any]) -> None:
    """Prints what became of the rows of a set, and what those that are trained on are like."""
    rows = ", ".join(f"{count:,} {split}" for split, count in card["rows"].items())
    lines = [f"{name}: {card['rows_in']:,} rows in: {rows}; {card['truncated']:,} truncated"]
    lines += [f"  dropped {count:,}: {reason}" for reason, count in card["dropped"].items()]
    if labels := card.get("labels"):
        shares = ", ".join(f"{count:,} {label}" for label, count in labels.items())
        lines.append(f"  single responses to train on: {shares}")
    lines += [f"  {line}" for line in _ratios(card)]
    console.print(Text("\n".join(lines)))
    for text in card.get("boilerplate", [])[:MAX_TEXTS]:
        console.print(Padding(Text(repr(text), style="yellow", overflow="fold"), (0, 0, 0, 4)))
    console.print(Padding(_lengths(card["lengths"]), (0, 0, 0, 2)))
    if card.get("sources"):
        console.print(Padding(_sources(card["sources"]), (0, 0, 0, 2)))


def _ratios(card: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    ratio = card.get("generation_ratio", {}).get("of_totals")
    if ratio is not None:
        mean = card["generation_ratio"]["mean_of_rows"]
        lines.append(f"response tokens for each prompt token: {ratio:.2f}; mean of rows {mean:.2f}")
    share = card.get("boilerplate_share")
    if share is not None:
        found = len(card["boilerplate"])
        texts = (
            f": {found} text{'s' * (found != 1)} that nearly all rows of a source hold"
            if found
            else ""
        )
        lines.append(f"boilerplate: {share:.1%} of the prompt tokens{texts}")
    return lines


def _lengths(lengths: dict[str, dict[str, int]]) -> Table:
    """Percentiles of the lengths of rows and of their parts."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("tokens")
    percentiles = next(iter(lengths.values()))
    for name in percentiles:
        table.add_column(_percentile(name), justify="right")
    for part, values in lengths.items():
        table.add_row(part, *(f"{value:,}" for value in values.values()))
    return table


def _percentile(name: str) -> str:
    number = name.removeprefix("p")
    return {"0": "least", "50": "median", "100": "most"}.get(number, f"{number} %")


def _sources(cards: dict[str, dict[str, Any]]) -> Table:
    """One line for each source of a mixture."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("source", overflow="fold")
    for name in ("rows in", "dropped", "train", "held out", "truncated", "median tokens"):
        table.add_column(name, justify="right")
    for name, card in cards.items():
        counts = (card["rows_in"], sum(card["dropped"].values()), *card["rows"].values())
        of_row = card["lengths"].get("row") or card["lengths"]["prompt"]
        table.add_row(
            name,
            *(f"{count:,}" for count in (*counts, card["truncated"])),
            f"{of_row['p50']:,}" if of_row else "-",
        )
    return table
