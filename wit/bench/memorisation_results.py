"""What the memorisation benchmark reports."""

import math
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from wit.analysis.intervals import LEVEL, t_quantile
from wit.settings import Settings

WHAT = "share of the 32 hex digits that are right at their place, greedy, all pairs"


class Training(Settings):
    """One training, and what it has memorised on the way."""

    method: str
    learning_rate: float
    seed: int  # of the pairs, their order, and how an adapter begins
    num_trained: int  # weights
    accuracies: tuple[float, ...]  # shares of characters, one for each look
    update_rank: float  # of what was added to a linear layer: the median over layers
    work: dict[str, int]  # rows, tokens, targets, steps


class Mean(NamedTuple):
    """Over seeds."""

    value: float
    half_width: float | None  # of its t interval, 95 %; None: there is one seed


class Curve(Settings):
    """One method: accuracy against steps, over seeds."""

    method: str
    num_trained: int
    learning_rate: float  # which the sweep chose
    accuracies: tuple[Mean, ...]  # one for each look
    update_rank: Mean


class Memorisation(Settings):
    """All trainings of the benchmark."""

    num_pairs: int
    pairs_per_step: int
    steps: tuple[int, ...]  # looks: optimizer steps after which accuracy was measured
    sweep: tuple[Training, ...]  # one seed, that no curve has
    trainings: tuple[Training, ...]
    without_keys: Mean  # accuracy of the best response that heeds no key
    form_accuracy: float  # of the base at repeating UUIDs, before it memorises any
    same_work: dict[str, int]  # of every training
    machine: str
    versions: dict[str, str]
    seconds: float

    @property
    def curves(self) -> tuple[Curve, ...]:
        """One for each method, in the order in which they ran."""
        methods = dict.fromkeys(training.method for training in self.trainings)
        return tuple(_curve([t for t in self.trainings if t.method == m]) for m in methods)

    def as_json(self) -> dict[str, Any]:
        """All of it, with the curves that follow from it."""
        curves = [
            {
                **curve.model_dump(mode="json"),
                "accuracies": [mean._asdict() for mean in curve.accuracies],
                "update_rank": curve.update_rank._asdict(),
            }
            for curve in self.curves
        ]
        floor = self.without_keys._asdict()
        return {**self.model_dump(mode="json"), "without_keys": floor, "curves": curves}


def _curve(trainings: list[Training]) -> Curve:
    first = trainings[0]
    return Curve(
        method=first.method,
        num_trained=first.num_trained,
        learning_rate=first.learning_rate,
        accuracies=tuple(
            mean_of(column) for column in zip(*(t.accuracies for t in trainings), strict=True)
        ),
        update_rank=mean_of([training.update_rank for training in trainings]),
    )


def mean_of(values: list[float] | tuple[float, ...]) -> Mean:
    """The mean and its t interval. Near 0 and 1 it may reach beyond what a share can be."""
    if len(values) < 2:
        return Mean(fmean(values), None)
    quantile = t_quantile((1 + LEVEL) / 2, len(values) - 1)
    return Mean(fmean(values), quantile * stdev(values) / math.sqrt(len(values)))


def show_training(console: Console, training: Training) -> None:
    """Prints one training, in a line."""
    accuracies = " ".join(f"{accuracy:.2f}" for accuracy in training.accuracies)
    said = f"{training.method} at {training.learning_rate:g}, seed {training.seed}: {accuracies}"
    console.print(said, highlight=False, markup=False, soft_wrap=True)


def show(console: Console, found: Memorisation) -> None:
    """Prints a line for each method, and what they rest on."""
    seeds = {training.seed for training in found.trainings}
    # Every second one, from the last back: a terminal is narrow; JSON and picture have all.
    looks = sorted(range(len(found.steps) - 1, -1, -2))
    table = Table(title=f"Characters recalled, of {found.num_pairs} pairs of UUIDs, after steps")
    table.add_column("method")
    steps = [str(found.steps[look]) for look in looks]
    for column in ("weights", "rate", *steps, "rank of update"):
        table.add_column(column, justify="right")
    for curve in found.curves:
        table.add_row(
            curve.method,
            f"{curve.num_trained:,}",
            f"{curve.learning_rate:g}",
            *(_plus_minus(curve.accuracies[look], 2) for look in looks),
            _plus_minus(curve.update_rank, 0),
        )
    console.print(table)
    console.print(
        f"{WHAT}; mean over {len(seeds)} seeds, 95 % t interval. One response to all keys has "
        f"{_plus_minus(found.without_keys, 2)}, at most. Weights: that are trained. Rate: the best "
        f"of the sweep, which has {len(found.sweep)} trainings with another seed. Rank: singular "
        "values above a thousandth of the largest one, median over linear layers. Before, the base "
        f"repeats {found.form_accuracy:.2f} of other UUIDs. {found.seconds / 60:.0f} minutes",
        highlight=False,
        soft_wrap=True,
    )
    console.print(found.machine)


def _plus_minus(mean: Mean, decimals: int) -> str:
    interval = "" if mean.half_width is None else f" ± {mean.half_width:.{decimals}f}"
    return f"{mean.value:.{decimals}f}{interval}"
