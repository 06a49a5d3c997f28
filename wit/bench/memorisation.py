"""Full tuning against adapters at memorising pairs of UUIDs: accuracy against steps.

What a pair says follows from no rule and from no other pair, so whatever is recalled was stored in
the weights that were trained. All methods see the same pairs in the same order; each has the
learning rate that did best for it in a sweep of a seed that is not reported.

Source: arXiv 2405.12130, sections 3 and 5.1. Differs: a base of 1.3 M weights instead of 7 B, so
fewer pairs, and ranks that are more of it (8 of 160 features is as 205 of 4,096); the base is first
taught what UUIDs look like, see ``teach_form``. Of prompt, order, schedule and seeds the paper says
nothing: here the base's own template, a shuffle for each epoch, and linear after a warm-up.
"""

import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from wit.adapter_recipes import AdapterKnobs
from wit.bench.memorisation_pairs import draw_pairs
from wit.bench.memorisation_results import Memorisation, Training, mean_of
from wit.bench.memorisation_training import Prepared, Size, prepare, teach_form, train
from wit.bench.result import machine_name, same_work, versions_of
from wit.builtin import BASE_DIR
from wit.errors import ConfigError

NUM_PAIRS = 24
NUM_STEPS = 360
NUM_UUIDS = 3200  # that the base is taught to repeat, first
NUM_SEEDS = 3
NUM_LOOKS = 8
STEPS_PER_EPOCH = 6  # of 4 pairs each
SWEEP_SEED = 0  # 1 and so on are reported


class Method(NamedTuple):
    """What is trained, and with which learning rates it is tried."""

    adapter: AdapterKnobs | None  # None: all weights
    learning_rates: tuple[float, ...]


OF_ADAPTERS = (1e-3, 3e-3, 1e-2)


def _adapter(**knobs: Any) -> AdapterKnobs:
    """Without embeddings: the base has been taught all tokens that there are."""
    return AdapterKnobs(tokens="none", **knobs)


# A LoRA of rank 80 has as many weights as the matrices of the base's attention: 64 is the highest
# power of 2 below. What the paper calls MoRA here is sharing; wit's default is rotation.
METHODS: dict[str, Method] = {
    "full": Method(None, (3e-4, 1e-3, 3e-3)),
    "lora-8": Method(_adapter(rank=8), OF_ADAPTERS),
    "lora-64": Method(_adapter(rank=64), OF_ADAPTERS),
    "dora-8": Method(_adapter(rank=8, dora=True), OF_ADAPTERS),
    "mora-8": Method(_adapter(method="mora", rank=8, type="sharing"), OF_ADAPTERS),
    "mora-8-rotation": Method(_adapter(method="mora", rank=8, type="rotation"), (3e-3, 1e-2, 3e-2)),
}
Tell = Callable[[Training], object]


def measure(
    num_pairs: int = NUM_PAIRS,
    num_steps: int = NUM_STEPS,
    num_seeds: int = NUM_SEEDS,
    *,
    only: Collection[str] = (),
    methods: Mapping[str, Method] = METHODS,
    base: Path = BASE_DIR,
    num_uuids: int = NUM_UUIDS,
    tell: Tell = lambda _: None,
) -> Memorisation:
    """Sweeps the learning rates of every method, then trains with the best one on other seeds.

    Args:
        num_pairs: Of UUIDs; a sixth of them is an optimizer step.
        num_steps: Optimizer steps of every training.
        num_seeds: Over which means and intervals are.
        only: Names of methods; empty: all.
        methods: By name.
        base: Folder of the model that all of them begin with, once it knows what UUIDs look like.
        num_uuids: By which it is taught that.
        tell: Called after each training.

    Raises:
        ConfigError: There is no method of that name.
        StageError: Two methods did not do the same work.
    """
    started = time.perf_counter()
    for name in only:
        if name not in methods:
            raise ConfigError(f"--only {name}: no method; allowed: {', '.join(methods)}")
    chosen = {name: method for name, method in methods.items() if not only or name in only}
    size = Size(num_pairs, -(-num_pairs // STEPS_PER_EPOCH), looks_of(num_steps))
    sweep, trainings, floors = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        taught = teach_form(base, num_uuids, folder / "form")
        for seed in range(SWEEP_SEED, SWEEP_SEED + num_seeds + 1):
            pairs = draw_pairs(num_pairs, seed)
            data = prepare(pairs, seed, taught.base, folder / str(seed))
            if seed == SWEEP_SEED:
                sweep = _sweep(chosen, size, data, tell)
                continue
            floors.append(data.floor)
            for name, method in chosen.items():
                trainings.append(train(name, method.adapter, best_rate(sweep, name), size, data))
                tell(trainings[-1])
    return Memorisation(
        num_pairs=num_pairs,
        pairs_per_step=size.pairs_per_step,
        steps=size.looks,
        sweep=tuple(sweep),
        trainings=tuple(trainings),
        without_keys=mean_of(floors),
        form_accuracy=taught.accuracy,
        same_work=work_of([*sweep, *trainings]),
        machine=machine_name(),
        versions=versions_of("torch", "transformers", "trl", "peft"),
        seconds=time.perf_counter() - started,
    )


def looks_of(num_steps: int) -> tuple[int, ...]:
    """Steps after which accuracy is measured: evenly spaced, with the last one."""
    return tuple(sorted({-(-num_steps * look // NUM_LOOKS) for look in range(1, NUM_LOOKS + 1)}))


def work_of(trainings: Collection[Training]) -> dict[str, int]:
    """What each training did, by seed: tokens depend on the pairs, which are the seed's.

    Raises:
        StageError: Two trainings of a seed did not do the same.
    """
    seeds = sorted({training.seed for training in trainings})
    by_seed = [
        same_work({f"{t.method} at {t.learning_rate:g}": t.work for t in trainings if t.seed == s})
        for s in seeds
    ]
    return {what: round(fmean(work[what] for work in by_seed)) for what in by_seed[0]}


def best_rate(sweep: Collection[Training], method: str) -> float:
    """The learning rate with the highest accuracy, on average over all looks."""
    own = [training for training in sweep if training.method == method]
    return max(own, key=lambda training: fmean(training.accuracies)).learning_rate


def _sweep(methods: Mapping[str, Method], size: Size, data: Prepared, tell: Tell) -> list[Training]:
    found = []
    for name, method in methods.items():
        for rate in method.learning_rates:
            found.append(train(name, method.adapter, rate, size, data))
            tell(found[-1])
    return found
