"""What a study says of a search: ``weights: {search: {rays: 9, budget: 10, seeds: 2}}``."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from wit.recipes import Share
from wit.settings import Settings
from wit.weights import TokenWeights

DIGITS = 3  # of a candidate's smaller weight, so that names are short: p0.199-r1


class Stop(Settings):
    """Early stopping at rungs: some within SFT, and the SFT model before it is aligned."""

    by: Literal["select", "nll_response"] = "select"  # score on benchmarks, or held-out likelihood
    # Shares of SFT after which the held-out likelihood of responses decides who goes on.
    sft_rungs: tuple[Share, ...] = ()
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5  # share of those at a rung that go on
    least: PositiveInt = 4  # nothing is stopped at a rung that fewer have come to

    @model_validator(mode="after")
    def _rungs_rise(self) -> Self:
        if sorted({*self.sft_rungs}) != [*self.sft_rungs]:
            raise ValueError(
                f"sft_rungs {[*self.sft_rungs]}: allowed are shares of SFT between 0 and 1, each "
                "above the one before, such as [0.25, 0.5]"
            )
        return self

    @property
    def num_rungs(self) -> int:
        """Those within SFT, and the SFT model."""
        return len(self.sft_rungs) + 1

    @property
    def reads_held_out(self) -> bool:
        """Whether a rung is the likelihood of held-out responses."""
        return bool(self.sft_rungs) or self.by == "nll_response"


class SearchKnobs(Settings):
    """A search over the angle of prompt weight to response weight, instead of a grid.

    Only the ratio of the two is searched: AdamW without clipping does not see their scale.
    """

    rays: PositiveInt = 9  # candidates, evenly spaced in angle
    budget: PositiveInt  # cells that are begun, at most, those that fail or are stopped included
    seeds: PositiveInt = 2  # replicates of one ray, at most: 0 to seeds - 1
    degrees: tuple[float, float] = (0, 90)  # 0: response only; 45: both alike; 90: prompt only
    cells_per_round: PositiveInt = 2  # begun together; decides what is tried, so no runtime's
    stop: Stop | None = None  # unset: every cell that is begun is aligned

    @model_validator(mode="after")
    def _candidates_differ(self) -> Self:
        low, high = self.degrees
        if not 0 <= low <= high <= 90:
            raise ValueError(
                f"degrees {low:g} to {high:g}: allowed is a lower and an upper angle between "
                "0 (response only) and 90 (prompt only), such as [0, 45]"
            )
        if len(set(map(str, self.candidates()))) < self.rays:
            raise ValueError(
                f"{self.rays} rays from {low:g} to {high:g} degrees: some would have the same "
                f"weights, which have {DIGITS} digits; give fewer rays or a wider range"
            )
        return self

    @property
    def most_cells(self) -> int:
        """The budget, or all cells that there are, if these are fewer."""
        return min(self.budget, self.rays * self.seeds)

    def candidates(self) -> tuple[TokenWeights, ...]:
        """The weights that may be tried, by angle; the larger of the two is 1."""
        return tuple(map(_weights_at, self._angles()))

    def _angles(self) -> list[float]:
        low, high = self.degrees
        steps = max(self.rays - 1, 1)
        return [low + (high - low) * step / steps for step in range(self.rays)]


def _weights_at(degrees: float) -> TokenWeights:
    if degrees <= 45:
        return TokenWeights(prompt=_short(degrees), response=1)
    return TokenWeights(prompt=1, response=_short(90 - degrees))


def _short(degrees: float) -> float:
    return float(f"{math.tan(math.radians(degrees)):.{DIGITS}g}")
