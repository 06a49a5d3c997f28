"""Preparation of mixtures: which rows of which source are chosen."""

from pathlib import Path

import pytest
from mixed_rows import Row, mixture, numbers, rows

from wit.data.prepare import TRAIN, make_preferences, read_card, read_table
from wit.errors import DataError
from wit.roles import Role


def test_a_mixture_is_as_large_as_its_shares_allow(tmp_path: Path, tokenizer: Path) -> None:
    out = mixture(
        tmp_path,
        tokenizer,
        {"few": rows(10, seed=1), "many": rows(100, seed=2)},
        {"few": {"share": 0.25}, "many": {"share": 0.75}},
    )
    assert {name: len(kept) for name, kept in numbers(out).items()} == {"few": 10, "many": 30}
    card = read_card(out)
    assert card["rows_in"] == 110
    assert card["dropped"] == {"over its share": 70}
    assert card["sources"]["few"]["dropped"] == {}
    assert card["sources"]["many"]["rows"] == {"train": 30, "held_out": 0}


def test_sources_without_shares_give_all_their_rows_up_to_their_limit(
    tmp_path: Path, tokenizer: Path
) -> None:
    sources = {"a": rows(10, seed=1), "b": rows(20, seed=2)}
    out = mixture(tmp_path, tokenizer, sources, {"b": {"max_rows": 5}})
    assert {name: len(kept) for name, kept in numbers(out).items()} == {"a": 10, "b": 5}
    assert read_card(out)["sources"]["b"]["dropped"] == {"over max_rows": 15}


def test_a_limit_of_the_whole_keeps_the_shares(tmp_path: Path, tokenizer: Path) -> None:
    sources = {"a": rows(50, seed=1), "b": rows(50, seed=2)}
    shares = {"a": {"share": 3}, "b": {"share": 1}}
    small = mixture(tmp_path / "small", tokenizer, sources, shares, max_rows=20)
    large = mixture(tmp_path / "large", tokenizer, sources, shares)
    assert {name: len(kept) for name, kept in numbers(small).items()} == {"a": 15, "b": 5}
    assert read_card(small)["dropped"] == {"over max_rows": 46, "over its share": 34}
    for name, kept in numbers(small).items():
        assert kept < numbers(large)[name]


def test_which_rows_a_share_takes_depends_on_their_content(tmp_path: Path, tokenizer: Path) -> None:
    many = rows(60, seed=2)
    shares = {"few": {"share": 1}, "many": {"share": 1}}
    kept = []
    for name, order in (("forth", many), ("back", many[::-1])):
        out = mixture(tmp_path / name, tokenizer, {"few": rows(9, seed=1), "many": order}, shares)
        kept.append({order[number - 1]["prompt"] for number in numbers(out)["many"]})
    assert kept[0] == kept[1]
    assert len(kept[0]) == 9


def test_a_row_of_two_sources_is_that_of_the_first(tmp_path: Path, tokenizer: Path) -> None:
    shared = rows(5, seed=1)
    sources = {"z": [*rows(5, seed=2), *shared, *shared[:2]], "a": shared}
    out = mixture(tmp_path, tokenizer, sources)
    assert numbers(out) == {"a": {1, 2, 3, 4, 5}, "z": {1, 2, 3, 4, 5}}, "in the order of names"
    card = read_card(out)
    assert card["sources"]["z"]["dropped"] == {"duplicate": 7}
    assert card["dropped"] == {"duplicate": 7}


def test_each_source_has_its_own_shape_columns_and_boilerplate(
    tmp_path: Path, tokenizer: Path
) -> None:
    framed = [
        {"ask": f"Answer in one word: {row['prompt']}", "say": "Yes."} for row in rows(40, seed=1)
    ]
    chats = [
        {
            "messages": [
                {"role": "user", "content": r["prompt"]},
                {"role": "assistant", "content": "No."},
            ]
        }
        for r in rows(40, seed=2)
    ]
    columns = {"framed": {"columns": {"prompt": "ask", "response": "say"}}}
    out = mixture(tmp_path, tokenizer, {"framed": framed, "chats": chats}, columns)
    card = read_card(out)
    assert card["boilerplate"] == ["Answer in one word: "]
    assert card["sources"]["chats"]["boilerplate"] == []
    of_framed, of_chats = card["sources"]["framed"], card["sources"]["chats"]
    assert "boilerplate" not in of_chats["train_tokens_by_role"]
    assert of_framed["boilerplate_share"] > card["boilerplate_share"] > 0
    for row in read_table(out, TRAIN).to_pylist():
        assert (Role.BOILERPLATE in row["roles"]) == (row["source"] == "framed")


def test_a_wrong_row_of_a_source_is_named_with_its_file(tmp_path: Path, tokenizer: Path) -> None:
    sources = {"a": rows(3), "b": [*rows(2, seed=1), {"prompt": "x", "response": 3}]}
    with pytest.raises(DataError, match=r"b\.jsonl: row 3: 'response' is a int"):
        mixture(tmp_path, tokenizer, sources)


def test_a_mixture_of_which_nothing_is_left_names_its_sources(
    tmp_path: Path, tokenizer: Path
) -> None:
    empty = [{"prompt": "x", "response": " "}]
    with pytest.raises(DataError, match=r"a: .*a\.jsonl, b: .*b\.jsonl: no training row is left"):
        mixture(tmp_path / "all", tokenizer, {"a": empty, "b": empty})
    shares = {"a": {"share": 1}, "b": {"share": 1}}
    with pytest.raises(DataError, match="no row is left of b, so it can have no share"):
        mixture(tmp_path / "one", tokenizer, {"a": rows(3), "b": empty}, shares)


def test_pairs_can_be_mixed_too(tmp_path: Path, tokenizer: Path) -> None:
    def pairs(seed: int) -> list[Row]:
        return [
            {"prompt": r["prompt"], "chosen": "Yes!", "rejected": "No"} for r in rows(8, seed=seed)
        ]

    shares = {"a": {"share": 1}, "b": {"share": 0.5}}
    out = mixture(tmp_path, tokenizer, {"a": pairs(1), "b": pairs(2)}, shares, make_preferences)
    assert {name: len(kept) for name, kept in numbers(out).items()} == {"a": 8, "b": 4}
