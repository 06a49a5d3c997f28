"""The benchmark of a GPU, at a size that a CPU trains: every arm does the same work."""

from pathlib import Path

import pytest

from wit.bench.arms import Run
from wit.bench.flops import Peak, flops_per_token
from wit.bench.gpu import _expected, _figures, _flops, _measure, measure
from wit.bench.gpu_arms import Arm, Task, run, sequences_per_step, write_base
from wit.bench.gpu_rows import (
    LENGTHS,
    SIZES,
    Training,
    rows_of,
    trainings,
    write_rows,
)
from wit.bench.result import same_work
from wit.data.splits import TRAIN, lengths_of, read_split
from wit.errors import ConfigError, StageError

NUM_STEPS = 2
FULL, LORA, DPO = (
    Training("sft", "tiny", "full", "packed", 32),
    Training("sft", "tiny", "lora", "padded", 32),
    Training("dpo", "tiny", "lora", "padded", 32),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base(folder, SIZES["tiny"].shape)
    return folder


def task_of(training: Training, base: Path, folder: Path) -> Task:
    rows = folder / "rows"
    write_rows(rows, training, NUM_STEPS * SIZES["tiny"].rows_per_step)
    reference = folder / "reference"
    return Task(training, NUM_STEPS, base, rows, reference, "auto", "float32", None, folder)


@pytest.mark.parametrize("training", [FULL, LORA], ids=lambda training: training.name)
def test_weighted_and_plain_training_do_all_there_is(
    training: Training, base: Path, tmp_path: Path
) -> None:
    task = task_of(training, base, tmp_path)
    found = {arm: run(arm, task) for arm in ("ours", "plain")}
    counts = {arm: one.counts for arm, one in found.items()}
    assert same_work({"expected": _expected(task)} | counts)["steps"] == NUM_STEPS
    assert all(one.seconds > 0 for one in found.values())
    less = task._replace(num_steps=NUM_STEPS + 1)
    with pytest.raises(StageError, match="ours did"):
        same_work({"expected": _expected(less)} | counts)


def test_dpo_reads_what_the_reference_stage_wrote(base: Path, tmp_path: Path) -> None:
    task = task_of(DPO, base, tmp_path)
    arms: tuple[Arm, ...] = ("reference", "ours")
    found: dict[Arm, list[Run]] = {arm: [run(arm, task)] for arm in arms}
    assert found["ours"][0].counts == _expected(task)
    assert found["reference"][0].counts["tokens"] == _expected(task)["tokens"]
    names = [figure.quantity for figure in _figures(task, found, Peak(1e12, ""))]
    assert "reference stage, MFU" in names


def test_rows_are_as_long_as_is_said(tmp_path: Path) -> None:
    write_rows(tmp_path / "sft", FULL, 64)
    lengths = lengths_of(read_split(tmp_path / "sft", TRAIN), "input_ids")
    rows = rows_of(FULL, 64)
    assert lengths == rows.sequences
    assert max(lengths) == 32
    assert rows.num_targets == sum(lengths) - 64
    pairs = rows_of(DPO, 64)
    assert len(pairs.sequences) == 128
    assert pairs.num_targets == sum(pairs.sequences) - 2 * sum(pairs.prompts)


def test_figures_are_of_what_was_measured(tmp_path: Path) -> None:
    counts = {"rows": 16, "tokens": 200, "steps": 2}
    ours = [Run(seconds, 3 * 2**30, counts) for seconds in (1.0, 2.0, 4.0)]
    plain = [Run(2.0, 2 * 2**30, counts)] * 3
    task = Task(FULL, 2, tmp_path, tmp_path, tmp_path, "auto", "float32", None, tmp_path)
    needed = _flops(task, twice=False)
    found = _figures(task, {"ours": ours, "plain": plain}, Peak(1e9, ""))
    speed, share, memory, of_plain = found
    assert speed.values == (2.0, 1.0, 0.5)
    assert speed.ours == (200, 100, 50)
    assert share.value == pytest.approx(100 * needed / 1e9)
    assert of_plain.value == pytest.approx(100 * needed / 1e9)
    assert memory.value == 1.5
    assert memory.is_reached is False
    assert share.limit == pytest.approx(needed / _flops(task, twice=True))


def test_published_sizes() -> None:
    """Of Llama-3.2-1B and Llama-3.1-8B: 1.24 and 8.03 billion, the 8B's embeddings apart."""
    one, eight = (flops_per_token(SIZES[size].config, -1) / 6 for size in ("1b", "8b"))
    assert one == pytest.approx(1.2358e9, rel=1e-3)
    assert eight + 128_256 * 4096 == pytest.approx(8.03e9, rel=1e-3)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_plain_trainer_packs_real_sizes_into_as_many_steps(length: int) -> None:
    """It packs all rows at once and takes so many sequences a step; the last step has the rest."""
    training = Training("sft", "1b", "full", "packed", length)
    lengths = rows_of(training, 6 * SIZES["1b"].rows_per_step).sequences
    per_step = sequences_per_step(training, 6)
    least = sum(lengths) / SIZES["1b"].tokens_at_once
    assert 5 * per_step < least <= 6 * per_step
    assert max(lengths) == length
    assert length / 4 < sum(lengths) / len(lengths) < length / 2


def test_steps_that_the_plain_trainer_cannot_make_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--steps 40: the plain trainer packs .* give another"):
        sequences_per_step(Training("sft", "1b", "full", "packed", 2048), 40)


def test_rows_are_chosen_by_name() -> None:
    every = trainings("*", LENGTHS, is_tiny=False)
    assert len(every) == len({one.name for one in every}) == 24
    assert [one.name for one in trainings("sft-8b-lora-packed-*", (4096,), is_tiny=False)] == [
        "sft-8b-lora-packed-4096"
    ]
    with pytest.raises(ConfigError, match="--only nothing: fits no row; there are sft-1b-full"):
        trainings("nothing", LENGTHS, is_tiny=False)


@pytest.mark.parametrize("length", [7, 65])
def test_lengths_that_cannot_be_are_refused(length: int) -> None:
    with pytest.raises(ConfigError, match=rf"--length {length}: allowed are 8 to 64 tokens"):
        measure(1, lengths=[length], is_tiny=True)


def test_an_attention_that_is_none_is_refused_before_anything_is_made() -> None:
    with pytest.raises(ConfigError, match="attention"):
        measure(1, attention="none", is_tiny=True)


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_without_a_gpu_only_the_tiny_size_runs() -> None:
    with pytest.raises(ConfigError, match=r"torch sees no GPU.*--tiny") as raised:
        measure(1)
    assert raised.value.exit_code == 2


def test_what_does_not_fit_says_so(tmp_path: Path) -> None:
    """A process of its own, with less memory than weights, gradients and moments take."""
    wide = SIZES["tiny"].shape | {"vocab_size": 65_536, "hidden_size": 256}
    write_base(tmp_path / "wide", wide)
    task = task_of(FULL, tmp_path / "wide", tmp_path)._replace(memory_bytes=200 * 2**20)
    result = _measure(task, 1, Peak(1e12, ""))
    assert result.sizes["ours"] == "out of memory"
    assert result.figures == ()
