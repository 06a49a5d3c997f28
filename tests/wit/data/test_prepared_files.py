"""The data stages: what their files hold, of made-up and of real data."""

from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from prepared import Prepared, asks, pairs, prepare
from samples import RASCHKA, SHARED, STORIES, needs_shared, write_jsonl

from wit.data.prepare import HELD_OUT, TRAIN, make_instructions, make_preferences, make_tokenizer
from wit.data.sources import read_file
from wit.data.splits import SPLITS, split_file
from wit.recipes import InstructionsRecipe, PreferencesRecipe, TokenizerRecipe
from wit.roles import Role

# --- what the files hold ------------------------------------------------------------------------


def test_rows_hold_ids_roles_and_where_they_came_from(tmp_path: Path, tokenizer: Path) -> None:
    prepared = prepare(tmp_path, tokenizer, asks(1, 2), held_out_fraction=0)
    for row, number in zip(prepared.rows[TRAIN], (1, 2), strict=True):
        assert row["row"] == number
        assert prepared.text(row, Role.PROMPT) == f"What is {number}?"
        assert prepared.text(row, Role.RESPONSE) == f"It is {number}."
        assert prepared.text(row, Role.STOP) == "<|end|>"
    counted = Counter(Role(r).name.lower() for row in prepared.rows[TRAIN] for r in row["roles"])
    assert prepared.card["train_tokens_by_role"] == dict(counted)


def test_a_long_response_loses_its_end_and_its_stop(tmp_path: Path, tokenizer: Path) -> None:
    rows = [{"prompt": "Count!", "response": "1 2 3 4 5 6 7 8 9 " * 9}]
    prepared = prepare(tmp_path, tokenizer, rows, held_out_fraction=0, max_tokens=40)
    [row] = prepared.rows[TRAIN]
    assert len(row["input_ids"]) == len(row["roles"]) == 40
    assert prepared.text(row, Role.PROMPT) == "Count!"
    assert rows[0]["response"].startswith(prepared.text(row, Role.RESPONSE))
    assert prepared.text(row, Role.STOP) == ""


@given(max_tokens=st.integers(20, 60))
def test_no_row_is_longer_than_its_limit(
    max_tokens: int, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [{"prompt": "p " * n, "response": "r " * n} for n in range(1, 30, 4)]
    folder = tmp_path_factory.mktemp("rows") / "x"
    prepared = prepare(folder, tokenizer, rows, max_tokens=max_tokens, held_out_fraction=0.2)
    for row in prepared.rows[TRAIN] + prepared.rows[HELD_OUT]:
        assert len(row["input_ids"]) <= max_tokens
        assert Role.RESPONSE in row["roles"]


def test_both_answers_of_a_pair_follow_the_same_prompt_and_end_with_the_stop(
    tmp_path: Path, tokenizer: Path
) -> None:
    prepared = prepare(tmp_path, tokenizer, pairs(1, 2), held_out_fraction=0)
    decode = prepared.tokenizer.decode
    for row, number in zip(prepared.rows[TRAIN], (1, 2), strict=True):
        turns = [{"role": "user", "content": f"What is {number}?"}]
        prompt = prepared.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        assert decode(row["prompt_ids"]) == prompt
        assert decode(row["chosen_ids"]) == f"It is {number}.<|end|>"
        assert decode(row["rejected_ids"]) == "No.<|end|>"


def test_preparing_twice_writes_the_same_bytes(tmp_path: Path, tokenizer: Path) -> None:
    one, two = (
        prepare(tmp_path / name, tokenizer, asks(*range(20)), held_out_fraction=0.3).folder
        for name in ("one", "two")
    )
    for split in SPLITS:
        assert split_file(one, split).read_bytes() == split_file(two, split).read_bytes()


def test_a_sample_keeps_the_numbers_of_its_rows_and_says_that_it_is_one(
    tmp_path: Path, tokenizer: Path
) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", asks(*range(100)))
    recipe = InstructionsRecipe(path=str(source), held_out_fraction=0, max_rows=50)
    make_instructions(recipe, source, tokenizer, tmp_path, sample_rows=30)
    prepared = Prepared(tmp_path, tokenizer)
    assert prepared.card["rows_in"] == 100
    assert prepared.card["rows_sampled"] == 25  # every fourth
    assert len(prepared.rows[TRAIN]) == 13  # half of them
    for row in prepared.rows[TRAIN]:
        assert prepared.prompt(row) == f"What is {row['row'] - 1}?"


# --- real data ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stories")
    make_tokenizer(TokenizerRecipe(template="alpaca"), STORIES, folder)
    return folder


@needs_shared
def test_every_real_instruction_decodes_to_its_texts(tmp_path: Path, stories: Path) -> None:
    source = RASCHKA / "instruction-data.json"
    recipe = InstructionsRecipe(path=str(source), held_out_fraction=0.1, max_tokens=4096)
    make_instructions(recipe, source, stories, tmp_path)
    prepared, rows = Prepared(tmp_path, stories), list(read_file(source))
    assert prepared.card["dropped"] == {}
    assert prepared.card["truncated"] == 0
    seen = 0
    for row in prepared.rows[TRAIN] + prepared.rows[HELD_OUT]:
        given = rows[row["row"] - 1]
        # Alpaca's template puts a header between the two.
        asked = given["instruction"].strip() + given["input"].strip()
        assert prepared.text(row, Role.PROMPT) == asked
        assert prepared.text(row, Role.RESPONSE) == given["output"].strip()
        assert prepared.text(row, Role.STOP) == "</s>"
        seen += 1
    assert seen == len(rows) == 1100


@needs_shared
def test_the_six_real_pairs_without_a_preference_are_dropped(tmp_path: Path, stories: Path) -> None:
    source = RASCHKA / "instruction-data-with-preference.json"
    recipe = PreferencesRecipe(path=str(source), max_tokens=4096)
    make_preferences(recipe, source, stories, tmp_path)
    card = Prepared(tmp_path, stories).card
    assert card["rows_in"] == 1100
    assert card["dropped"] == {"chosen equals rejected": 6}
    assert sum(card["rows"].values()) == 1094


@needs_shared
def test_gsm8k_is_prepared_like_any_other(tmp_path: Path, stories: Path) -> None:
    source = SHARED / "data" / "gsm8k" / "train.jsonl"
    recipe = InstructionsRecipe(path=str(source), max_rows=100)
    make_instructions(recipe, source, stories, tmp_path)
    prepared, rows = Prepared(tmp_path, stories), list(read_file(source))
    assert sum(prepared.card["rows"].values()) == 100
    for row in prepared.rows[TRAIN]:
        assert prepared.text(row, Role.PROMPT) == rows[row["row"] - 1]["question"].strip()
