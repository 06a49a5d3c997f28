"""The contests of SFT: every way does the same work, counted in each, or there is no ratio."""

from pathlib import Path

import pytest

from wit.bench import sft
from wit.bench.arms import MIB, Run
from wit.bench.result import same_work
from wit.bench.sft import CONTESTS, WAYS, Way, figures_of, prepare, run
from wit.data.prepare import TRAIN, read_split
from wit.errors import StageError

NUM_ROWS = 40  # the second step is short


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def runs(prepared: Path) -> dict[Way, Run]:
    return {way: run(way, prepared, NUM_ROWS) for way in WAYS}


def test_every_way_sees_all_rows_and_trains_on_all_their_tokens(
    prepared: Path, runs: dict[Way, Run]
) -> None:
    rows = read_split(prepared / "instructions", TRAIN).select(range(NUM_ROWS))
    num_tokens = sum(map(len, rows["input_ids"]))
    counts = same_work({way: found.counts for way, found in runs.items()})
    assert counts["rows"] == NUM_ROWS
    assert counts["tokens"] == num_tokens
    assert counts["targets"] == num_tokens - NUM_ROWS  # all but the first of a row
    assert counts["steps"] == 2
    assert all(found.seconds > 0 and found.peak_bytes > 0 for found in runs.values())


def test_a_way_that_trains_on_fewer_targets_is_found_out(
    prepared: Path, runs: dict[Way, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = sft.RECIPE.model_copy(update={"weights": sft.TokenWeights(prompt=0, response=1)})
    monkeypatch.setattr(sft, "RECIPE", fewer)
    cheating = run("packed", prepared, NUM_ROWS)
    with pytest.raises(StageError, match="targets"):
        same_work({"packed": cheating.counts, "plain": runs["plain"].counts})


@pytest.mark.parametrize("contest", CONTESTS)
def test_figures_are_of_what_was_measured(contest: str) -> None:
    ours = [Run(2.0, 3 * MIB, {"tokens": 100}), Run(4.0, 5 * MIB, {"tokens": 100})]
    baseline = [Run(4.0, 4 * MIB, {"tokens": 100}), Run(4.0, 4 * MIB, {"tokens": 100})]
    speed, memory = figures_of(contest, ours, baseline, (100, "why"))
    assert speed.values == (2, 1)
    assert speed.ours == (50, 25)
    assert speed.limit == 4  # times the 25 of the baseline
    assert memory.values == (0.75, 1.25)
