"""What a benchmark found: figures of ours and of a named baseline, and what both had to do."""

import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Self

from pydantic import model_validator
from rich.console import Console
from rich.table import Table

from wit.errors import StageError
from wit.settings import Settings


class Figure(Settings):
    """One quantity, measured in turns: the ratio of ours over the baseline's, or ours alone."""

    quantity: str  # such as "tokens/s" or "peak memory, MiB"
    ours: tuple[float, ...]  # one per repeat
    baseline: tuple[float, ...] = ()  # of the same turns; empty: what counts is ours alone
    at_least: float | None = None  # the aim, of ``value``
    at_most: float | None = None
    limit: float | None = None  # what ``value`` cannot pass, whoever writes the code
    limit_is: str = ""  # why

    @model_validator(mode="after")
    def _has_turns(self) -> Self:
        if not self.ours or (self.baseline and len(self.baseline) != len(self.ours)):
            raise ValueError(f"{self.quantity}: every turn has a value of both")
        return self

    @property
    def values(self) -> tuple[float, ...]:
        """Of each turn the ratio, ours over the baseline's; without a baseline ours."""
        if not self.baseline:
            return self.ours
        return tuple(own / other for own, other in zip(self.ours, self.baseline, strict=True))

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def is_reached(self) -> bool | None:
        """Whether the aim is; None: there is none."""
        if self.at_least is None and self.at_most is None:
            return None
        is_above = self.at_least is None or self.value >= self.at_least
        return is_above and (self.at_most is None or self.value <= self.at_most)


class BenchResult(Settings):
    """A benchmark, whole."""

    name: str  # of the command
    ours: str  # what was measured, in words
    baseline: str  # against what; empty: every figure stands alone
    figures: tuple[Figure, ...]
    sizes: dict[str, int | float | str]  # model, rows, lengths
    same_work: dict[str, int]  # what both did, counted in each: rows, tokens, steps
    machine: str
    versions: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """All of it, with what follows from it: ratios, and whether aims are reached."""
        figures = [
            {
                **figure.model_dump(mode="json"),
                "value": figure.value,
                "values": figure.values,
                "is_reached": figure.is_reached,
            }
            for figure in self.figures
        ]
        return {**self.model_dump(mode="json"), "figures": figures}


def same_work(arms: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """What every arm did, where all did the same.

    Args:
        arms: By name what each counted while it ran.

    Raises:
        StageError: One did more or less than another, so that no ratio would mean anything.
    """
    (first, counts), *others = arms.items()
    for name, theirs in others:
        if dict(theirs) != dict(counts):
            raise StageError(f"{first} did {dict(counts)}, and {name} did {dict(theirs)}")
    return dict(counts)


def machine_name() -> str:
    """The GPU, or the processor and its cores."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, no GPU"


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions."""
    return {name: version(name) for name in packages}


def show(console: Console, results: Iterable[BenchResult]) -> None:
    """Prints one table of all figures, and under it what they rest on."""
    results = tuple(results)
    table = Table()
    for column in ("bench", "quantity", "ratio", "spread", "aim", "limit", "ours", "baseline"):
        table.add_column(column, justify="left" if column in ("bench", "quantity") else "right")
    for result in results:
        for figure in result.figures:
            table.add_row(result.name, figure.quantity, *_cells(figure))
        table.add_section()
    console.print(table)
    for result in results:
        against = f", against {result.baseline}" if result.baseline else ""
        sizes = ", ".join(f"{name} {value}" for name, value in result.sizes.items())
        console.print(f"{result.name}: {result.ours}{against} ({sizes})", soft_wrap=True)
    console.print(results[0].machine)


def _cells(figure: Figure) -> tuple[str, ...]:
    sign = " x" if figure.baseline else ""
    is_missed = figure.is_reached is False
    value = f"{_short(figure.value)}{sign}{' (missed)' if is_missed else ''}"
    spread = f"{_short(min(figure.values))} to {_short(max(figure.values))}"
    aims = [f">= {_short(figure.at_least)}"] if figure.at_least is not None else []
    aims += [f"<= {_short(figure.at_most)}"] if figure.at_most is not None else []
    limit = "" if figure.limit is None else _short(figure.limit)
    ours, baseline = (
        _short(statistics.median(turns)) if turns else ""
        for turns in (figure.ours, figure.baseline)
    )
    return value, spread, ", ".join(aims), limit, ours, baseline


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
