"""Which cells a search begins next, which of them it aligns, and where it stands."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from wit.search.knobs import SearchKnobs
from wit.search.trials import Cell, Trial, degrees_of, in_order
from wit.weights import TokenWeights


class Standing(NamedTuple):
    """What is known of one candidate."""

    weights: TokenWeights
    degrees: float  # 0: response only; 90: prompt only
    score: float | None  # mean of its own runs; None: it has none
    mean: float | None  # of its score, given the runs of all; None: there is no score yet
    deviation: float | None  # how uncertain that is, one standard deviation; None: no telling yet
    num_runs: int  # of its own that have a score
    is_chosen: bool


def next_round(knobs: SearchKnobs, trials: Sequence[Trial]) -> tuple[Cell, ...]:
    """The cells to begin next.

    The same trials give the same cells, in any order and whatever the unit of their scores.

    Args:
        knobs: What the study says.
        trials: Every cell begun so far, of whole rounds: aligned, stopped or failed.

    Returns:
        None at all where the budget is used or everything was tried.
    """
    from wit.search.sampler import Run, ask  # it loads Optuna, which takes half a second

    candidates = knobs.candidates()
    known = in_order(knobs, trials)
    places = ask(
        [degrees_of(weights) for weights in candidates],
        [knobs.seeds] * len(candidates),
        [Run(place, trial.score, trial.rungs, trial.has_failed) for place, trial in known],
        min(knobs.cells_per_round, knobs.budget - len(known)),
    )
    seeds = [set(range(knobs.seeds)) for _ in candidates]
    for place, trial in known:
        seeds[place].remove(trial.seed)
    cells: list[Cell] = []
    for place in places:
        seed = min(seeds[place])
        seeds[place].remove(seed)
        cells.append((candidates[place], seed))
    return tuple(cells)


def goes_on(knobs: SearchKnobs, trials: Sequence[Trial], cell: Cell, rung: int) -> bool:
    """Whether a cell goes on from a rung, now that those of its round are known there.

    Among all cells of its round and of earlier ones that came to the rung it must be one of the
    best ``keep``; as good as the worst of those is enough. What became of any of them after that
    changes nothing. Instruction tuning itself, without a weight on prompts, always goes on: all
    are compared with it.

    Args:
        knobs: What the study says.
        trials: At least all of its round and of earlier ones. Those of its round that went on from
            the rung before are known at this one, or have failed, or else the answer would depend
            on which came first.
        cell: One of them. It does not go on from a rung to which it has not come.
        rung: From 0; the last one is the SFT model.

    Raises:
        ValueError: The cell, or the rung of one of its round, is not known.

    Source: arXiv 1810.05934, asynchronous successive halving. Differs: whole rounds are compared,
    so that the order within a round does not matter.
    """
    if knobs.stop is None:
        return True
    own = next((trial for trial in trials if trial.cell == cell), None)
    if own is None:
        raise ValueError(f"{cell[0]}, seed {cell[1]}: was not begun")
    seen = [trial for trial in trials if trial.round <= own.round]
    here = own.at(rung)
    if any(t.at(rung) is None and _comes_to(knobs, seen, t, rung) for t in seen if _with(t, own)):
        raise ValueError(f"round {own.round}: not all of it is known at rung {rung} yet")
    if here is None:
        return False
    if degrees_of(own.weights) == 0:
        return True
    known = [value for trial in seen if (value := trial.at(rung)) is not None]
    if len(known) < knobs.stop.least:
        return True
    num_better = sum(value > here for value in known)
    return num_better < math.ceil(round(knobs.stop.keep * len(known), 9))


def _with(trial: Trial, own: Trial) -> bool:
    """Whether both were begun together, and the first one may still tell its rung."""
    return trial.round == own.round and not trial.has_failed


def _comes_to(knobs: SearchKnobs, trials: Sequence[Trial], trial: Trial, rung: int) -> bool:
    return rung == 0 or goes_on(knobs, trials, trial.cell, rung - 1)


def standings(knobs: SearchKnobs, trials: Sequence[Trial]) -> tuple[Standing, ...]:
    """What is known of every candidate, by angle; chosen is the best mean among those with runs."""
    from wit.search.proposal import known_curve

    candidates = knobs.candidates()
    degrees = [degrees_of(weights) for weights in candidates]
    known = in_order(knobs, trials)
    scored = [(place, trial.score) for place, trial in known if trial.score is not None]
    own = [[score for at, score in scored if at == place] for place in range(len(candidates))]
    means, deviations = known_curve(degrees, scored)
    of_tried = [(mean, -p) for p, mean in enumerate(means) if own[p] and mean is not None]
    chosen = -max(of_tried)[1] if of_tried else None  # of equal ones the smaller angle
    return tuple(
        Standing(
            weights=weights,
            degrees=degrees[p],
            score=math.fsum(own[p]) / len(own[p]) if own[p] else None,
            mean=means[p],
            deviation=deviations[p],
            num_runs=len(own[p]),
            is_chosen=p == chosen,
        )
        for p, weights in enumerate(candidates)
    )
