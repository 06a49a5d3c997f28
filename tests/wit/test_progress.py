"""What a process says of itself while others look on."""

from pathlib import Path

import pytest

from wit.progress import PROGRESS, Progress, read_progress, write_progress


@pytest.mark.parametrize("loss", [None, 0.25, float("inf")])
def test_progress_is_read_as_it_was_written(tmp_path: Path, loss: float | None) -> None:
    for step in (1, 2):
        write_progress(tmp_path, Progress(step, 9, loss, 2.5))
        assert read_progress(tmp_path) == Progress(step, 9, loss, 2.5)
    assert [file.name for file in tmp_path.iterdir()] == [PROGRESS]


@pytest.mark.parametrize("content", [None, "", "[1, 2", "3", "[1]", "[1, 2, 3, 4, 5]", "\x00"])
def test_no_progress_is_no_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / PROGRESS).write_text(content)
    assert read_progress(tmp_path) is None


def test_progress_reads_as_a_sentence() -> None:
    assert str(Progress(3, 40, 1.23456)) == "step 3 of 40, loss 1.235"
    assert str(Progress(0, 40, None)) == "step 0 of 40"
    assert str(Progress(3, 40, 1.0, 7300.0)) == "step 3 of 40, loss 1.000, 2.0 h left"
