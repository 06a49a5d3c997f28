"""What a training shows of itself."""

import time
from pathlib import Path

import pytest
from datasets import Dataset
from trainers import ROWS, Parts, recipe, trained, weighted
from transformers import TrainerCallback

from wit.data.prepare import HELD_OUT, TRAIN, read_split
from wit.likelihood import held_out_nll
from wit.models import load_model

PAUSE = 3600.0  # seconds, of a clock of our own; a step here takes hundredths of one


def test_what_is_logged_of_roles_is_unweighted_and_of_the_whole_step(
    parts: Parts, tmp_path: Path
) -> None:
    """At the first step the model is the base, whose likelihoods are measured elsewhere too."""
    base, instructions, _ = parts
    rows = read_split(instructions, HELD_OUT)
    expected = held_out_nll(load_model(base), instructions, batch_size=7)
    for weights in ((0, 1), (0.3, 0)):
        chosen = recipe(*weights, examples_per_step=len(rows), num_epochs=1)
        first = trained(weighted(parts, tmp_path, chosen, rows, micro_batch_size=3))[0]
        found = {name for name in first if name.startswith("train_nll_")}
        assert found == {f"train_nll_{role}" for role in expected}
        for role, figure in expected.items():
            assert first[f"train_nll_{role}"] == pytest.approx(figure.nll, rel=1e-6)
            assert first[f"train_tokens_{role}"] == figure.num_tokens
        assert 0 <= first["train_accuracy_response"] <= 1
        assert first["train_entropy"] > 0
        assert first["tokens_per_second"] > 0
        assert first["peak_memory_bytes"] > 2**20


def test_the_first_token_of_a_packed_row_is_not_measured_either(
    parts: Parts, tmp_path: Path
) -> None:
    rows = read_split(parts[1], TRAIN).select(range(ROWS)).to_list()
    without_bos = [
        {**row, "input_ids": row["input_ids"][1:], "roles": row["roles"][1:]} for row in rows
    ]
    padded, packed = (
        trained(weighted(parts, tmp_path, recipe(0, 1), Dataset.from_list(without_bos), packing=p))
        for p in (False, True)
    )
    for name, value in padded[0].items():
        if name.startswith(("train_", "loss", "grad")):
            assert packed[0][name] == pytest.approx(value, rel=1e-5), name
    assert "train_nll_prompt" in padded[0]


def test_the_speed_is_of_steps_and_not_of_what_comes_between_them(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch's measurement and a checkpoint are no slower training."""
    trainer = weighted(parts, tmp_path, recipe(num_epochs=1))
    clock, pauses = time.perf_counter, []
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + sum(pauses))

    class Pause(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            pauses.append(PAUSE)

        on_log = on_epoch_begin

    trainer.add_callback(Pause())
    for figures in trained(trainer):
        num_tokens = sum(figures[name] for name in figures if name.startswith("train_tokens_"))
        assert figures["tokens_per_second"] > num_tokens / PAUSE
