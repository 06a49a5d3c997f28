"""What is known of the cells that a search has begun."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from wit.search.knobs import SearchKnobs
from wit.weights import TokenWeights

Cell = tuple[TokenWeights, int]  # weights and seed


class Trial(NamedTuple):
    """A cell that was begun; what it lacks in the end was stopped before it was aligned."""

    weights: TokenWeights
    seed: int
    round: int  # from 0
    rungs: tuple[float | None, ...]  # as far as it came, more is better; None: not known (yet)
    score: float | None  # after the main alignment, more is better; None: not known (yet)
    has_failed: bool

    def at(self, rung: int) -> float | None:
        """Its value at a rung, from 0; None: it is not known, or it did not come there."""
        return self.rungs[rung] if rung < len(self.rungs) else None

    @property
    def cell(self) -> Cell:
        """What was begun."""
        return self.weights, self.seed


def in_order(knobs: SearchKnobs, trials: Sequence[Trial]) -> list[tuple[int, Trial]]:
    """Trials with the place of their weights among the candidates, by round, place and seed.

    Raises:
        ValueError: A trial is none of this search, is there twice, or its score is not finite.
    """
    places = {weights: place for place, weights in enumerate(map(str, knobs.candidates()))}
    found: dict[tuple[int, int], tuple[int, Trial]] = {}
    for trial in trials:
        place = places.get(str(trial.weights))
        if place is None or trial.seed not in range(knobs.seeds):
            raise ValueError(f"{trial.weights}, seed {trial.seed}: no cell of this search")
        if (place, trial.seed) in found:
            raise ValueError(f"{trial.weights}, seed {trial.seed}: is there twice")
        if trial.score is not None and not math.isfinite(trial.score):
            raise ValueError(f"{trial.weights}, seed {trial.seed}: score {trial.score}; it failed")
        found[place, trial.seed] = place, trial
    return sorted(found.values(), key=lambda one: (one[1].round, one[0], one[1].seed))


def degrees_of(weights: TokenWeights) -> float:
    """Angle of the ratio; 0: response only, 90: prompt only."""
    return math.degrees(math.atan2(weights.prompt, weights.response))
