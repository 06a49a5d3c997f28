"""The data stages: splits, and what is dropped and counted."""

import random
from pathlib import Path
from typing import Any

import pytest
from prepared import asks, pairs, prepare
from samples import save_tokenizer, write_jsonl
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from wit.artifacts import Artifact
from wit.data.prepare import HELD_OUT, TRAIN, make_instructions, make_tokenizer
from wit.errors import DataError, InputError
from wit.recipes import InstructionsRecipe, TokenizerRecipe

# --- splits ------------------------------------------------------------------------------------


def test_a_row_never_moves_when_others_are_added(tmp_path: Path, tokenizer: Path) -> None:
    few = prepare(tmp_path / "few", tokenizer, asks(*range(40)), held_out_fraction=0.4)
    rows = asks(*range(200))
    random.Random(0).shuffle(rows)
    many = prepare(tmp_path / "many", tokenizer, rows, held_out_fraction=0.4)
    assert few.prompts(HELD_OUT) < many.prompts(HELD_OUT)
    assert few.prompts(TRAIN) < many.prompts(TRAIN)
    assert not many.prompts(TRAIN) & many.prompts(HELD_OUT)
    assert len(many.rows[HELD_OUT]) == pytest.approx(80, abs=20)


def test_a_larger_fraction_only_adds_to_what_is_held_out(tmp_path: Path, tokenizer: Path) -> None:
    held_out = [
        prepare(
            tmp_path / f"{fraction}", tokenizer, asks(*range(60)), held_out_fraction=fraction
        ).prompts(HELD_OUT)
        for fraction in (0.0, 0.2, 0.5, 0.9)
    ]
    assert held_out[0] == set()
    assert held_out[0] < held_out[1] < held_out[2] < held_out[3]


def test_one_prompt_lands_on_one_side_in_instructions_and_in_preferences(
    tmp_path: Path, tokenizer: Path
) -> None:
    numbers = range(50)
    instructions = prepare(
        tmp_path / "instructions", tokenizer, asks(*numbers), held_out_fraction=0.5
    )
    preferences = prepare(
        tmp_path / "preferences", tokenizer, pairs(*numbers), held_out_fraction=0.5
    )
    assert instructions.side_of() == preferences.side_of()
    assert set(instructions.side_of().values()) == {TRAIN, HELD_OUT}


def test_answers_to_one_prompt_stay_together(tmp_path: Path, tokenizer: Path) -> None:
    rows = [{"prompt": f"p{n}", "response": f"r{k}"} for n in range(20) for k in range(3)]
    prepared = prepare(tmp_path, tokenizer, rows, held_out_fraction=0.5)
    assert len(prepared.side_of()) == 60
    assert not prepared.prompts(TRAIN) & prepared.prompts(HELD_OUT)


def test_max_rows_chooses_by_content_not_by_place(tmp_path: Path, tokenizer: Path) -> None:
    def kept(name: str, rows: list[Any], max_rows: int) -> set[str]:
        found = prepare(tmp_path / name, tokenizer, rows, held_out_fraction=0.3, max_rows=max_rows)
        assert sum(found.card["rows"].values()) == max_rows
        assert found.card["dropped"] == {"over max_rows": len(rows) - max_rows}
        return found.prompts(TRAIN) | found.prompts(HELD_OUT)

    rows = asks(*range(50))
    first = kept("in order", rows, 20)
    assert kept("backwards", rows[::-1], 20) == first
    assert kept("fewer", rows, 10) < first
    # More rows push some out, and bring back none of those that were left out.
    left_out = {row["prompt"] for row in rows} - first
    assert not kept("more rows", asks(*range(80)), 20) & left_out


def test_max_rows_above_what_there_is_drops_nothing(tmp_path: Path, tokenizer: Path) -> None:
    assert prepare(tmp_path, tokenizer, asks(1, 2), max_rows=5).card["dropped"] == {}


# --- dropped and counted -----------------------------------------------------------------------


def test_duplicates_are_dropped_and_counted(tmp_path: Path, tokenizer: Path) -> None:
    rows = [*asks(1, 2, 1, 3, 1), {"prompt": "What is 1?", "response": "Another answer."}]
    prepared = prepare(tmp_path, tokenizer, rows, held_out_fraction=0)
    assert prepared.card["dropped"] == {"duplicate": 2}
    assert [row["row"] for row in prepared.rows[TRAIN]] == [1, 2, 4, 6]


def test_every_lost_instruction_is_counted_with_its_reason(tmp_path: Path, tokenizer: Path) -> None:
    rows = [
        *asks(1, 1),
        {"prompt": "empty", "response": " \n"},
        {"prompt": "long " * 200, "response": "short"},
        {"prompt": "short", "response": "long " * 200},
    ]
    prepared = prepare(tmp_path, tokenizer, rows, held_out_fraction=0, max_tokens=64)
    card = prepared.card
    assert card["dropped"] == {
        "duplicate": 1,
        "empty response": 1,
        "prompt leaves no room for its response": 1,
    }
    assert card["rows_in"] == 5
    assert card["rows"] == {"train": 2, "held_out": 0}
    assert card["truncated"] == 1


def test_every_lost_pair_is_counted_with_its_reason(tmp_path: Path, tokenizer: Path) -> None:
    rows = [
        *pairs(1, 1),
        {"prompt": "a", "chosen": "same ", "rejected": " same"},
        {"prompt": "b", "chosen": "\t", "rejected": "x"},
        {"prompt": "c", "chosen": "x", "rejected": ""},
        {"prompt": "long " * 200, "chosen": "x", "rejected": "y"},
        {"prompt": "d", "chosen": "long " * 200 + "x", "rejected": "long " * 200 + "y"},
        {"prompt": "e", "chosen": "long " * 200, "rejected": "y"},
    ]
    card = prepare(tmp_path, tokenizer, rows, held_out_fraction=0, max_tokens=64).card
    assert card["dropped"] == {
        "duplicate": 1,
        "chosen equals rejected": 1,
        "empty answer": 2,
        "prompt leaves no room for its answers": 1,
        "chosen equals rejected after truncation": 1,
    }
    assert card["rows_in"] == len(rows)
    assert card["rows"]["train"] == 2
    assert card["truncated"] == 1  # of those that are left


def test_a_text_that_no_tokens_spell_is_dropped_and_counted(tmp_path: Path) -> None:
    tokens = {"<unk>": 0, "<end>": 1, "say": 2, "a": 3, "b": 4}
    backend = Backend(models.WordLevel(tokens, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        eos_token="<end>",
        chat_template="{% for m in messages %}{{ m['content'] }}"
        "{{ '<end>' if m['role'] == 'assistant' }}{% endfor %}",
    )
    base = save_tokenizer(words, tmp_path / "base")
    out = tmp_path / "tokenizer"
    out.mkdir()
    make_tokenizer(TokenizerRecipe(), base, out)
    good, bad = {"prompt": "say", "response": "a"}, {"prompt": "say", "response": "ä"}
    prepared = prepare(tmp_path / "some", out, [good, bad], held_out_fraction=0)
    assert prepared.card["dropped"] == {"no tokens spell its text": 1}
    assert [row["row"] for row in prepared.rows[TRAIN]] == [1]
    with pytest.raises(DataError, match=r"of 1: 1 x no tokens spell its text \(row 1: role resp"):
        prepare(tmp_path / "none", out, [bad])


@pytest.mark.parametrize(
    ("rows", "knobs", "says"),
    [
        ([{"prompt": "a", "response": ""}] * 2, {}, "1 x duplicate, 1 x empty response"),
        (asks(1, 2), {"max_tokens": 4}, "2 x prompt leaves no room for its response"),
        ([{"prompt": "a", "chosen": "x", "rejected": "x"}], {}, "of 1: 1 x chosen equals rejected"),
    ],
)
def test_a_set_without_a_training_row_is_refused_with_the_reasons(
    tmp_path: Path, tokenizer: Path, rows: list[Any], knobs: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match="no training row is left of") as caught:
        prepare(tmp_path / "x", tokenizer, rows, held_out_fraction=0, **knobs)
    assert says in str(caught.value)
    assert "rows.jsonl" in str(caught.value)
    assert list((tmp_path / "x" / "out").iterdir()) == []


def test_a_set_that_is_all_held_out_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    with pytest.raises(DataError, match="of 1: 1 x held out"):
        prepare(tmp_path, tokenizer, asks(1), held_out_fraction=0.999999)


@pytest.mark.parametrize(
    "wrong",
    [{"prompt": "a"}, {"prompt": "a", "response": 3}, {"prompt": "a", "response": "\ud83d"}],
)
def test_a_wrong_row_leaves_nothing_half_written(
    tmp_path: Path, tokenizer: Path, wrong: dict[str, Any]
) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [*asks(*range(30)), wrong])
    recipe = InstructionsRecipe(path=str(source))
    artifact = Artifact(root=tmp_path / "root", recipe=recipe, parents={})

    def attempt() -> None:
        with artifact.lock(), artifact.writing() as out:
            make_instructions(recipe, source, tokenizer, out)

    with pytest.raises(InputError, match=r"rows\.jsonl: row 31: 'response' "):
        attempt()
    assert not artifact.exists()
    assert list(artifact.scratch.iterdir()) == []
