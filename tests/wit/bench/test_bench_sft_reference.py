"""The contest with the published loop: same loss, same gradients, same work."""

from pathlib import Path
from typing import Any

import pytest

from wit.bench import sft, sft_reference
from wit.bench.arms import MIB, Run
from wit.bench.result import same_work
from wit.bench.sft_reference import Contest, check_first_step, figures_of, random_rows, run
from wit.errors import StageError

SIZE = "embedded base"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    sft.prepare(folder)
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sft_reference.CONTESTS, SIZE, Contest(20, 8, 3, least_speed=1.3))


def test_both_ways_train_on_the_same_targets_in_as_many_steps(folder: Path) -> None:
    found = {way: run(SIZE, way, folder).counts for way in ("packed", "published")}
    counts = same_work(found)
    assert (counts["rows"], counts["steps"]) == (20, 3)
    assert counts["targets"] == counts["tokens"] - 20  # all but the first of a row


def test_loss_and_gradients_agree_on_a_first_step(folder: Path) -> None:
    check_first_step(SIZE, folder)


def test_a_loop_that_forgets_a_weight_is_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    padded = sft_reference._padded

    def forgetful(*args: Any) -> list[dict[str, Any]]:
        batches = padded(*args)
        batches[0]["token_weights"][0, 1] = 1.0
        return batches

    monkeypatch.setattr(sft_reference, "_padded", forgetful)
    with pytest.raises(StageError, match="differ by"):
        check_first_step(SIZE, folder)


def test_random_rows_are_as_long_as_they_should_be_and_spread() -> None:
    lengths = sorted(len(ids) for ids in random_rows(20)["input_ids"])
    assert lengths[-1] == sft_reference.LONGEST
    assert lengths[-1] > 4 * lengths[10] > 8 * lengths[2]


def test_figures_are_of_what_was_measured(folder: Path) -> None:
    ours, theirs = [Run(1.0, MIB, {"tokens": 60})], [Run(3.0, 4 * MIB, {"tokens": 60})]
    speed, memory = figures_of(SIZE, ours, theirs, folder)
    assert (speed.ours, speed.value, speed.is_reached) == ((60,), 3, True)
    assert speed.limit is not None
    assert speed.limit > 100  # so slow a way as this one is far from what the device can do
    assert memory.value == 0.25
