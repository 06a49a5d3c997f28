"""Near-duplicates in a frame: it says nothing, provided that enough of a row is beside it."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_texts import changed, drops, jaccard, signatures, texts
from samples import write_jsonl

from wit.data import prepare
from wit.data.duplicates import WordRuns
from wit.errors import DataError
from wit.recipes import InstructionsRecipe

[BEFORE, AFTER] = texts(2, num_words=100, seed=77)
FRAMES = {
    "before": (BEFORE, ""),
    "around": (BEFORE, AFTER),
    "short": (" ".join(BEFORE.split()[:10]), ""),
    "long": (" ".join(texts(10, num_words=100, seed=78)), ""),
}


def framed(rows: list[str], frame: str, *, every: int = 1) -> list[str]:
    """With a frame around every so manieth row."""
    before, after = FRAMES[frame]
    return [f"{before} {row} {after}" if n % every == 0 else row for n, row in enumerate(rows)]


@pytest.mark.parametrize("every", [1, 2, 4])
@pytest.mark.parametrize("frame", FRAMES)
def test_the_same_rows_go_with_a_frame_and_without(frame: str, every: int) -> None:
    """Neither does it drop rows that say something else, nor hide those that say the same."""
    first = texts(200)
    later = [changed(text, n % 30, seed=n) for n, text in enumerate(first, start=1)]
    similar = [jaccard(a, b) for a, b in zip(first, later, strict=True)]
    found = set(drops(framed(first + later, frame, every=every), threshold=0.7))
    assert not any(row < len(first) for row in found)
    for number, similarity in enumerate(similar):
        if similarity > 0.85:
            assert number + len(first) in found
        if similarity < 0.55:
            assert number + len(first) not in found
    assert sum(similarity > 0.85 for similarity in similar) > 10
    assert sum(similarity < 0.55 for similarity in similar) > 50


@pytest.mark.parametrize("frame", FRAMES)
def test_similarity_in_a_frame_is_that_of_what_rows_say(frame: str) -> None:
    """With the few runs that reach from the frame into it."""
    first = texts(200)
    later = [changed(text, n % 40, seed=n) for n, text in enumerate(first)]
    signed = signatures(framed(first + later, frame))
    estimated = (signed[:200] == signed[200:]).mean(axis=1)
    before, after = (text.split() for text in FRAMES[frame])
    in_reach = [" ".join([*before[-4:], row, *after[:4]]) for row in first + later]
    errors = estimated - [jaccard(a, b) for a, b in zip(in_reach, in_reach[200:], strict=False)]
    assert abs(errors.mean()) < 0.01
    assert np.abs(errors).max() < 0.15


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("num_words", [20, 25, 60])
def test_no_row_of_some_twenty_words_goes_because_of_its_frame(num_words: int, frame: str) -> None:
    assert drops(framed(texts(300, num_words=num_words), frame), threshold=0.5) == []


@pytest.mark.parametrize("num_words", [1, 5, 19])
def test_rows_of_fewer_words_in_a_long_frame_are_near_duplicates(num_words: int) -> None:
    rows = framed(texts(300, num_words=num_words), "long")
    assert drops(rows, threshold=0.9) == list(range(1, 300))


@pytest.mark.parametrize(
    ("in_frame", "own", "is_enough"),
    [(40, 8, False), (40, 9, True), (1000, 19, False), (1000, 20, True), (5, 1, True)],
)
def test_a_frame_counts_unless_20_runs_or_a_fifth_of_them_are_the_rows_own(
    in_frame: int, own: int, is_enough: bool
) -> None:
    """Behind a frame a row has as many own runs as words: 9 of 45 are a fifth."""
    [frame] = texts(1, num_words=in_frame, seed=5)
    rows = [f"{frame} {text}" for text in texts(100, num_words=own)]
    signed = signatures(rows)
    estimated = (signed[:-1] == signed[1:]).mean(axis=1)
    as_a_whole = np.array([jaccard(*pair) for pair in pairwise(rows)])
    assert as_a_whole.mean() > 0.3
    expected = (as_a_whole == 1) if is_enough else as_a_whole  # a few words may be the same
    assert np.abs(estimated - expected).mean() < 0.05


def test_rows_that_are_nothing_but_what_many_say_are_compared_as_a_whole() -> None:
    rows = [text + "!" * n for text in texts(2) for n in range(30)]
    assert drops(rows, threshold=0.8) == [*range(1, 30), *range(31, 60)]


def test_what_a_few_rows_have_in_common_is_no_frame() -> None:
    """In a small set neither, though they are a large share of it."""
    for num_others in (0, 10, 100):
        copies = [f"{BEFORE} {n}" for n in range(15)]
        found = drops(texts(num_others) + copies, threshold=0.8)
        assert found == list(range(num_others + 1, num_others + 15))


def test_a_frame_is_that_of_a_source() -> None:
    """Of a small one in a large mixture as well; what two sources share is found without it."""
    chats, tasks = texts(1000, seed=1), texts(60, seed=2)
    short = framed(texts(60, num_words=25, seed=3), "before")
    assert drops(chats, short, threshold=0.8) == []
    assert drops(chats, [*framed(tasks, "before"), BEFORE], threshold=0.8) == []
    found = drops(chats, framed(chats[:40] + tasks, "before"), threshold=0.8)
    assert found == list(range(1000, 1040))


def test_only_rows_that_are_looked_at_make_a_frame() -> None:
    """Else a row that stands there often would not be compared by what it says."""
    [text] = texts(1)
    rows = [text, changed(text, 2, seed=1)] + [text] * 98
    word_runs = WordRuns()
    for row in rows:
        word_runs.add(row)
    one, other = word_runs.signatures([np.arange(2)])
    assert (one == other).mean() > 0.8


# --- in the stage ------------------------------------------------------------------------------


def prepared(
    folder: Path, tokenizer: Path, sources: dict[str, list[str]], num_workers: int = 1
) -> Path:
    """Rows of these prompts, whose responses are the same."""
    files = {
        name: write_jsonl(
            folder / f"{name}.jsonl", [{"prompt": row, "response": "Yes."} for row in rows]
        )
        for name, rows in sources.items()
    }
    recipe = InstructionsRecipe.model_validate(
        {"sources": {name: {"path": str(file)} for name, file in files.items()}}
        | {"near_duplicates": 0.8, "max_tokens": 20000}
    )
    out = folder / "out"
    out.mkdir()
    prepare.make_instructions(recipe, files, tokenizer, out, num_workers=num_workers)
    return out


def dropped(out: Path) -> dict[str, Any]:
    """By source."""
    sources = prepare.read_card(out)["sources"]
    return {name: of_source["dropped"] for name, of_source in sources.items()}


def test_a_stage_drops_by_what_rows_say_after_equal_ones(tmp_path: Path, tokenizer: Path) -> None:
    rows = texts(60)
    tasks = framed([*rows, *[rows[0]] * 40, changed(rows[0], 1, seed=1)], "long")
    out = prepared(tmp_path, tokenizer, {"chats": texts(300, seed=1), "tasks": tasks})
    assert dropped(out) == {"chats": {}, "tasks": {"duplicate": 40, "near duplicate": 1}}


def test_the_number_of_processes_does_not_change_what_is_dropped(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "LEAST_ROWS_PER_PROCESS", 100)
    monkeypatch.setattr(prepare, "CORES_OF_ONE", 1)
    rows = texts(300)
    later = [changed(row, n % 10, seed=n) for n, row in enumerate(rows)]
    sources = {"a": framed(rows, "short"), "b": framed(later, "short", every=2)}
    for num_workers in (1, 2):
        folder = tmp_path / str(num_workers)
        folder.mkdir()
        prepared(folder, tokenizer, sources, num_workers)
    one, two = (tmp_path / name / "out" for name in "12")
    assert 50 < dropped(one)["b"]["near duplicate"] < 250
    assert prepare.read_table(one, prepare.TRAIN).equals(prepare.read_table(two, prepare.TRAIN))
    assert dropped(one) == dropped(two)


def test_where_no_row_is_left_to_compare_it_is_said_why(tmp_path: Path, tokenizer: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "x", "response": " "}])
    recipe = InstructionsRecipe(path=str(file), near_duplicates=0.8)
    with pytest.raises(DataError, match="no training row is left of 1: 1 x empty response"):
        prepare.make_instructions(recipe, file, tokenizer, tmp_path)
