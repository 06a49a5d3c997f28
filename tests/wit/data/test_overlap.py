"""The stage on sets that the data stages really made."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import embedded_tokenizer, save_tokenizer, write_jsonl

from wit.data.item_index import ITEM_COLUMNS, ITEMS, Item, ItemIndex
from wit.data.overlap import NUM_EXAMPLES, OVERLAP, Overlap, find_overlap, training_rows
from wit.data.prepare import (
    TRAIN,
    make_instructions,
    make_preferences,
    make_tokenizer,
    read_card,
    read_split,
    write_card,
)
from wit.errors import ArtifactError
from wit.evaluation_recipes import OverlapRecipe
from wit.recipes import InstructionsRecipe, PreferencesRecipe, TokenizerRecipe
from wit.tokenizers import load_tokenizer

PLANETS = "Which of the planets that go around our sun is the one with the largest moon of all?"
SHORT = Item("quiz", 4, "What do bees make?\nhoney")  # six words, around the header of an answer
ROWS = [
    {"prompt": "Say hello.", "response": "Hello!"},
    {"prompt": f"Hm. {PLANETS}", "response": "Ganymede's."},
    {"prompt": "What do bees make?", "response": "Honey, of course.", "system": "Be kind."},
]
PAIRS = [
    {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "Go away."},
    {"prompt": "What do wasps make?", "chosen": "Nests.", "rejected": "Trouble for all who pass."},
    {"prompt": "What do bees make?", "chosen": "Wax.", "rejected": "Honey!"},
]


def words(number: int, num_words: int = 8) -> str:
    """Text that shares no word with that of another number."""
    return " ".join(f"w{number}x{index}" for index in range(num_words))


class Prepared:
    """A tokenizer, and sets that are prepared with it, in a folder."""

    def __init__(self, folder: Path, template: str = "own") -> None:
        self.folder, self.tokenizer = folder, folder / "tokenizer"
        base = save_tokenizer(embedded_tokenizer(), folder / "base")
        self.tokenizer.mkdir()
        make_tokenizer(TokenizerRecipe(template=template), base, self.tokenizer)

    def instructions(self, rows: list[Any] = ROWS, **knobs: Any) -> Path:
        return self._make(make_instructions, InstructionsRecipe, rows, knobs)

    def preferences(self, rows: list[Any] = PAIRS, **knobs: Any) -> Path:
        return self._make(make_preferences, PreferencesRecipe, rows, knobs)

    def _make(self, make: Any, kind: Any, rows: list[Any], knobs: dict[str, Any]) -> Path:
        file = write_jsonl(self.folder / f"{kind.__name__}.jsonl", rows)
        out = self.folder / kind.__name__
        out.mkdir()
        overlaps = knobs.pop("overlaps", None)
        recipe = kind(path=str(file), **{"held_out_fraction": 0} | knobs)
        make(recipe, file, self.tokenizer, out, overlaps=overlaps)
        return out

    def overlap(self, items: list[Item], **data: Path) -> Overlap:
        rows = [item._asdict() for item in items]
        pq.write_table(pa.Table.from_pylist(rows, schema=ITEM_COLUMNS), self.folder / ITEMS)
        find_overlap(OverlapRecipe(), self.folder, data, self.tokenizer, self.folder)
        return Overlap.load(self.folder)


@pytest.mark.parametrize("template", ["own", "alpaca", "tulu"])
def test_items_are_found_in_rows_and_in_both_answers_of_pairs(
    tmp_path: Path, template: str
) -> None:
    prepared = Prepared(tmp_path, template)
    items = [
        Item("quiz", 0, "What color has the sky at noon?\nblue"),
        Item("quiz", 1, f"{PLANETS}\nJupiter", ("Mars",)),
        Item("quiz", 2, "And now?"),
        SHORT,
        Item("wasps", 0, "What do wasps make?\nNests"),
        Item("trouble", 0, "What do wasps make?\nTrouble for all"),
    ]
    overlap = prepared.overlap(
        items, instructions=prepared.instructions(), preferences=prepared.preferences()
    )
    assert overlap.num_rows == {"instructions": 3, "preferences": 3}
    quiz = overlap.benchmarks["quiz"]
    assert (quiz.num_items, quiz.num_looked_for, quiz.num_too_short) == (4, 3, 1)
    assert (quiz.num_overlapping, quiz.num_common, quiz.share) == (2, 0, pytest.approx(2 / 3))
    assert quiz.overlapping == (1, 4)
    planets, bees = quiz.examples
    assert (planets.item, planets.data, planets.row, planets.source) == (1, "instructions", 2, "")
    assert planets.words == "which of the planets that go around our sun is the one with"
    assert (bees.item, bees.data, bees.row) == (4, "instructions", 3)
    assert bees.words == "what do bees make honey"
    [nests], [trouble] = (overlap.benchmarks[name].examples for name in ("wasps", "trouble"))
    assert (nests.data, nests.row) == (trouble.data, trouble.row) == ("preferences", 2)
    assert overlap.sentence == (
        "test items in the training text: 2 of 4 items of quiz, 1 of 1 items of wasps, "
        "1 of 1 items of trouble"
    )


def test_nothing_is_said_where_nothing_overlaps(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path)
    items = [Item("quiz", 0, "What color has the sky at noon?\nblue"), Item("short", 0, "Why?")]
    overlap = prepared.overlap(items, instructions=prepared.instructions())
    assert overlap.sentence is None
    assert overlap.benchmarks["quiz"].share == 0
    assert overlap.benchmarks["short"].share is None


def test_rows_that_are_held_out_are_not_searched(tmp_path: Path) -> None:
    texts = [words(n) for n in range(40)]
    prepared = Prepared(tmp_path)
    rows = [{"prompt": text, "response": "Yes."} for text in texts]
    folder = prepared.instructions(rows, held_out_fraction=0.5)
    items = [Item(f"quiz {n}", n, f"{text} yes") for n, text in enumerate(texts)]
    found = prepared.overlap(items, instructions=folder).benchmarks.values()
    rows_found = {example.row for benchmark in found for example in benchmark.examples}
    trained_on = set(read_split(folder, TRAIN)["row"])
    assert rows_found == trained_on
    assert 0 < len(trained_on) < len(texts)


def test_text_that_was_cut_off_is_not_trained_on(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path)
    response = words(0, 60)
    rows = [{"prompt": "Count.", "response": response}]
    items = [Item("early", 0, words(0, 8)), Item("late", 0, response[-60:].partition(" ")[2])]
    folder = prepared.instructions(rows, max_tokens=120)
    found = prepared.overlap(items, instructions=folder).benchmarks
    assert [found[name].num_overlapping for name in ("early", "late")] == [1, 0]


def test_boilerplate_of_the_rows_is_no_overlap(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path)
    frame = "You are a careful helper who reads every question twice before there is an answer."
    rows = [{"prompt": f"{frame} {row['prompt']}", "response": row["response"]} for row in ROWS]
    folder = prepared.instructions(rows)
    items = [Item("framed", 0, f"{frame} Why is grass green?"), Item("planets", 0, PLANETS)]
    card = read_card(folder)
    counts = []
    for boilerplate in ([], [frame]):
        write_card(folder, {**card, "boilerplate": boilerplate})
        found = prepared.overlap(items, instructions=folder).benchmarks
        counts.append([found[name].num_overlapping for name in ("framed", "planets")])
    assert counts == [[1, 1], [0, 1]]


def test_the_first_items_are_named_and_all_are_flagged(tmp_path: Path) -> None:
    texts = [words(n) for n in range(NUM_EXAMPLES + 5)]
    prepared = Prepared(tmp_path)
    folder = prepared.instructions([{"prompt": t, "response": "Yes."} for t in texts])
    others = [Item("quiz", 2 * n, words(100 + n)) for n in range(len(texts))]
    items = [Item("quiz", 2 * n + 1, text) for n, text in enumerate(texts)]
    mixed = [item for pair in zip(others, items, strict=True) for item in pair]
    found = prepared.overlap(mixed, instructions=folder).benchmarks["quiz"]
    assert found.overlapping == tuple(range(1, 2 * len(texts), 2))
    assert found.num_overlapping == len(texts)
    assert [example.item for example in found.examples] == [*found.overlapping[:NUM_EXAMPLES]]


def test_no_pair_is_left_in_which_an_item_would_be_found(tmp_path: Path) -> None:
    """The answer of a short item may be the rejected one, behind a prompt and a chosen one."""
    prepared = Prepared(tmp_path)
    holds_item = ItemIndex([SHORT], OverlapRecipe().num_words).overlaps
    folder = prepared.preferences(overlaps=holds_item)
    assert read_card(folder)["dropped"] == {"overlaps a benchmark": 1}
    found = prepared.overlap([SHORT], preferences=folder)
    assert (found.num_rows, found.sentence) == ({"preferences": 2}, None)


def test_rows_are_streamed_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wit.data.overlap.BATCH_ROWS", 2)
    prepared = Prepared(tmp_path)
    rows = [{"prompt": f"say {n}", "response": f"{n}"} for n in range(5)]
    streamed = training_rows(prepared.instructions(rows), load_tokenizer(prepared.tokenizer))
    assert [(row.number, row.texts) for row in streamed] == [
        (n + 1, [["say", str(n), str(n)]]) for n in range(5)
    ]


@pytest.mark.parametrize("content", [None, "{", '{"benchmarks": {}}', json.dumps([1])])
def test_a_damaged_result_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / OVERLAP).write_text(content)
    with pytest.raises(ArtifactError, match=r"overlap\.json: cannot be read"):
        Overlap.load(tmp_path)
