"""Ways of choosing among runs of which only some are made, and what each choice is worth."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from wit.bench.search_settings import Setting
from wit.search import SearchKnobs, Stop, Trial, goes_on
from wit.search.proposal import known_curve
from wit.search.sampler import Run, ask
from wit.weights import TokenWeights

CELLS_PER_ROUND = 2
SEEDS = 2


class Begun(NamedTuple):
    """A run that a way has asked for."""

    run: int  # its number in the setting
    is_aligned: bool


class Regret(NamedTuple):
    """What a choice falls short of the best of all, in standard deviations of the noise."""

    of_cell: float  # its score, below the best score of all runs
    of_ray: float  # its ray's true score, below the best ray's


Begin = Callable[[Setting, np.random.Generator, int], list[Begun]]


class Way(NamedTuple):
    """How cells are begun, and how one of them is chosen."""

    begin: Begin
    by_curve: bool = False  # what is chosen: see ``chosen``
    goes_on: bool = True  # what it begins with a budget comes first with a larger one


def by_search(
    setting: Setting, generator: np.random.Generator, budget: int, stop: Stop | None = None
) -> list[Begun]:
    """The search as studies have it; a seed is the next run of its ray in random order."""
    pools = [
        generator.permutation(np.flatnonzero(np.equal(setting.places, place)))[:SEEDS].tolist()
        for place in range(len(setting.degrees))
    ]
    limits = [len(pool) for pool in pools]
    knobs = SearchKnobs(budget=budget, seeds=SEEDS, stop=stop)
    weights = [_weights_at(degrees) for degrees in setting.degrees]
    trials: list[Trial] = []
    runs: list[Run] = []
    begun: list[Begun] = []
    while places := ask(setting.degrees, limits, runs, min(CELLS_PER_ROUND, budget - len(begun))):
        asked = [(place, pools[place].pop()) for place in places]
        newest = [
            Trial(
                weights[place], len(pools[place]), len(trials), (setting.rungs[run],), None, False
            )
            for place, run in asked
        ]
        trials += newest
        for (place, run), trial in zip(asked, newest, strict=True):
            is_aligned = goes_on(knobs, trials, trial.cell, 0)
            score = setting.scores[run] if is_aligned else None
            runs.append(Run(place, score, trial.rungs, has_failed=False))
            begun.append(Begun(run, is_aligned))
    return begun


def by_chance(setting: Setting, generator: np.random.Generator, budget: int) -> list[Begun]:
    """Runs drawn at random."""
    drawn = generator.permutation(len(setting.scores))[:budget]
    return [Begun(run, is_aligned=True) for run in drawn.tolist()]


def by_grid(setting: Setting, generator: np.random.Generator, budget: int) -> list[Begun]:
    """A grid of so many rays, as evenly spaced as they are there; then another run of each."""
    left = [
        generator.permutation(np.flatnonzero(np.equal(setting.places, place))).tolist()
        for place in range(len(setting.degrees))
    ]
    begun: list[Begun] = []
    while len(begun) < budget and any(left):
        free = [place for place, pool in enumerate(left) if pool]
        num = min(budget - len(begun), len(free))
        for step in np.round(np.linspace(0, len(free) - 1, num)).astype(int).tolist():
            begun.append(Begun(left[free[step]].pop(), is_aligned=True))
    return begun


def chosen(setting: Setting, begun: Sequence[Begun], *, by_curve: bool) -> int:
    """The run that is chosen.

    Args:
        setting: What was searched.
        begun: What was tried.
        by_curve: The best run of the ray whose mean is best given all runs, as a search chooses;
            else the best run of all.
    """
    runs = [one.run for one in begun if one.is_aligned]
    if by_curve:
        scored = [(setting.places[run], setting.scores[run]) for run in runs]
        means, _ = known_curve(setting.degrees, scored)
        best = max({place for place, _ in scored}, key=lambda place: (means[place], -place))
        runs = [run for run in runs if setting.places[run] == best]
    return max(runs, key=lambda run: setting.scores[run])


def regret(setting: Setting, run: int) -> Regret:
    """Of the choice of a run."""
    return Regret(
        (max(setting.scores) - setting.scores[run]) / setting.noise,
        (max(setting.truth) - setting.truth[setting.places[run]]) / setting.noise,
    )


def _weights_at(degrees: float) -> TokenWeights:
    turn = math.radians(degrees)
    return TokenWeights(prompt=round(math.sin(turn), 6), response=round(math.cos(turn), 6))


SEARCH = Way(by_search, by_curve=True)
STOPPED = Way(partial(by_search, stop=Stop()), by_curve=True, goes_on=False)
RANDOM = Way(by_chance)
GRID = Way(by_grid, goes_on=False)
