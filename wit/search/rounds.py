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
    mean: float | None  # of its score, given all runs; None: there is no score yet
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
    from wit.search.proposal import propose

    candidates = knobs.candidates()
    known = in_order(knobs, trials)
    begun: dict[int, list[Trial]] = {place: [] for place in range(len(candidates))}
    for place, trial in known:
        begun[place].append(trial)
    wanted = min(knobs.cells_per_round, knobs.budget - len(known))
    free = [0 if _is_stopped(tried) else knobs.seeds - len(tried) for tried in begun.values()]
    scored = [(place, trial.score) for place, trial in known if trial.score is not None]
    cells: list[Cell] = []
    places = propose(
        [degrees_of(weights) for weights in candidates],
        [len(tried) for tried in begun.values()],
        free,
        scored,
        wanted,
    )
    for place in places:
        seeds = {trial.seed for trial in begun[place]}
        seeds |= {seed for weights, seed in cells if weights == candidates[place]}
        cells.append((candidates[place], min(set(range(knobs.seeds)) - seeds)))
    return tuple(cells)


def goes_on(knobs: SearchKnobs, trials: Sequence[Trial], cell: Cell) -> bool:
    """Whether a cell is aligned, now that the rungs of its round are known.

    Among all cells of its round and of earlier ones its rung must be one of the best ``keep``;
    as good as the worst of those is enough.

    Args:
        knobs: What the study says.
        trials: At least all of its round and of earlier ones; those of its round have a rung, or
            have failed, or else the answer would depend on which SFT model came first.
        cell: One of them.

    Raises:
        ValueError: The cell, or the rung of one of its round, is not known.

    Source: arXiv 1810.05934, asynchronous successive halving, with one rung. Differs: whole
    rounds are compared, so that the order within a round does not matter.
    """
    own = next((trial for trial in trials if trial.cell == cell), None)
    if own is None:
        raise ValueError(f"{cell[0]}, seed {cell[1]}: was not begun")
    if knobs.stop is None:
        return not own.has_failed
    seen = [trial for trial in trials if trial.round <= own.round and not trial.has_failed]
    if any(trial.rung is None for trial in seen if trial.round == own.round):
        raise ValueError(f"round {own.round}: not all of its SFT models have a rung yet")
    if own.rung is None:
        return False
    rungs = [trial.rung for trial in seen if trial.rung is not None]
    if len(rungs) < knobs.stop.least:
        return True
    num_better = sum(rung > own.rung for rung in rungs)
    return num_better < math.ceil(round(knobs.stop.keep * len(rungs), 9))


def standings(knobs: SearchKnobs, trials: Sequence[Trial]) -> tuple[Standing, ...]:
    """What is known of every candidate, by angle; chosen is the best mean among those with runs."""
    from wit.search.proposal import known_curve

    candidates = knobs.candidates()
    degrees = [degrees_of(weights) for weights in candidates]
    known = in_order(knobs, trials)
    scored = [(place, trial.score) for place, trial in known if trial.score is not None]
    num_runs = [sum(place == own for place, _ in scored) for own in range(len(candidates))]
    means, deviations = known_curve(degrees, scored)
    of_tried = [(mean, -p) for p, mean in enumerate(means) if num_runs[p] and mean is not None]
    chosen = -max(of_tried)[1] if of_tried else None  # of equal ones the smaller angle
    return tuple(
        Standing(weights, degrees[p], means[p], deviations[p], num_runs[p], p == chosen)
        for p, weights in enumerate(candidates)
    )


def _is_stopped(tried: Sequence[Trial]) -> bool:
    """Whether a ray is hopeless: all of its cells ended before they were aligned, or failed."""
    return bool(tried) and all(trial.score is None for trial in tried)
