"""The report's section on data: cards and overlap brought into the shape that the page shows."""

from typing import Any, NamedTuple

from wit.analysis.charts import lengths_chart
from wit.analysis.data_summary import DataSummary
from wit.data.overlap import BenchmarkOverlap
from wit.roles import Role

# Told apart by people who do not see red and green apart (Okabe and Ito), on light and on dark.
COLOURS = {
    Role.SPECIAL: "#c4c8ce",
    Role.TEMPLATE: "#8c939d",
    Role.BOILERPLATE: "#e69f00",
    Role.SYSTEM: "#cc79a7",
    Role.PROMPT: "#56b4e9",
    Role.RESPONSE: "#0072b2",
    Role.STOP: "#009e73",
}


class RoleShare(NamedTuple):
    """A piece of the bar of training tokens."""

    name: str
    num_tokens: int
    percent: float
    colour: str


class SetSection(NamedTuple):
    """One prepared set."""

    name: str
    card: dict[str, Any]
    num_dropped: int
    roles: list[RoleShare]  # empty for pairs, which have none
    sources: dict[str, dict[str, Any]]


class DataSection(NamedTuple):
    """All that the section shows."""

    sets: list[SetSection]
    chart: dict[str, Any] | None  # of lengths; None: there is no set
    benchmarks: dict[str, BenchmarkOverlap] | None  # None: nobody looked
    num_words: int
    num_rows: int  # that were searched
    finding: str | None  # what a reader should know before the scores


def data_section(summary: DataSummary | None) -> DataSection | None:
    """The section, if anything is known of the data."""
    if summary is None or not (summary.cards or summary.overlap):
        return None
    overlap = summary.overlap
    return DataSection(
        sets=[_set_section(name, card) for name, card in summary.cards.items()],
        chart=lengths_chart({name: card["lengths"] for name, card in summary.cards.items()}),
        benchmarks=overlap and overlap.benchmarks,
        num_words=overlap.num_words if overlap else 0,
        num_rows=sum(overlap.num_rows.values()) if overlap else 0,
        finding=overlap and overlap.sentence,
    )


def _set_section(name: str, card: dict[str, Any]) -> SetSection:
    return SetSection(
        name=name,
        card=card,
        num_dropped=sum(card["dropped"].values()),
        roles=_role_shares(card.get("train_tokens_by_role", {})),
        sources=card.get("sources", {}),
    )


def _role_shares(counts: dict[str, int]) -> list[RoleShare]:
    total = sum(counts.values())
    return [
        RoleShare(name, counts[name], 100 * counts[name] / total, COLOURS[role])
        for role in Role
        if counts.get(name := role.name.lower())
    ]
