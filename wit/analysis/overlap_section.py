"""The report's section on scores without the items that stand in the training text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from wit.analysis.digits import decimals_of, number, plus_minus
from wit.analysis.report_tables import Numbers
from wit.analysis.without_overlap import BASE, ItemMean, ModelWithout, Order, WithoutOverlap

WHEN = {"sft": "before DPO", "dpo": "after DPO"}


class WithoutSection(NamedTuple):
    """What the section says of one benchmark."""

    benchmark: str
    sentences: list[str]
    numbers: Numbers  # no rows: nothing can be told


def without_sections(
    found: Mapping[str, WithoutOverlap], weights: Iterable[str]
) -> list[WithoutSection]:
    """One for each benchmark with flagged items; none: no section.

    Args:
        found: By benchmark.
        weights: Of cells that the sentences are of, in this order.
    """
    shown = list(dict.fromkeys(weights))
    return [
        WithoutSection(name, list(_sentences(name, one, shown)), _numbers(one))
        for name, one in found.items()
    ]


def _sentences(name: str, found: WithoutOverlap, shown: list[str]) -> Iterator[str]:
    num_flagged = found.num_items - found.num_rest
    of = "All" if not found.num_rest else f"{num_flagged:,} of"
    verb = "stands" if num_flagged == 1 else "stand"
    lead = f"{of} {found.num_items:,} items of {name} {verb} in the training text"
    if found.obstacle:
        yield f"{lead}. What it scores without them cannot be told: {found.obstacle}."
        return
    yield f"{lead}; {found.num_rest:,} are left without them."
    said = [_change(model, found) for model in _named(found, shown)]
    if said:
        yield f"Without them {'; '.join(said)}."
    yield from _orders(found.orders)


def _named(found: WithoutOverlap, shown: list[str]) -> Iterator[ModelWithout]:
    """Models after DPO of these weights, or those before it where there are none; and the base."""
    for weights in shown:
        model = found.model("dpo", weights) or found.model("sft", weights)
        if model is not None:
            yield model
    base = found.model(BASE, BASE)
    if base is not None:
        yield base


def _change(model: ModelWithout, found: WithoutOverlap) -> str:
    decimals = _decimals(found)
    whom = "the base" if model.stage == BASE else f"{model.weights} {WHEN[model.stage]}"
    ends = f"{number(model.whole.value, decimals)} to {number(model.rest.value, decimals)}"
    change, width = model.change.value, model.change.half_width
    if number(change, decimals) == number(0, decimals):
        return f"the score of {whom} stays at {number(model.whole.value, decimals)}"
    word = "rises" if change > 0 else "falls"
    by = plus_minus(abs(change), width, decimals)
    noise = ", which is within the noise" if width is not None and abs(change) <= width else ""
    return f"the score of {whom} {word} by {by}, from {ends}{noise}"


def _orders(orders: Sequence[Order]) -> Iterator[str]:
    """Whether cells change places, at all stages together where none does."""
    kept = [order for order in orders if not order.num_changed]
    if kept:
        stages = " and ".join(WHEN[order.stage] for order in kept)
        yield f"The order of the cells stays the same {stages}."
    for order in orders:
        if order not in kept:
            yield _changed(order)


def _changed(order: Order) -> str:
    when = WHEN[order.stage][:1].upper() + WHEN[order.stage][1:]
    of = f"{order.num_changed:,} of {order.num_pairs:,} pairs of cells"
    said = f"{when} the order of {of} changes, and {_of_best(order)}"
    if order.lead is None:
        return f"{said}."
    decimals = decimals_of([order.lead.value])
    width = order.lead.half_width
    lead = plus_minus(order.lead.value, width, decimals)
    noise = ", which is within the noise" if width is not None and order.lead.value <= width else ""
    return f"{said}: by {lead} on the same items{noise}."


def _of_best(order: Order) -> str:
    gone = [weights for weights in order.best if weights not in order.best_rest]
    new = [weights for weights in order.best_rest if weights not in order.best]
    stay = [weights for weights in order.best if weights in order.best_rest]
    if not stay:
        return f"{_all(new, 'is', 'are')} best in the place of {_all(gone)}"
    if gone:
        others = f", as {_all(new)} now {'do' if len(new) > 1 else 'does'}" if new else ""
        return f"{_all(gone, 'no longer ties', 'no longer tie')} with {_all(stay)}{others}"
    them = "these" if len(stay) > 1 else "it"
    others = f", but {_all(new, 'now ties', 'now tie')} with {them}" if new else ""
    return f"{_all(stay, 'stays', 'stay')} best{others}"


def _all(weights: Sequence[str], one: str = "", several: str = "") -> str:
    """All of them, with the verb that fits their number."""
    *first, last = weights
    names = f"{', '.join(first)} and {last}" if first else last
    return f"{names} {several if first else one}".strip()


def _numbers(found: WithoutOverlap) -> Numbers:
    decimals = _decimals(found)
    rows = [
        (
            BASE if model.stage == BASE else f"{model.weights} {model.stage.upper()}",
            _mean(model.whole, decimals),
            _mean(model.rest, decimals),
            plus_minus(model.change.value, model.change.half_width, decimals, is_signed=True),
        )
        for model in found.models
    ]
    columns = ("model", f"all {found.num_items:,} items", f"the {found.num_rest:,} left", "change")
    return Numbers(columns, rows)


def _mean(mean: ItemMean, decimals: int) -> str:
    return plus_minus(mean.value, mean.half_width, decimals)


def _decimals(found: WithoutOverlap) -> int:
    return decimals_of([mean.value for m in found.models for mean in (m.whole, m.rest)])
