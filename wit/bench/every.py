"""Every benchmark in its short form, one after the other."""

from collections.abc import Callable, Collection, Iterator

from wit.bench.result import BenchResult
from wit.errors import ConfigError

# Of the quickstart: two workers have less to share then than in the whole of it.
ONE_CELL = ("weights=[{prompt: 0.5, response: 1}]", "seeds=[0]", "sft.num_epochs=1")


def every(
    only: Collection[str] = (), on_start: Callable[[str], object] = lambda _: None
) -> Iterator[BenchResult]:
    """The results, each as soon as it is there.

    Args:
        only: Names of those that are wanted; empty: all.
        on_start: Called with the name of each before it runs.

    Raises:
        ConfigError: There is none of that name.
        StageError: Two ways did not do the same work.
    """
    for name in only:
        if name not in ALL:
            raise ConfigError(f"--only {name}: no benchmark; allowed: {', '.join(ALL)}")
    for name, measure in ALL.items():
        if not only or name in only:
            on_start(name)
            yield measure()


def _sft() -> BenchResult:
    from wit.bench.sft import measure

    return measure("sft", 2)


def _packing() -> BenchResult:
    from wit.bench.sft import measure

    return measure("packing", 1)


def _sft_reference() -> BenchResult:
    from wit.bench.sft_reference import measure

    return measure(1)


def _head() -> BenchResult:
    from wit.bench.head import measure

    return measure(1)


def _data() -> BenchResult:
    from wit.bench.data import measure
    from wit.config import Runtime
    from wit.stages import data_workers

    return measure(20_000, data_workers(Runtime()))


def _dpo() -> BenchResult:
    from wit.bench.dpo import measure

    return measure(1)


def _dpo_large() -> BenchResult:
    from wit.bench.dpo import measure

    return measure(1, size="large-vocabulary")


def _adapters() -> BenchResult:
    from wit.bench.at_once import measure

    return measure(1, 128)


def _eval() -> BenchResult:
    from wit.bench.evaluation import measure

    return measure(1)


def _study() -> BenchResult:
    from wit.bench.study import measure

    return measure(1, cut=ONE_CELL)


def _overhead() -> BenchResult:
    from wit.bench.overhead import measure

    return measure(1, cut=ONE_CELL)


def _scale() -> BenchResult:
    from wit.bench.scale import measure

    return measure(repeats=1)


def _rays() -> BenchResult:
    from wit.bench.rays import measure

    return measure()


def _search() -> BenchResult:
    from wit.bench.search import measure

    return measure(None)


# What each takes on two cores, all together, is below a quarter of an hour.
ALL: dict[str, Callable[[], BenchResult]] = {
    "sft": _sft,
    "packing": _packing,
    "sft-reference": _sft_reference,
    "head": _head,
    "data": _data,
    "dpo": _dpo,
    "dpo-large": _dpo_large,
    "adapters": _adapters,
    "eval": _eval,
    "study": _study,
    "overhead": _overhead,
    "scale": _scale,
    "rays": _rays,
    "search": _search,
}
