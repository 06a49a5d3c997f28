"""Which texts hold an item of a benchmark, and which only look like it."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from samples import SHARED, needs_shared

from wit.data.item_index import COMMON_ITEMS, Item, ItemIndex, stretches, words_of

NUMBERS = [f"n{number}" for number in range(400)]  # words that nothing else has


def text(start: int, end: int) -> str:
    return " ".join(NUMBERS[start:end])


def quiz(texts: Iterable[str], name: str = "quiz") -> list[Item]:
    return [Item(name, position, content) for position, content in enumerate(texts)]


def found(items: list[Item], row: str, num_words: int = 13, **more: Iterable[str]) -> set[int]:
    index = ItemIndex(items, num_words, **more)
    positions = {hit.position for hit in index.find(words_of(row))}
    assert index.overlaps(row) == bool(positions)
    return positions


def test_words_are_letters_and_digits_in_lower_case() -> None:
    assert words_of("The Äpfel, 1,000 x_y\n\t— DON'T!") == [
        "the", "äpfel", "1", "000", "x", "y", "don", "t"
    ]  # fmt: skip


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not() -> None:
    items = quiz([text(0, 30), text(50, 80)])
    assert found(items, f"so: {text(7, 20)} end") == {0}
    assert found(items, f"so: {text(7, 19)} end") == set()
    assert found(items, f"{text(7, 13)} gap {text(13, 20)}") == set(), "not in a row"
    assert found(items, f"{text(0, 13)}. {text(60, 75)}") == {0, 1}


def test_case_and_punctuation_and_white_space_hide_nothing() -> None:
    assert found(quiz([text(0, 20)]), ",\n\n ".join(NUMBERS[3:18]).upper()) == {0}


def test_a_short_item_is_looked_for_as_a_whole() -> None:
    items = quiz(["one two three four five", "one two three four", text(0, 12)])
    assert found(items, "say one two three four five six") == {0}
    assert found(items, "say one two three four, six five") == set()
    assert found(items, text(0, 12)) == {2}
    assert found(items, text(0, 11)) == set()
    assert ItemIndex(items, 13).too_short == {1}


def test_an_answer_counts_as_part_of_its_question() -> None:
    question = Item("quiz", 0, "What do bees make?\nhoney")
    assert found([question], "user: What do bees make? Honey.") == {0}
    assert found([question], "user: What do bees make? Wax.") == set()


def test_a_long_wrong_answer_is_text_of_the_item_and_a_short_one_is_not() -> None:
    items = [Item("quiz", 0, text(0, 20), ("short wrong answer of six words", text(40, 60)))]
    assert found(items, text(42, 58)) == {0}
    assert found(items, "short wrong answer of six words") == set()


def test_wording_that_many_items_have_is_no_sign_of_one_of_them() -> None:
    frame = "Answer with one letter and nothing else please do it now thank you very much:"
    assert len(words_of(frame)) > 13
    few = quiz(f"{frame} {text(9 * i, 9 * i + 9)}" for i in range(COMMON_ITEMS))
    others = quiz(text(9 * i, 9 * i + 20) for i in range(11, 31))
    assert found(few + others, frame) == {*range(COMMON_ITEMS)}
    many = quiz(f"{frame} {text(9 * i, 9 * i + 9)}" for i in range(COMMON_ITEMS + 1))
    index = ItemIndex(many + others, 13)
    assert not index.overlaps(frame)
    assert index.common == set()
    # Twelve words of the frame and the first of a question are no question yet.
    assert not index.overlaps(f"{frame} {text(0, 3)}")
    assert found(many + others, f"{frame} {text(0, 9)}") == {0}


def test_a_wording_is_common_in_its_own_benchmark_only() -> None:
    many = quiz(text(0, 20) for _ in range(COMMON_ITEMS + 1))
    alone = quiz([text(0, 20), text(50, 70)], "other")
    index = ItemIndex([*many, *alone], 13)
    assert {hit.position for hit in index.find(words_of(text(0, 20)))} == {len(many)}
    assert index.common == set(range(len(many)))


def test_in_a_small_benchmark_more_than_half_of_the_items_are_many() -> None:
    assert found(quiz([text(0, 20)] * 2 + [text(30, 50), text(60, 80)]), text(0, 20)) == {0, 1}
    assert found(quiz([text(0, 20)] * 3 + [text(30, 50), text(60, 80)]), text(0, 20)) == set()
    assert found(quiz([text(0, 20)]), text(0, 20)) == {0}


def test_a_short_item_that_many_items_repeat_is_common() -> None:
    items = quiz(["and now in other words please"] * 12 + [text(0, 20)] * 1)
    index = ItemIndex(items, 13)
    assert index.common == set(range(12))
    assert not index.overlaps("and now in other words please")


def test_what_all_rows_hold_is_no_overlap() -> None:
    frame = "Below is an instruction that describes a task. Write a response that completes it."
    texts = [f"{frame} {text(0, 20)}", frame, "that describes a task write a response"]
    items = [Item(str(number), 0, content) for number, content in enumerate(texts)]
    row = f"{frame} {text(100, 120)}"
    assert found(items, row) == {0, 1, 2}
    assert found(items, row, boilerplate=[frame]) == set()
    assert found(items, f"{frame} {text(0, 20)}", boilerplate=[frame]) == {0}
    assert ItemIndex(items, 13, [frame]).common == {1, 2}


@given(
    st.lists(st.text(alphabet="abc ", max_size=40), max_size=4),
    st.text(alphabet="abc ", max_size=60),
    st.integers(1, 7),
)
def test_it_finds_what_comparing_every_stretch_with_every_stretch_finds(
    texts: list[str], row: str, num_words: int
) -> None:
    """Every item is a benchmark of its own here, so that none has wording in common."""
    items = [Item(str(number), 0, content) for number, content in enumerate(texts)]
    in_row = words_of(row)
    expected = set()
    for position, item in enumerate(items):
        words = words_of(item.text)
        length = min(num_words, len(words))
        if length < min(5, num_words) or not words:
            continue
        pairs = product(stretches(words, length), stretches(in_row, length))
        if any(ours == theirs for ours, theirs in pairs):
            expected.add(position)
    assert found(items, row, num_words) == expected


def test_it_can_be_sent_to_another_process(tmp_path: Path) -> None:
    """Strings hash differently there."""
    (tmp_path / "index").write_bytes(pickle.dumps(ItemIndex(quiz([text(0, 20)]), 13).overlaps))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))(sys.argv[2]))"
    for row, answer in ((text(3, 18), "True"), (text(3, 9), "False")):
        command = [sys.executable, "-c", code, str(tmp_path / "index"), row]
        assert subprocess.check_output(command, text=True).strip() == answer


@needs_shared
@pytest.mark.parametrize("name", ["train", "test"])
def test_gsm8k_holds_all_of_its_test_items_in_its_test_rows_and_few_in_its_training_rows(
    name: str,
) -> None:
    folder = SHARED / "data" / "gsm8k"
    rows = {
        split: [
            f"{row['question']}\n{row['answer']}"
            for row in map(json.loads, (folder / f"{split}.jsonl").read_text().splitlines())
        ]
        for split in ("train", "test")
    }
    items = quiz(rows["test"], "gsm8k")
    index = ItemIndex(items, 13)
    hits = {hit.position for row in rows[name] for hit in index.find(words_of(row))}
    if name == "test":
        assert hits == set(range(len(items)))
    else:
        assert 0 < len(hits) < len(items) / 100
