"""The search as a sampler of Optuna: the only module of the search that imports it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from wit.search.proposal import expected, propose

RAY = "ray"  # the one parameter: the place of a candidate


class Run(NamedTuple):
    """A run of a candidate, as Optuna is told of it."""

    place: int
    score: float | None
    rungs: tuple[float | None, ...]
    has_failed: bool


class AngleSampler(optuna.samplers.BaseSampler):
    """Proposes candidates by a Gaussian process over their angle; draws nothing at random.

    Args:
        degrees: Angle of every candidate, rising.
        limits: How many runs every candidate may have.
    """

    def __init__(self, degrees: Sequence[float], limits: Sequence[int]) -> None:
        self.degrees = degrees
        self.limits = limits

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The one parameter."""
        return {RAY: rays(len(self.degrees))}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Mapping[str, Any]
    ) -> dict[str, int]:
        """The next place, given all trials of the study that have one."""
        trials = [one for one in study.get_trials(deepcopy=False) if RAY in one.params]
        num_begun = [0] * len(self.degrees)
        for one in trials:
            num_begun[one.params[RAY]] += 1
        scored = [(one.params[RAY], one.value) for one in trials if one.value is not None]
        for one in trials:
            if one.state == TrialState.RUNNING:
                # Until its score is known, it is taken to come out as expected.
                score = expected(self.degrees, scored, one.params[RAY])
                scored += [] if score is None else [(one.params[RAY], score)]
        free = free_runs(self.limits, trials)
        return {RAY: propose(self.degrees, num_begun, free, scored)}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Refuses: there is no other parameter."""
        raise ValueError(f"{param_name}: the search has one parameter, {RAY}")


def ask(
    degrees: Sequence[float], limits: Sequence[int], runs: Sequence[Run], wanted: int
) -> list[int]:
    """Places of the candidates whose next runs are begun together.

    Args:
        degrees: Angle of every candidate, rising.
        limits: How many runs every candidate may have.
        runs: All that were begun before; none goes on.
        wanted: How many places at most.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line for every study
    study = optuna.create_study(direction="maximize", sampler=AngleSampler(degrees, limits))
    for run in runs:
        study.add_trial(_as_trial(run, len(degrees)))
    asked: list[int] = []
    while len(asked) < wanted and any(free_runs(limits, study.get_trials(deepcopy=False))):
        asked.append(study.ask({RAY: rays(len(degrees))}).params[RAY])
    return asked


def free_runs(limits: Sequence[int], trials: Sequence[FrozenTrial]) -> list[int]:
    """How many runs every candidate may still have.

    None where all it had were stopped or failed: what did not come to a score once is not tried
    with another seed.
    """
    free = list(limits)
    hopes: dict[int, bool] = {}
    for trial in trials:
        place = trial.params[RAY]
        free[place] -= 1
        has_hope = trial.state in (TrialState.COMPLETE, TrialState.RUNNING)
        hopes[place] = hopes.get(place, False) or has_hope
    return [num if hopes.get(place, True) else 0 for place, num in enumerate(free)]


def rays(num: int) -> IntDistribution:
    """The places of so many candidates."""
    return IntDistribution(0, num - 1)


def _as_trial(run: Run, num_rays: int) -> FrozenTrial:
    state = TrialState.COMPLETE if run.score is not None else TrialState.PRUNED
    return create_trial(
        state=TrialState.FAIL if run.has_failed else state,
        value=None if run.has_failed else run.score,
        params={RAY: run.place},
        distributions={RAY: rays(num_rays)},
        intermediate_values={n: rung for n, rung in enumerate(run.rungs) if rung is not None},
    )
