"""The contest of DPO: every way sees the same pairs; ratios are of what was measured."""

from pathlib import Path

import pytest

from wit.bench import dpo
from wit.bench.dpo import WAYS, Run


def test_every_way_runs_on_the_same_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpo, "NUM_PAIRS", 32)
    found = {way: dpo.run(way, dpo.BASE_DIR, tmp_path / way) for way in WAYS}
    assert len({run.num_tokens for run in found.values()}) == 1
    assert len({run.num_weights for run in found.values()}) == 1
    assert all(run.seconds > 0 for run in found.values())


def test_a_contestant_is_judged_by_its_median_and_by_its_highest_peak() -> None:
    runs = [Run(seconds, num_bytes, 1000, 10) for seconds, num_bytes in ((4, 7), (1, 9), (2, 8))]
    found = dpo._contestant("ours", runs)
    assert found.pairs_per_second == dpo.NUM_PAIRS / 2
    assert found.tokens_per_second == 500
    assert found.peak_memory_bytes == 9
    assert found.seconds == (4, 1, 2)
