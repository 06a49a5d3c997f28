"""A search over the ratio of prompt weight to response weight, instead of a grid.

``SearchKnobs`` is what stands under ``weights.search``, a ``Trial`` what is known of a cell that
was begun. ``next_round`` says which cells to begin next, ``goes_on`` whether one whose SFT model
is known is aligned, ``standings`` what is known of every candidate and which one is chosen. All
three are functions of the trials alone: nothing is kept between rounds, so an interrupted search
goes on where it was, and every cell is an ordinary cell.
"""

from wit.search.knobs import SearchKnobs, Stop
from wit.search.rounds import Standing, goes_on, next_round, standings
from wit.search.trials import Cell, Trial

__all__ = [
    "Cell",
    "SearchKnobs",
    "Standing",
    "Stop",
    "Trial",
    "goes_on",
    "next_round",
    "standings",
]
