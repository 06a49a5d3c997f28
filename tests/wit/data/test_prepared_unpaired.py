"""Responses that are good or bad, without a pair: prepared, and known before that."""

from pathlib import Path
from typing import Any

import pytest
from preference_data import Row, rendered, said
from prepared import pairs, prepare
from samples import write_jsonl

from wit.data.pairing import will_be_unpaired
from wit.data.prepare import (
    HELD_OUT,
    PREFERENCE_COLUMNS,
    TRAIN,
    UNPAIRED_COLUMNS,
    is_unpaired,
    make_preferences,
    read_table,
)
from wit.errors import DataError
from wit.recipes import PreferencesRecipe


def judged(*numbers: int) -> list[Row]:
    return [
        {"prompt": f"What is {n}?", "completion": f"It is {n}.", "label": n % 3 > 0}
        for n in numbers
    ]


def test_unpaired_responses_have_files_and_a_card_of_their_own(
    tmp_path: Path, tokenizer: Path
) -> None:
    rows = judged(*range(60))
    prepared = prepare(tmp_path, tokenizer, rows, held_out_fraction=0.3)
    for split in (TRAIN, HELD_OUT):
        assert read_table(prepared.folder, split).schema.equals(UNPAIRED_COLUMNS)
        assert prepared.rows[split]
        for row in prepared.rows[split]:
            given = rows[row["row"] - 1]
            asked, answer = said("user", given["prompt"]), said("assistant", given["completion"])
            read = [prepared.tokenizer.decode(row[name]) for name in ("prompt_ids", "response_ids")]
            assert row["is_desirable"] is given["label"]
            assert read[0] == rendered(tokenizer, asked)
            assert "".join(read) == rendered(tokenizer, asked, answer)
    card, labels = prepared.card, [row["is_desirable"] for row in prepared.rows[TRAIN]]
    assert card["kind"] == "unpaired"
    assert card["labels"] == {"desirable": sum(labels), "undesirable": len(labels) - sum(labels)}
    assert list(card["lengths"]) == ["prompt", "response"]
    assert is_unpaired(prepared.folder)
    again = prepare(tmp_path / "pairs", tokenizer, pairs(1, 2), held_out_fraction=0)
    assert not is_unpaired(again.folder)
    assert read_table(again.folder, TRAIN).schema.equals(PREFERENCE_COLUMNS)


def test_a_response_has_the_ids_of_the_chosen_answer_of_a_pair(
    tmp_path: Path, tokenizer: Path
) -> None:
    single = prepare(tmp_path / "single", tokenizer, judged(1, 2), held_out_fraction=0)
    paired = prepare(tmp_path / "paired", tokenizer, pairs(1, 2), held_out_fraction=0)
    for one, pair in zip(single.rows[TRAIN], paired.rows[TRAIN], strict=True):
        assert one["prompt_ids"] == pair["prompt_ids"]
        assert one["response_ids"] == pair["chosen_ids"]


def test_a_response_is_cut_and_one_without_room_is_dropped(tmp_path: Path, tokenizer: Path) -> None:
    rows = [
        {"prompt": "q", "completion": "long " * 90, "label": True},
        {"prompt": "long " * 90, "completion": "a", "label": False},
    ]
    prepared = prepare(tmp_path, tokenizer, rows, held_out_fraction=0, max_tokens=40)
    assert prepared.card["dropped"] == {"prompt leaves no room for its response": 1}
    assert prepared.card["truncated"] == 1
    [row] = prepared.rows[TRAIN]
    assert len(row["prompt_ids"]) + len(row["response_ids"]) == 40


@pytest.mark.parametrize(("rows", "expected"), [(judged(1), True), (pairs(1), False)])
def test_the_kind_is_known_from_the_columns_before_anything_is_made(
    rows: list[Row], expected: bool, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert will_be_unpaired(PreferencesRecipe(path=str(file)), file) is expected
    hub = PreferencesRecipe(repo="org/name", revision="0" * 40)
    assert will_be_unpaired(hub, {}) is None
    sources: Any = {"a": {"path": str(file)}, "b": {"repo": hub.repo, "revision": hub.revision}}
    mixture = PreferencesRecipe(sources=sources)
    assert will_be_unpaired(mixture, {"a": file}) is expected


def test_pairs_and_single_responses_do_not_mix(tmp_path: Path, tokenizer: Path) -> None:
    files = {
        "good": write_jsonl(tmp_path / "a.jsonl", pairs(1)),
        "bad": write_jsonl(tmp_path / "b.jsonl", judged(1)),
    }
    places: Any = {name: {"path": str(file)} for name, file in files.items()}
    recipe = PreferencesRecipe(sources=places)
    says = "sources: bad hold single responses with a label, good hold pairs"
    with pytest.raises(DataError, match=says):
        will_be_unpaired(recipe, files)
    with pytest.raises(DataError, match=says):
        make_preferences(recipe, files, tokenizer, tmp_path)
