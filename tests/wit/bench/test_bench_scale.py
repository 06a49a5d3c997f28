"""The benchmark of growth: its questions are about all runs that a store was filled with."""

import pytest

from wit.bench import scale
from wit.bench.scale import QUESTIONS, measure
from wit.bench.scale_store import Filled, fill
from wit.errors import StageError
from wit.lineage.reader import find_runs


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Filled]:
    return {size: fill(tmp_path_factory.mktemp(f"of-{size}"), size) for size in (10, 60)}


def test_a_store_has_as_many_runs_as_were_asked_for(stores: dict[int, Filled]) -> None:
    for size, store in stores.items():
        assert len(find_runs(store.uri)) == size == store.num_runs
        planned = [artifact.fingerprint for artifact, _ in store.plan.artifacts()]
        assert len(planned) >= size - 1
        known = {run.tags.get("wit.fingerprint") for run in find_runs(store.uri)} - {None}
        assert known == set(planned[: size - 1])


def test_every_question_is_about_all_of_it_whatever_the_size(stores: dict[int, Filled]) -> None:
    found = scale._turn(stores)
    assert {*found} == {(name, size) for name in QUESTIONS for size in stores}
    for (name, size), answer in found.items():
        assert answer.num_things >= QUESTIONS[name][1](stores[size])
    assert found["plan", 60].num_things >= 59
    assert found["compare", 60].num_things == len(stores[60].plan.cells) > 1
    assert found["lineage", 60].num_things > 40
    assert found["report", 60].num_things == len(stores[60].study.weights)
    for name in QUESTIONS:
        assert found[name, 10].num_statements == found[name, 60].num_statements


def test_a_question_about_less_is_no_benchmark(
    stores: dict[int, Filled], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = QUESTIONS["compare"]
    monkeypatch.setitem(QUESTIONS, "compare", (lambda _: 1, expected))
    with pytest.raises(StageError, match="compare of 60 runs is about 1 things"):
        scale._turn(stores)


def test_figures_are_of_what_was_measured() -> None:
    found = measure((10, 30), 1, has_command=False)
    figures = {figure.quantity: figure for figure in found.figures}
    assert len(figures) == len(QUESTIONS) * (1 + 2)
    growth = figures["compare: cost per run, 30 over 10"]
    small, large = (figures[f"compare: processor seconds at {n} runs"].ours[0] for n in (10, 30))
    assert growth.value == pytest.approx((large / 30) / (small / 10))
    assert growth.limit == pytest.approx(1 / 3)
