"""A search over the weights against cells drawn at random: regret of what each chooses.

Nothing is trained: scores of all cells are known, and what is measured is which of them a search
looks at, and what it then chooses. Regret is in standard deviations of the noise between runs of
one ray. That of a cell is its score below the best score of all cells, which owes much to luck;
that of a ray is its mean below the best ray's. Only of drawn curves the truth is known.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from wit.analysis.resampling import mean_estimate
from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.bench.search_settings import Setting, drawn_settings, paper_settings
from wit.bench.search_ways import RANDOM, SEARCH, STOPPED, Begin, Begun, Way, chosen, regret
from wit.errors import InputError

NUM_DRAWS = 4  # simulations of every setting whose mean is one turn
LEAST, MOST = 4, 18  # cells; with fewer there is nothing to choose, and curves have no more
Regrets = np.ndarray  # [setting, budget, 2]: of the cell, of its ray


def measure(csv: Path | None, repeats: int = 3, budget: int = 10) -> BenchResult:
    """Searches the paper's settings and drawn ones, again and again.

    Args:
        csv: The paper's scores, as ``wit analyze`` reads them; None: drawn curves alone.
        repeats: Turns; each is the mean over settings of a few simulations with seeds of its own.
        budget: Cells that may be begun.

    Raises:
        InputError: The file cannot be read, or the budget is none that can be simulated.
    """
    if not LEAST <= budget <= MOST:
        raise InputError(f"--budget {budget}: allowed are {LEAST} to {MOST} cells")
    known = [_turn(None, turn, budget) for turn in range(repeats)]
    figures = [
        _figure(f"true regret at {budget} of 18 cells, drawn curves, noise SD", known, 1),
    ]
    sizes: dict[str, int | float | str] = {"drawn curves": 9, "simulations": repeats * NUM_DRAWS}
    turns = known
    if csv is not None:
        found = [_turn(csv, turn, budget) for turn in range(repeats)]
        figures += _of_paper(found, budget)
        sizes |= {"settings of the paper": len(found[0]["search"])} | _intervals(found)
        turns = [*known, *found]
    return BenchResult(
        name="search",
        ours=f"search, {budget} cells begun, two a round, at most two of a ray",
        baseline=f"{budget} cells drawn at random, the best one chosen",
        figures=tuple(figures),
        sizes=sizes,
        same_work=same_work({way: _total(turns, way) for way in ("search", "random")}),
        machine=machine_name(),
        versions=versions_of("optuna", "numpy"),
    )


def regrets_of(
    way: Way, settings: Sequence[Setting], budgets: Sequence[int], seeds: Sequence[int]
) -> tuple[Regrets, dict[str, int]]:
    """Mean regrets over seeds, and what was done for them.

    Args:
        way: Whose choices.
        settings: Where.
        budgets: Rising.
        seeds: One simulation each.
    """
    regrets = np.zeros((len(seeds), len(settings), len(budgets), 2))
    counts = {"cells begun": 0, "cells aligned": 0}
    for turn, seed in enumerate(seeds):
        for place, setting in enumerate(settings):
            begun = _begun(way.begin, setting, budgets[-1], (seed, place))
            counts["cells begun"] += len(begun)
            counts["cells aligned"] += sum(one.is_aligned for one in begun)
            for column, budget in enumerate(budgets):
                own = begun[:budget]
                if not way.goes_on:
                    own = _begun(way.begin, setting, budget, (seed, place))
                run = chosen(setting, own, by_curve=way.by_curve)
                regrets[turn, place, column] = regret(setting, run)
    return regrets.mean(0), counts


@lru_cache(maxsize=4096)  # ways that differ in their choice alone begin the same
def _begun(begin: Begin, setting: Setting, budget: int, seed: tuple[int, int]) -> tuple[Begun, ...]:
    return tuple(begin(setting, np.random.default_rng(seed), budget))


def _turn(csv: Path | None, turn: int, budget: int) -> dict[str, Any]:
    """Regrets [setting, 2] and counts of every way; without the file of drawn curves."""
    seeds = range(turn * NUM_DRAWS, (turn + 1) * NUM_DRAWS)
    ways = {"search": SEARCH, "random": RANDOM}
    if csv is not None:
        ways["stopped"] = STOPPED
    found: dict[str, Any] = {}
    for name, way in ways.items():
        settings = paper_settings(csv) if csv is not None else drawn_settings(turn)
        regrets, counts = regrets_of(way, settings, [budget], seeds)
        found[name], found[f"counts of {name}"] = regrets[:, 0], counts
    return found


def _of_paper(turns: Sequence[dict[str, Any]], budget: int) -> list[Figure]:
    at = f"at {budget} of 35 cells"
    shares = [_share(turn["counts of stopped"]) for turn in turns]
    return [
        Figure(
            quantity=f"regret of the chosen cell {at}, noise SD",
            ours=tuple(float(turn["search"][:, 0].mean()) for turn in turns),
            at_most=1.0,
            limit=0.0,
            limit_is="the best of all 35 cells is chosen",
        ),
        _figure(f"regret of the chosen cell {at}, noise SD", turns, 0),
        _figure(f"regret of its ray {at}, noise SD", turns, 1),
        Figure(quantity="aligned share of cells, with early stopping", ours=tuple(shares)),
        _figure("regret of the chosen cell, with early stopping", turns, 0, "stopped", "search"),
    ]


def _figure(
    quantity: str,
    turns: Sequence[dict[str, Any]],
    column: int,
    ours: str = "search",
    baseline: str = "random",
) -> Figure:
    return Figure(
        quantity=quantity,
        ours=tuple(float(turn[ours][:, column].mean()) for turn in turns),
        baseline=tuple(float(turn[baseline][:, column].mean()) for turn in turns),
        limit=0.0,
        limit_is="the best one is chosen",
    )


def _intervals(turns: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Means over settings with their intervals: other settings might have been there."""
    found = {}
    for way in ("search", "random"):
        for column, what in enumerate(("cell", "ray")):
            by_setting = np.mean([turn[way][:, column] for turn in turns], axis=0)
            mean = mean_estimate(by_setting.tolist())
            if mean is not None and mean.low is not None:
                ends = f"[{mean.low:.2f}, {mean.high:.2f}]"
                found[f"{way}, regret of the {what}"] = f"{mean.value:.2f} {ends}"
    return found


def _total(turns: Sequence[dict[str, Any]], way: str) -> dict[str, int]:
    """What a way did in all turns; without early stopping all that is begun is aligned."""
    counts = [turn[f"counts of {way}"] for turn in turns]
    return {name: sum(one[name] for one in counts) for name in counts[0]}


def _share(counts: dict[str, int]) -> float:
    return counts["cells aligned"] / counts["cells begun"]
