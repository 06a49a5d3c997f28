"""Time beside the models: what a watched worker tells, and what is computed from it."""

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
import transformers
from smallest_study import TINY

from wit.bench.overhead import Turn, beside_stage, figures_of, measure, reused_stage
from wit.bench.watching import MODEL_CALLS, OURS, MadeStage, asks_model, joined, seconds_in
from wit.generation import decoding


def stage(fingerprint: str, began: float, ended: float) -> MadeStage:
    return MadeStage(fingerprint=fingerprint, began=began, ended=ended, model=())


def test_intervals_that_overlap_count_once() -> None:
    assert joined([(3, 4), (0, 1), (1, 2), (3.5, 5)]) == ((0, 2), (3, 5))
    assert seconds_in([(0, 2), (1, 3), (5, 6)]) == 4


def test_a_model_is_at_work_while_it_is_called_and_not_otherwise() -> None:
    seen = []

    class Asked(torch.nn.Module):
        def forward(self) -> None:
            seen.append(asks_model(sys._getframe()))

    Asked()()
    assert seen == [True]
    assert not asks_model(sys._getframe())


class GenerationMixin:
    """Of the library, by its name."""

    def generate(self, *ask: Callable[[], bool]) -> list[bool]:
        return [asks_model(sys._getframe()), *(one() for one in ask)]


class _EnoughEnded:
    """What generation asks of ours, by its name."""

    def __call__(self) -> bool:
        return asks_model(sys._getframe())


def test_generation_is_a_model_at_work_but_not_what_it_asks_of_ours() -> None:
    assert GenerationMixin().generate(_EnoughEnded()) == [True, False]
    named = (vars(transformers.GenerationMixin)["generate"], decoding._EnoughEnded.__call__)
    assert named[0].__qualname__ in MODEL_CALLS
    assert named[1].__qualname__ in OURS


def test_beside_a_stage_is_the_median_of_what_lies_between_without_the_stage_itself() -> None:
    workers = [
        [stage("a", 0, 5), stage("b", 5.5, 8), stage("c", 30, 31)],  # waited for another one
        [stage("d", 0, 2), stage("e", 2.5, 4)],
    ]
    seconds = {"a": 5.0, "b": 2.0, "c": 1.0, "d": 2.25, "e": 1.0}
    assert beside_stage(workers, seconds) == pytest.approx(0.5)  # of 0.5, 22.5 and 0.25


def test_reused_stages_share_the_time_between_the_first_and_the_last(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        database.execute("CREATE TABLE task_run (start_time, end_time, state_name)")
        rows = [(0, 9, "Completed"), (1, 2, "Reused"), (1, 3, "Reused"), (2, 5, "Reused")]
        texts = [(f"2026-01-01 00:00:0{a}.0", f"2026-01-01 00:00:0{b}.0", c) for a, b, c in rows]
        database.executemany("INSERT INTO task_run VALUES (?, ?, ?)", texts)
        database.commit()
    assert reused_stage(tmp_path / "prefect.db") == pytest.approx(4 / 3)


def test_shares_are_of_the_whole_run() -> None:
    turn = Turn(
        whole=100.0,
        in_models=80.0,
        of_workers=120.0,
        imports=5.0,
        beside_stage=0.5,
        reused_stage=0.1,
        num_stages=10,
    )
    nobody, workers, made, reused = figures_of([turn], num_workers=2)
    assert (nobody.value, workers.value) == (pytest.approx(0.2), pytest.approx(0.4))
    assert nobody.limit == pytest.approx(0.05)
    assert nobody.is_reached is False
    assert (made.value, reused.value) == (0.5, 0.1)
    assert made.is_reached
    assert reused.is_reached


@pytest.mark.slow  # two runs of a study: a minute
@pytest.mark.timeout(1200)
def test_a_watched_study_says_when_its_models_were_at_work() -> None:
    found = measure(1, cut=TINY)
    nobody, workers, _, _ = found.figures
    assert 0 < nobody.value < 1
    assert nobody.value <= workers.value < 1
