"""Preparation of large sets: dropped rows, several processes, little memory, the card."""

import json
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from in_processes import prepare_few_rows
from mixed_rows import Row, mixture, numbers, rows
from samples import embedded_tokenizer, save_tokenizer, write_jsonl

from wit.builtin.tokenizer import CHAT_TEMPLATE
from wit.data.prepare import (
    HELD_OUT,
    TRAIN,
    make_instructions,
    make_preferences,
    read_card,
    read_table,
)
from wit.errors import DataError
from wit.recipes import InstructionsRecipe, PreferencesRecipe
from wit.roles import Role

# --- what is dropped before tokens are made ----------------------------------------------------


def test_near_duplicates_are_dropped_and_counted_after_exact_ones(
    tmp_path: Path, tokenizer: Path
) -> None:
    [row] = rows(1, num_words=60)
    nearly = {**row, "prompt": row["prompt"] + " and more"}
    sources = {"a": [row, row], "b": [nearly, *rows(3, seed=1, num_words=60)]}
    out = mixture(tmp_path / "near", tokenizer, sources, near_duplicates=0.8)
    assert read_card(out)["dropped"] == {"duplicate": 1, "near duplicate": 1}
    assert numbers(out) == {"a": {1}, "b": {2, 3, 4}}
    out = mixture(tmp_path / "exact", tokenizer, sources)
    assert read_card(out)["dropped"] == {"duplicate": 1}


@pytest.mark.parametrize("make", [make_instructions, make_preferences])
def test_rows_that_overlap_are_dropped_and_counted(
    tmp_path: Path, tokenizer: Path, make: Callable[..., None]
) -> None:
    """What is looked at is all of a row: system text and prompt with each of its answers."""
    row = {"prompt": "the prompt", "system": "the rules"}
    row |= (
        {"response": "the answer"}
        if make is make_instructions
        else {"chosen": "y", "rejected": "n"}
    )
    others = [{**row, "prompt": other["prompt"]} for other in rows(4)]
    file = write_jsonl(tmp_path / "rows.jsonl", [others[0], row, *others[1:]])
    kind = InstructionsRecipe if make is make_instructions else PreferencesRecipe
    seen: list[str] = []

    def overlaps(text: str) -> bool:
        seen.append(text)
        return "the prompt" in text

    recipe = kind(path=str(file), held_out_fraction=0)
    make(recipe, file, tokenizer, tmp_path, overlaps=overlaps)
    assert read_card(tmp_path)["dropped"] == {"overlaps a benchmark": 1}
    assert numbers(tmp_path) == {"": {1, 3, 4, 5}}
    answers = ["the answer"] if make is make_instructions else ["y", "n"]
    assert f"the rules\nthe prompt\n{answers[0]}" in seen
    assert seen[: len(answers)] == [f"the rules\n{others[0]['prompt']}\n{a}" for a in answers]


def test_only_the_last_response_counts_where_turns_are_last(
    tmp_path: Path, tokenizer: Path
) -> None:
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    file = write_jsonl(tmp_path / "rows.jsonl", [row])
    counts = []
    for turn in ("all", "last"):
        recipe = InstructionsRecipe(path=str(file), held_out_fraction=0, turns=turn)
        make_instructions(recipe, file, tokenizer, tmp_path)
        counts.append(read_card(tmp_path)["train_tokens_by_role"])
    assert counts[0]["stop"] == 2
    assert counts[1]["stop"] == 1
    assert counts[1]["response"] < counts[0]["response"]
    assert sum(counts[0].values()) == sum(counts[1].values())


def test_factors_are_stored_only_where_a_message_has_a_weight(
    tmp_path: Path, tokenizer: Path
) -> None:
    def row(text: str, **weight: float) -> Row:
        answer = {"role": "assistant", "content": "Yes.", **weight}
        return {"messages": [{"role": "user", "content": text}, answer]}

    file = write_jsonl(
        tmp_path / "rows.jsonl", [row("a"), row("b", weight=0.5), row("c", weight=1)]
    )
    recipe = InstructionsRecipe(path=str(file), held_out_fraction=0)
    make_instructions(recipe, file, tokenizer, tmp_path)
    plain, halved, weighted = read_table(tmp_path, TRAIN).to_pylist()
    assert plain["factors"] is None
    assert weighted["factors"] is None
    assert len(halved["factors"]) == len(halved["roles"])
    for role, factor in zip(halved["roles"], halved["factors"], strict=True):
        assert factor == (0.5 if role in (Role.RESPONSE, Role.STOP) else 1.0)


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", rows(5))
    recipe = InstructionsRecipe(path=str(file), held_out_fraction=0)

    def overlaps(_text: str) -> bool:
        write_jsonl(tmp_path / "new.jsonl", rows(7, seed=1)).replace(file)
        return False

    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(DataError, match=r"rows\.jsonl: was changed while it was read"):
        make_instructions(recipe, file, tokenizer, out, overlaps=overlaps)
    assert list(out.iterdir()) == []


# --- several processes, and little memory ------------------------------------------------------


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some are cut, some have no room, and there are more than fit in one batch."""
    longer = [row for n in range(1, 60) for row in rows(20, seed=n, num_words=n)]
    random.Random(0).shuffle(longer)
    return write_jsonl(tmp_path_factory.mktemp("many") / "rows.jsonl", longer)


def test_the_number_of_processes_changes_no_byte_even_of_a_stage_in_its_own_process(
    tmp_path: Path, tokenizer: Path, many_rows: Path
) -> None:
    prepare_few_rows(many_rows, tokenizer, tmp_path / "1", 1)
    with ProcessPoolExecutor(1, get_context("spawn")) as worker:
        worker.submit(prepare_few_rows, many_rows, tokenizer, tmp_path / "2", 2).result()
    for file in ("train.arrow", "held_out.arrow", "card.json"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()
    card = read_card(tmp_path / "1")
    assert card["truncated"] > 10
    assert card["dropped"]["prompt leaves no room for its response"] > 50


def test_an_error_in_the_second_pass_names_the_row_and_leaves_no_file(tmp_path: Path) -> None:
    base = embedded_tokenizer()
    base.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + CHAT_TEMPLATE
    )
    tokenizer = save_tokenizer(base, tmp_path / "tokenizer")
    file = write_jsonl(tmp_path / "rows.jsonl", [*rows(400), {**rows(401)[-1], "system": "Hi!"}])
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(DataError, match=r"rows\.jsonl: row 401: .*no system"):
        make_instructions(InstructionsRecipe(path=str(file)), file, tokenizer, out)
    assert list(out.iterdir()) == []


def test_rows_stand_in_batches_of_bounded_size_in_their_order(
    tmp_path: Path, tokenizer: Path, many_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wit.data.splits.TOKENS_AT_ONCE", 1000)
    recipe = InstructionsRecipe(path=str(many_rows), held_out_fraction=0.3, max_tokens=60)
    make_instructions(recipe, many_rows, tokenizer, tmp_path)
    assert len(read_table(tmp_path, TRAIN).to_batches()) > 3
    for split in (TRAIN, HELD_OUT):
        in_order = read_table(tmp_path, split)["row"].to_pylist()
        assert in_order == sorted(in_order)
        assert len(in_order) == read_card(tmp_path)["rows"][split]


# --- the card ----------------------------------------------------------------------------------


def test_the_card_counts_what_the_training_rows_hold(
    tmp_path: Path, tokenizer: Path, many_rows: Path
) -> None:
    recipe = InstructionsRecipe(path=str(many_rows), held_out_fraction=0.3, max_tokens=60)
    make_instructions(recipe, many_rows, tokenizer, tmp_path)
    card = read_card(tmp_path)
    prepared = read_table(tmp_path, TRAIN).to_pylist()
    lengths = sorted(len(row["roles"]) for row in prepared)
    assert card["lengths"]["row"]["p0"] == lengths[0]
    assert card["lengths"]["row"]["p50"] == lengths[(len(lengths) - 1) // 2]
    assert card["lengths"]["row"]["p100"] == lengths[-1]
    response = np.array(
        [sum(r in (Role.RESPONSE, Role.STOP) for r in row["roles"]) for row in prepared]
    )
    special = np.array([row["roles"].count(Role.SPECIAL) for row in prepared])
    prompt = np.array([len(row["roles"]) for row in prepared]) - response - special
    assert special.min() > 0
    assert card["generation_ratio"] == {
        "mean_of_rows": pytest.approx((response / prompt).mean(), abs=1e-4),
        "of_totals": pytest.approx(response.sum() / prompt.sum(), abs=1e-4),
    }
    assert card["lengths"]["prompt"]["p100"] == prompt.max()
    assert card["lengths"]["response"]["p0"] == response.min()
    assert card["boilerplate_share"] == 0
    assert sum(card["train_tokens_by_role"].values()) == sum(lengths)


def test_the_card_of_pairs_has_the_lengths_of_their_sides(tmp_path: Path, tokenizer: Path) -> None:
    pairs = [
        {"prompt": r["prompt"], "chosen": "a " * n, "rejected": "b"}
        for n, r in enumerate(rows(9), 1)
    ]
    file = write_jsonl(tmp_path / "rows.jsonl", pairs)
    make_preferences(
        PreferencesRecipe(path=str(file), held_out_fraction=0), file, tokenizer, tmp_path
    )
    table, card = read_table(tmp_path, TRAIN), read_card(tmp_path)
    for side in ("prompt", "chosen", "rejected"):
        lengths = sorted(map(len, table[f"{side}_ids"].to_pylist()))
        assert card["lengths"][side]["p0"] == lengths[0]
        assert card["lengths"][side]["p5"] == lengths[0]
        assert card["lengths"][side]["p25"] == lengths[2]
        assert card["lengths"][side]["p100"] == lengths[-1]
    assert "train_tokens_by_role" not in card


def test_boilerplate_changes_roles_and_no_id(tmp_path: Path, tokenizer: Path) -> None:
    """The same rows among others, with which they have nothing in common."""
    frame = "Answer the question below.\n"
    framed = [{**row, "prompt": frame + row["prompt"]} for row in rows(30, seed=1)]
    found = mixture(tmp_path / "found", tokenizer, {"a": framed})
    mixed = mixture(tmp_path / "mixed", tokenizer, {"a": [*framed, *rows(30, seed=2)]})
    ids = [read_table(out, TRAIN)["input_ids"].to_pylist()[:30] for out in (found, mixed)]
    roles = [read_table(out, TRAIN)["roles"].to_pylist()[:30] for out in (found, mixed)]
    assert ids[0] == ids[1]
    assert all(Role.BOILERPLATE in row for row in roles[0])
    assert not any(Role.BOILERPLATE in row for row in roles[1])
    assert json.loads((found / "card.json").read_text())["boilerplate"] == [frame]
