"""The contest of DPO: every contestant sees the same pairs; figures are of what was measured."""

from collections.abc import Sequence
from typing import Any

import pytest
from transformers import AutoConfig

from wit.bench import dpo
from wit.bench.arms import Run, in_turns
from wit.bench.flops import Peak, flops_per_token, mean_length
from wit.bench.result import same_work
from wit.builtin import BASE_DIR
from wit.errors import StageError


@pytest.fixture
def parts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> dpo.Parts:
    monkeypatch.setitem(dpo.NUM_PAIRS, "embedded", 32)
    return dpo._prepared(None, "embedded", tmp_path)


def test_every_contestant_counts_the_same_pairs_tokens_and_steps(parts: dpo.Parts) -> None:
    arms = (dpo.train_ours, dpo.train_with_stage, dpo.train_trl)
    runs = {arm.__name__: arm(parts) for arm in arms}
    counts = same_work({name: run.counts for name, run in runs.items()})
    rows = dpo.Dataset.load_from_disk(str(parts.rows))
    assert counts == {
        "pairs": 32,
        "prompt_tokens": sum(map(len, rows["prompt_ids"])),
        "chosen_tokens": sum(map(len, rows["chosen_ids"])),
        "rejected_tokens": sum(map(len, rows["rejected_ids"])),
        "steps": 2,
    }
    assert all(run.seconds > 0 for run in runs.values())


def test_one_that_sees_a_pair_less_is_found_out(parts: dpo.Parts) -> None:
    seen = dpo.Seen(lambda rows: rows)
    rows = dpo.Dataset.load_from_disk(str(parts.rows)).to_list()
    seen(rows[:16])
    seen(rows[16:])
    less = dpo.Seen(lambda rows: rows)
    less(rows[:31])
    with pytest.raises(StageError, match="31"):
        same_work({"ours": seen.counts, "trl": less.counts})


def test_figures_are_of_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two turns, of which each has its own ratio."""
    monkeypatch.setitem(dpo.NUM_PAIRS, "embedded", 16)
    counts = {"pairs": 16, "steps": 1}
    seconds = {"ours": (4, 2), "with the stage": (8, 5), "trl": (6, 5)}

    def measured(arms: dict[str, Any], repeats: int) -> dict[str, Sequence[Run]]:
        assert arms.keys() == seconds.keys()
        assert repeats == 2
        return {
            name: [Run(s, 2**20 * (3 if name == "trl" else 2), counts) for s in seconds[name]]
            for name in arms
        }

    assert in_turns is dpo.in_turns
    monkeypatch.setattr(dpo, "in_turns", measured)
    result = dpo.measure(2)
    speed, with_stage, memory = result.figures
    assert speed.values == (1.5, 2.5)
    assert with_stage.values == (0.75, 1.0)
    assert speed.ours == (4, 8)
    assert with_stage.is_reached is False
    assert memory.value == pytest.approx(2 / 3)
    assert memory.is_reached is False
    # Weights, gradients and two moments of float32, over TRL's peak.
    num_weights = sum(w.numel() for w in dpo.load_model(BASE_DIR).parameters())
    assert memory.limit == pytest.approx(16 * num_weights / (3 * 2**20))


def test_the_limit_counts_prompts_once_and_heads_of_responses_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By hand: a pair of 10 + 3 + 7 tokens and one of 2 + 1 + 1, on a device of 1e12 a second."""
    monkeypatch.setattr(dpo, "measured_peak", lambda *_: Peak(1e12, "made up"))
    sides = (("prompt", 10, 2), ("chosen", 3, 1), ("rejected", 7, 1))
    rows = dpo.Dataset.from_dict({f"{s}_ids": [[1] * a, [1] * b] for s, a, b in sides})
    config = AutoConfig.from_pretrained(BASE_DIR)
    per_token = flops_per_token(config, mean_length([20, 4]), targets=12 / 24)
    assert dpo.pairs_limit(BASE_DIR, rows)[0] == pytest.approx(2 * 1e12 / (24 * per_token))


def test_pairs_of_a_large_vocabulary_are_the_same_each_time() -> None:
    one, two = (dpo._made_up_rows().to_list() for _ in range(2))
    assert one == two
    assert max(max(row["chosen_ids"]) for row in one) > 100_000
