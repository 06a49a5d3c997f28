"""Preference rows of every shape, prepared: what stands in the files, and on the card."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from preference_data import Row, rendered, said
from prepared import Prepared, pairs, prepare

from wit.data.prepare import HELD_OUT, TRAIN, make_preferences
from wit.data.rendering import ChatRenderer
from wit.data.schema import Message
from wit.data.tokenize import SegmentTokenizer
from wit.errors import DataError
from wit.recipes import PreferencesRecipe
from wit.tokenizers import load_tokenizer


def texts(prepared: Prepared, *names: str) -> list[tuple[str, ...]]:
    """What the tokens of each training row read."""
    return [
        tuple(prepared.tokenizer.decode(row[f"{name}_ids"]) for name in names)
        for row in prepared.rows[TRAIN]
    ]


# --- the same pairs in every shape -----------------------------------------------------------

ASKED = [[said("user", f"What is {n}?")] for n in range(20)]
ASKED += [
    [said("system", "Be brief."), *asked, said("assistant", "Why?"), said("user", "So.")]
    for asked in ASKED[:5]
]
ANSWERS = [(f"It is {n}.", f"{n}? No 🙂.") for n in range(len(ASKED))]


def explicit(asked: list[Row], good: str, bad: str) -> Row:
    return {"prompt": asked, "chosen": good, "rejected": bad}


def as_messages(asked: list[Row], good: str, bad: str) -> Row:
    return {
        "prompt": asked,
        "chosen": [said("assistant", good)],
        "rejected": [said("assistant", bad)],
    }


def implicit(asked: list[Row], good: str, bad: str) -> Row:
    return {
        "chosen": [*asked, said("assistant", good)],
        "rejected": [*asked, said("assistant", bad)],
    }


def scored(asked: list[Row], good: str, bad: str) -> Row:
    return {"prompt": asked, "responses": [bad, "It may be.", good], "scores": [0, 1, 2.5]}


SHAPES = (explicit, as_messages, implicit, scored)
PARTS = [(asked, *answers) for asked, answers in zip(ASKED, ANSWERS, strict=True)]


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_every_shape_of_the_same_pairs_is_prepared_alike(
    shape: Any, tmp_path: Path, tokenizer: Path
) -> None:
    knobs = {"held_out_fraction": 0.3, "max_rows": 22}
    one, other = (
        prepare(tmp_path / of.__name__, tokenizer, [of(*parts) for parts in PARTS], **knobs)
        for of in (explicit, shape)
    )
    assert one.rows == other.rows
    for name in ("dropped", "rows", "lengths", "kind"):
        assert one.card[name] == other.card[name]
    assert one.card["kind"] == "pairs"
    assert all(other.rows.values())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tokens_of_a_pair_read_as_the_template_writes_it(
    shape: Any, tmp_path: Path, tokenizer: Path
) -> None:
    rows = [shape(*parts) for parts in PARTS]
    prepared = prepare(tmp_path, tokenizer, rows, held_out_fraction=0)
    assert [row["row"] for row in prepared.rows[TRAIN]] == list(range(1, len(rows) + 1))
    for (asked, good, bad), read in zip(
        PARTS, texts(prepared, "prompt", "chosen", "rejected"), strict=True
    ):
        whole = (rendered(tokenizer, *asked, said("assistant", answer)) for answer in (good, bad))
        prompt, chosen, rejected = read
        assert prompt == rendered(tokenizer, *asked)
        assert [prompt + chosen, prompt + rejected] == list(whole)


def test_parquet_says_the_same_with_what_a_message_does_not_have(
    tmp_path: Path, tokenizer: Path
) -> None:
    lists = [
        {
            "instruction": asked[0]["content"],
            "completions": [
                {"response": text, "overall_score": score, "principle": None}
                for text, score in ((bad, 1.5), (good, 3.0))
            ],
        }
        for asked, good, bad in PARTS[:20]
    ]
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(lists), file)
    columns = {"responses": "completions.response", "scores": "completions.overall_score"}
    (tmp_path / "parquet").mkdir()
    recipe = PreferencesRecipe(path=str(file), columns=columns, held_out_fraction=0)
    make_preferences(recipe, file, tokenizer, tmp_path / "parquet")
    usual = [explicit(*parts) for parts in PARTS[:20]]
    expected = prepare(tmp_path / "usual", tokenizer, usual, held_out_fraction=0)
    assert Prepared(tmp_path / "parquet", tokenizer).rows == expected.rows


def test_swapped_sides_swap_their_columns_and_nothing_else(tmp_path: Path, tokenizer: Path) -> None:
    def prepared(name: str, rows: list[Row]) -> dict[str, list[Row]]:
        return prepare(tmp_path / name, tokenizer, rows, held_out_fraction=0.3).rows

    rows = [implicit(*parts) for parts in PARTS]
    usual = prepared("usual", rows)
    turned = prepared(
        "turned", [{"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    )
    for split, of_split in usual.items():
        assert turned[split] == [
            {**row, "chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]}
            for row in of_split
        ]


# --- several turns in an answer ----------------------------------------------------------------

QUESTION, MORE = said("user", "One?"), said("user", "More?")
YES, NO, END = (said("assistant", text) for text in ("Yes.", "No.", "That is all."))


def test_an_answer_of_several_turns_has_all_of_them_with_their_markup(
    tmp_path: Path, tokenizer: Path
) -> None:
    row = {"chosen": [QUESTION, YES, MORE, END], "rejected": [QUESTION, NO, MORE, END]}
    prepared = prepare(tmp_path, tokenizer, [row], held_out_fraction=0)
    [(prompt, chosen, rejected)] = texts(prepared, "prompt", "chosen", "rejected")
    assert prompt == rendered(tokenizer, QUESTION)
    assert prompt + chosen == rendered(tokenizer, QUESTION, YES, MORE, END)
    assert prompt + rejected == rendered(tokenizer, QUESTION, NO, MORE, END)


def test_the_prompt_of_such_an_answer_has_the_ids_of_generation(
    tmp_path: Path, tokenizer: Path
) -> None:
    before = [QUESTION, YES, MORE]
    row = {"prompt": before, "chosen": [NO, MORE, END], "rejected": "Yes."}
    prepared = prepare(tmp_path, tokenizer, [row], held_out_fraction=0)
    loaded = load_tokenizer(tokenizer)
    asked = ChatRenderer(loaded).prompt(tuple(Message(m["role"], m["content"]) for m in before))
    [found] = prepared.rows[TRAIN]
    assert found["prompt_ids"] == SegmentTokenizer(loaded).tokens(asked).ids


# --- what is dropped ---------------------------------------------------------------------------

DIRTY = [
    {"prompt": "a", "chosen": True, "rejected": "b"},
    {"prompt": "b", "chosen": 3, "rejected": "b"},
    {"prompt": "b", "chosen": 3, "rejected": "b"},
    {"prompt": "c", "chosen": "x", "rejected": None},
    {"prompt": "d", "chosen": "same", "rejected": "same"},
    {"prompt": "e", "chosen": [said("user", "other"), said("assistant", "a")], "rejected": "b"},
]


def test_every_reason_is_counted_and_the_order_of_rows_does_not_matter(
    tmp_path: Path, tokenizer: Path
) -> None:
    rows = [*pairs(*range(30)), *DIRTY]
    usual = prepare(tmp_path / "usual", tokenizer, rows, held_out_fraction=0.2, max_rows=25)
    assert usual.card["rows_in"] == len(rows)
    assert usual.card["dropped"] == {
        "over max_rows": 5,
        "chosen is not text": 2,
        "answer does not continue its prompt": 1,
        "chosen equals rejected": 1,
        "duplicate": 1,
        "no rejected": 1,
    }
    random.Random(0).shuffle(rows)
    other = prepare(tmp_path / "other", tokenizer, rows, held_out_fraction=0.2, max_rows=25)
    assert usual.card["dropped"] == other.card["dropped"]
    for split in (TRAIN, HELD_OUT):
        one, two = (
            {(tuple(row["prompt_ids"]), tuple(row["chosen_ids"])) for row in found.rows[split]}
            for found in (usual, other)
        )
        assert one == two


def test_a_set_of_dirt_alone_is_refused_with_its_reasons_and_an_example(
    tmp_path: Path, tokenizer: Path
) -> None:
    rows = [{"chosen": f"The sky is {n}.", "rejected": "The sky is blue."} for n in range(3)]
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, tokenizer, rows)
    assert (
        "no training row is left of 3: 3 x text without a prompt (row 1: 'chosen' is text"
        in str(caught.value)
    )
    assert "such as {prompt: question}" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_ties_and_small_margins_are_dropped_and_counted(tmp_path: Path, tokenizer: Path) -> None:
    rows = [{"prompt": f"{n}", "responses": ["a", "b"], "scores": [0, n / 2]} for n in range(5)]
    every = prepare(tmp_path / "every", tokenizer, rows, held_out_fraction=0)
    assert every.card["dropped"] == {"scores tie": 1}
    clear = prepare(tmp_path / "clear", tokenizer, rows, held_out_fraction=0, min_margin=1.5)
    assert clear.card["dropped"] == {"margin below min_margin": 2, "scores tie": 1}
    assert clear.rows[TRAIN] == every.rows[TRAIN][-2:]


def test_a_margin_without_scores_is_not_ignored(tmp_path: Path, tokenizer: Path) -> None:
    with pytest.raises(DataError, match=r"min_margin = 0\.5, but there are no scores"):
        prepare(tmp_path, tokenizer, pairs(1, 2), min_margin=0.5)


def test_a_margin_that_nobody_asks_for_is_no_part_of_a_fingerprint() -> None:
    usual = PreferencesRecipe(path="a")
    assert "min_margin" not in usual.identity()
    assert usual.model_copy(update={"min_margin": 0.5}).identity()["min_margin"] == 0.5
