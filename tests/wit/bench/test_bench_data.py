"""The benchmark of preparation: what it reports is what was prepared."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from wit.bench.data import measure, show_measurement, write_rows


def test_the_same_rows_are_written_each_time_and_some_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_rows(tmp_path / name, 1000)
    text = (tmp_path / "one").read_text()
    assert text == (tmp_path / "two").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 1000
    assert 950 < len({row["prompt"] for row in rows}) < 1000
    lengths = sorted(len(row["response"].split()) for row in rows)
    assert lengths[950] > 5 * lengths[250]


def test_speed_and_memory_are_measured_in_a_process_of_its_own() -> None:
    measurement = measure(300, 1)
    whole, tenth = measurement.whole, measurement.tenth
    assert (whole.num_rows, tenth.num_rows) == (300, 30)
    assert 50 * whole.num_rows < whole.num_tokens < 500 * whole.num_rows
    assert whole.tokens_per_second == pytest.approx(whole.num_tokens / whole.seconds, rel=0.05)
    assert whole.source_bytes > 5 * tenth.source_bytes
    assert 50 * 2**20 < tenth.peak_rss_bytes < 1000 * 2**20
    assert measurement.memory_ratio == round(whole.peak_rss_bytes / tenth.peak_rss_bytes, 3)
    show_measurement(Console(file=(page := io.StringIO()), width=100), measurement)
    assert f"{measurement.memory_ratio:.2f} x the peak memory of 30 rows" in page.getvalue()
