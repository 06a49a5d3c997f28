"""Adapters against full tuning, and cells at once: each contestant does the same work."""

from pathlib import Path

import pytest

from wit.bench import at_once
from wit.bench.adapters import ADAPTERS, FULL, available, base_of, held_bytes, limit_of_speed, run
from wit.bench.adapters import figures_of as figures_of_adapters
from wit.bench.arms import MIB, Run
from wit.bench.at_once import CELLS, Task, figures_of, in_workers, one_after_another
from wit.bench.result import same_work
from wit.bench.sft import prepare
from wit.builtin import BASE_DIR
from wit.errors import StageError
from wit.models import load_model

NUM_ROWS = 20  # at once the third step is short


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def task(prepared: Path) -> Task:
    return Task(prepared, NUM_ROWS, num_threads=1)


def test_every_adapter_sees_the_rows_and_targets_of_full_tuning(prepared: Path) -> None:
    runs = {name: run(name, BASE_DIR, prepared, NUM_ROWS) for name in (FULL, *available())}
    counts = same_work({name: found.counts for name, found in runs.items()})
    assert counts["rows"] == NUM_ROWS
    assert counts["steps"] == 1
    fewer = run("lora", BASE_DIR, prepared, NUM_ROWS - 1)
    with pytest.raises(StageError, match="rows"):
        same_work({"lora": fewer.counts, FULL: runs[FULL].counts})


def test_every_way_trains_all_cells_on_all_rows(task: Task) -> None:
    runs = {
        "at once": at_once.at_once(task),
        "one after another": one_after_another(task),
        "workers": in_workers(task._replace(cells=(3,)), 2),
    }
    counts = same_work({name: runs[name].counts for name in ("at once", "one after another")})
    assert counts["rows"] == NUM_ROWS * len(CELLS)
    assert counts["steps"] == 3 * len(CELLS)
    assert runs["workers"].counts == one_after_another(task._replace(cells=(3,))).counts
    with pytest.raises(StageError, match="targets"):  # who leaves out the cells of all tokens
        same_work(
            {
                "at once": counts,
                "workers": at_once.at_once(task._replace(cells=(0, 2, 0, 2))).counts,
            }
        )


def test_the_limits_are_those_of_the_arithmetic(prepared: Path, tmp_path: Path) -> None:
    """A frozen weight takes two products of three, and four bytes of sixteen."""
    wide = base_of("20 M", tmp_path / "base")
    assert 1.45 < limit_of_speed(wide, prepared, NUM_ROWS) < 1.55
    weights = sum(weight.nbytes for weight in load_model(wide).parameters())
    for name in ("lora", "mora, rotation"):
        assert weights < held_bytes(name, wide) < 1.5 * weights
    assert set(available()) <= set(ADAPTERS)


def test_figures_are_of_what_was_measured() -> None:
    runs = {
        FULL: [Run(4.0, 4 * MIB, {"tokens": 100})],
        "lora": [Run(2.0, 3 * MIB, {"tokens": 100})],
    }
    speed, memory = figures_of_adapters(runs, 1.5, {"lora": MIB})
    assert (speed.value, speed.limit) == (2, 1.5)
    assert (memory.value, memory.limit) == (0.75, 0.25)


def test_the_aim_is_against_one_after_another() -> None:
    def turn(seconds: float) -> list[Run]:
        return [Run(seconds, MIB, {"tokens": 100})]

    seconds = {
        "at once": 1.0,
        "one after another": 1.9,
        "workers": 1.2,
        "at once, one thread": 2.0,
        "one after another, one thread": 2.5,
    }
    runs = {name: turn(value) for name, value in seconds.items()}
    figures = figures_of(runs, (200.0, "why"))
    assert figures[0].limit == pytest.approx(200 / (100 / 1.9))
    assert [round(figure.value, 2) for figure in figures[:3]] == [1.9, 1.2, 1.25]
    assert [figure.is_reached for figure in figures] == [True, None, None, None, None]
