"""How many pairs each round on policy was made of: of few little is learned."""

from collections import defaultdict
from statistics import fmean
from typing import NamedTuple

from pydantic import NonNegativeInt, PositiveInt

from wit.analysis.digits import number
from wit.analysis.report_tables import Numbers
from wit.config import Settings
from wit.data.card import read_card
from wit.data.splits import TRAIN
from wit.on_policy.recipes import PairsRecipe
from wit.plan import Plan

FEW = 0.25  # of the prompts


class DrawnPairs(Settings):
    """Of one round of one alignment, over the models that it was made for."""

    alignment: str
    round: PositiveInt
    num_models: PositiveInt
    num_prompts: NonNegativeInt  # of all models together
    num_pairs: NonNegativeInt
    mean_score: float  # of what was drawn, by its scorer

    @property
    def share(self) -> float:
        """Of the prompts that gave a pair."""
        return self.num_pairs / self.num_prompts


class _Card(NamedTuple):
    num_prompts: int
    num_pairs: int
    mean_score: float


def drawn_pairs(plan: Plan) -> tuple[DrawnPairs, ...]:
    """All that were made; what is not there, or damaged, is left out."""
    found: dict[tuple[str, int], list[_Card]] = defaultdict(list)
    for cell in plan.cells:
        for one in cell.aligned:
            for step in one.made:
                if not isinstance(step.recipe, PairsRecipe):
                    continue
                try:
                    card = read_card(step.path)
                    of_step = _Card(card["rows_in"], card["rows"][TRAIN], card["mean_score"])
                except (OSError, ValueError, KeyError):
                    continue
                found[one.alignment, step.recipe.round].append(of_step)
    return tuple(
        DrawnPairs(
            alignment=alignment,
            round=number,
            num_models=len(cards),
            num_prompts=sum(card.num_prompts for card in cards),
            num_pairs=sum(card.num_pairs for card in cards),
            mean_score=fmean(card.mean_score for card in cards),
        )
        for (alignment, number), cards in found.items()
    )


def pairs_numbers(found: tuple[DrawnPairs, ...]) -> Numbers:
    """A row for each round of each alignment."""
    columns = ("alignment", "round", "prompts", "pairs", "share", "mean score of what was drawn")
    rows = [
        (
            one.alignment,
            str(one.round),
            f"{one.num_prompts / one.num_models:,.0f}",
            f"{one.num_pairs / one.num_models:,.0f}",
            f"{one.share:.0%}",
            number(one.mean_score),
        )
        for one in found
    ]
    return Numbers(columns, rows)


def pairs_finding(found: tuple[DrawnPairs, ...]) -> str:
    """What a reader should know first; empty where most prompts gave a pair."""
    few = [one for one in found if one.share < FEW]
    if not few:
        return ""
    one = min(few, key=lambda one: one.share)
    return (
        f"Beware: of what alignment {one.alignment} drew in round {one.round}, {one.share:.0%} of "
        "the prompts gave a pair, so it learned from few; see Pairs made on policy."
    )
