"""The benchmark of preparation: both encode the same texts, and figures are of what they took."""

import json
from pathlib import Path
from typing import Any

import pytest

from wit.bench import data
from wit.bench.arms import Run
from wit.bench.result import same_work
from wit.builtin import BASE_DIR
from wit.errors import StageError
from wit.recipes import TokenizerRecipe


def test_the_same_rows_are_written_each_time_and_some_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        data.write_rows(tmp_path / name, 1000)
    text = (tmp_path / "one").read_text()
    assert text == (tmp_path / "two").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 1000
    assert 950 < len({row["prompt"] for row in rows}) < 1000
    lengths = sorted(len(row["response"].split()) for row in rows)
    assert lengths[950] > 5 * lengths[250]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    data.prepare.make_tokenizer(TokenizerRecipe(), BASE_DIR, folder)
    return folder


def test_both_have_the_same_rows_and_tokens_also_where_rows_are_cut_or_have_no_room(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe_of = data._recipe
    shorter = {"max_tokens": 60}
    monkeypatch.setattr(data, "_recipe", lambda path: recipe_of(path).model_copy(update=shorter))
    source = tmp_path / "rows.jsonl"
    data.write_rows(source, 600)
    ours = data.prepare_rows(source, tokenizer, 1)
    for call in ("encode_batch", "encode_batch_fast"):
        theirs = data.encode_texts(source, tokenizer, 1, call)
        assert same_work({"ours": ours.counts, "theirs": theirs.counts}) == ours.counts
    assert 300 < ours.counts["rows"] < 580
    assert ours.counts["tokens"] < 60 * ours.counts["rows"]
    assert 50 * 2**20 < ours.peak_bytes < 3000 * 2**20
    lines = source.read_text().splitlines(keepends=True)
    (tmp_path / "less.jsonl").write_text("".join(lines[:-5]))
    less = data.encode_texts(tmp_path / "less.jsonl", tokenizer, 1, "encode_batch")
    with pytest.raises(StageError, match="theirs did"):
        same_work({"ours": ours.counts, "theirs": less.counts})


def test_figures_are_of_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"rows": 98, "tokens": 1000}

    def measured(arms: dict[str, Any], repeats: int) -> dict[str, list[Run]]:
        assert repeats == 2
        return {
            "ours": [Run(4, 2**30, counts), Run(2, 2**31, counts)],
            "tokenizers": [Run(2, 0, counts), Run(2, 0, counts)],
            "without offsets": [Run(1, 0, counts), Run(1, 0, counts)],
        }

    monkeypatch.setattr(data, "in_turns", measured)
    result = data.measure(100, 1, 2)
    speed, strict, memory = result.figures
    assert speed.values == (0.5, 1.0)
    assert speed.limit == 2
    assert strict.values == (0.25, 0.5)
    assert speed.ours == (250, 500)
    assert speed.is_reached is True
    assert memory.values == (1024, 2048)
    assert memory.is_reached is False
    assert result.sizes["rows"] == 100


def test_a_turn_runs_in_processes_that_may_start_others() -> None:
    """Preparation starts its own; so contestants must not be daemons."""
    result = data.measure(300, 2)
    assert result.same_work["rows"] > 280
    assert result.figures[0].value > 0
