"""How the cost of questions grows with the runs of a study: seconds of each, and per run."""

import io
import logging
import multiprocessing
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.bench.scale_store import NAME, Filled, fill
from wit.errors import StageError

SIZES = (10, 100, 1_000, 10_000)  # runs
MAX_SECONDS = 3.0  # of `wit compare` at the largest of these
READER = "wit.lineage.reader"
PACKAGES = ("pandas", "numpy", "rich", "pydantic", "plotly")


class Answer(NamedTuple):
    """What one question took, and how many things it was about."""

    seconds: float  # of this process's own time on a processor: others do not count
    num_things: int  # artifacts of a plan, cells of a comparison, nodes of a lineage
    num_statements: int  # that were sent to the store


def measure(
    sizes: Sequence[int] = SIZES, repeats: int = 3, *, has_command: bool = True
) -> BenchResult:
    """Asks stores of so many runs each, in a process of its own for every turn.

    A question costs as many things of the study as it is about: a plan has a stage for each run, a
    comparison a line for each cell, the lineage of the instructions a node for all that was made
    of them, a report a row for each cell. The study has all runs of the store; its scores are made
    up, for what is measured is what they cost.

    Args:
        sizes: Numbers of runs, at least two, ascending.
        repeats: Turns.
        has_command: Whether `wit compare` is timed as a whole program too.

    Raises:
        StageError: A question was about fewer things than the study has.
    """
    with tempfile.TemporaryDirectory() as folder:
        filled = {size: fill(Path(folder) / str(size), size) for size in sizes}
        turns: list[dict[tuple[str, int], Answer]] = []
        for _ in range(repeats):
            with multiprocessing.get_context("spawn").Pool(1) as process:
                turns.append(process.apply(_turn, (filled,)))
        counts = [{f"{q} of {n}": a.num_things for (q, n), a in turn.items()} for turn in turns]
        commands = [_command_seconds(filled[sizes[-1]]) for _ in range(repeats * has_command)]
        least = [_least_seconds(filled[sizes[-1]]) for _ in range(repeats * has_command)]
    figures = [*_growth(turns, sizes), *_seconds(turns, sizes)]
    if commands:
        figures.insert(0, _figure_of_command(sizes[-1], commands, least))
    return BenchResult(
        name="scale",
        ours="questions to a study of many runs, processor seconds per run of the store",
        baseline="the same of a study with fewer runs",
        figures=tuple(figures),
        sizes={f"cells at {size} runs": len(filled[size].plan.cells) for size in sizes},
        same_work=same_work({f"turn {number}": of for number, of in enumerate(counts)}),
        machine=machine_name(),
        versions=versions_of(*PACKAGES),
    )


def _growth(turns: list[dict[tuple[str, int], Answer]], sizes: Sequence[int]) -> Iterator[Figure]:
    """Cost per run at the largest size over that at the one before it."""
    before, largest = sizes[-2:]
    for question in QUESTIONS:
        yield Figure(
            quantity=f"{question}: cost per run, {largest:,} over {before:,}",
            ours=tuple(turn[question, largest].seconds / largest for turn in turns),
            baseline=tuple(turn[question, before].seconds / before for turn in turns),
            at_most=1.0,
            limit=before / largest,
            limit_is="a question whose cost does not depend on the number of runs",
        )


def _seconds(turns: list[dict[tuple[str, int], Answer]], sizes: Sequence[int]) -> Iterator[Figure]:
    for question in QUESTIONS:
        for size in sizes:
            yield Figure(
                quantity=f"{question}: processor seconds at {size:,} runs",
                ours=tuple(turn[question, size].seconds for turn in turns),
            )


def _figure_of_command(size: int, commands: list[float], least: list[float]) -> Figure:
    return Figure(
        quantity=f"wit compare of {size:,} runs: processor seconds",
        ours=tuple(commands),
        at_most=MAX_SECONDS,
        limit=sorted(least)[len(least) // 2],
        limit_is="a Python program that imports pandas and reads every row of the store",
    )


def _turn(filled: dict[int, Filled]) -> dict[tuple[str, int], Answer]:
    """Every question to every store; before that once to the smallest, which loads all modules."""
    stores = [filled[min(filled)], *filled.values()]
    found = {}
    for store in stores:
        for name, (ask, expected) in QUESTIONS.items():
            with counted() as statements:
                started = time.process_time()
                num_things = ask(store)
                seconds = time.process_time() - started
            if num_things < expected(store):
                raise StageError(
                    f"{name} of {store.num_runs} runs is about {num_things} things, and the study "
                    f"has {expected(store)}"
                )
            found[name, store.num_runs] = Answer(seconds, num_things, len(statements))
    return found


def _plan(store: Filled) -> int:
    from wit.display import plan_as_json, show_plan
    from wit.estimate import estimate
    from wit.plan import make_plan

    plan = make_plan(store.study, store.runtime)
    cost = estimate(plan, store.runtime)
    show_plan(_unseen(), plan, cost)
    return len(plan_as_json(plan, cost)["stages"])


def _compare(store: Filled) -> int:
    from wit.display import comparison_as_json, show_comparison
    from wit.past import scores_of

    scores = scores_of(NAME, None, store.runtime)
    show_comparison(_unseen(), scores)
    return len(comparison_as_json(scores)) - 1  # without the base


def _lineage(store: Filled) -> int:
    from wit.lineage import Node, lineage
    from wit.lineage.tree import show_lineage

    def count(node: Node) -> int:
        return 1 + sum(map(count, node.children))

    node = lineage(store.plan.instructions.fingerprint, store.uri)
    show_lineage(_unseen(), node)
    return count(node)


def _report(store: Filled) -> int:
    from wit.past import rewrite_report

    done = rewrite_report(NAME, None, store.runtime, store.runtime.artifact_root / "page.html")
    page = done.page.read_text(encoding="utf-8")
    return sum(weights in page for weights in set(done.scores["weights"]) - {"base"})


def _num_made_of_instructions(store: Filled) -> int:
    """Runs of the store that the lineage of the instructions shows: itself and all below it."""
    made = [artifact for artifact, _ in store.plan.artifacts()][: store.num_runs - 1]
    return sum(_is_below(artifact, store) for artifact in made)


def _is_below(artifact: object, store: Filled) -> bool:
    from wit.artifacts import Artifact
    from wit.lineage.description import ancestors

    assert isinstance(artifact, Artifact)
    wanted = store.plan.instructions.fingerprint
    return artifact.fingerprint == wanted or wanted in ancestors(artifact)


# By name the question, and of how many things an answer is at least.
QUESTIONS: dict[str, tuple[Callable[[Filled], int], Callable[[Filled], int]]] = {
    "plan": (_plan, lambda store: store.num_runs - 1),
    "compare": (_compare, lambda store: len(store.plan.cells)),
    "lineage": (_lineage, _num_made_of_instructions),
    "report": (_report, lambda store: len(store.study.weights)),
}


def _unseen() -> Console:
    return Console(file=io.StringIO(), width=100)


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collects the statements that are sent to the store meanwhile."""
    statements: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            statements.append(record.getMessage())

    log, handler = logging.getLogger(READER), Collect()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield statements
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _command_seconds(store: Filled) -> float:
    """Of `wit compare`, its start included: what it and its children took of a processor."""
    settings = [f"tracking_uri={store.uri}", f"artifact_root={store.runtime.artifact_root}"]
    words = [word for setting in settings for word in ("--set-runtime", setting)]
    return _children_seconds([sys.executable, "-m", "wit.cli", "compare", NAME, *words])


def _least_seconds(store: Filled) -> float:
    code = (
        "import sqlite3, sys, pandas\n"
        "rows = sqlite3.connect(sys.argv[1])\n"
        "for table in ('runs', 'tags', 'latest_metrics'):\n"
        "    rows.execute(f'SELECT * FROM {table}').fetchall()\n"
    )
    file = store.uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(file)) as database:  # it is there
        database.execute("SELECT count(*) FROM runs")
    return _children_seconds([sys.executable, "-c", code, file])


def _children_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
