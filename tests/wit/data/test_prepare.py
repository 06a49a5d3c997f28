"""The data stages: splits, what is dropped and counted, and what the files hold."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from samples import (
    RASCHKA,
    SHARED,
    STORIES,
    embedded_tokenizer,
    merging_tokenizer,
    needs_shared,
    save_tokenizer,
    write_jsonl,
)
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from wit.artifacts import Artifact
from wit.builtin.tokenizer import CHAT_TEMPLATE
from wit.data.prepare import (
    CARD,
    HELD_OUT,
    TRAIN,
    make_instructions,
    make_preferences,
    make_tokenizer,
    read_split,
)
from wit.data.sources import read_file
from wit.data.splits import SPLITS, split_file
from wit.data.tokenize import Tokens, decode_runs
from wit.errors import BaseModelError, DataError, InputError
from wit.recipes import InstructionsRecipe, PreferencesRecipe, TokenizerRecipe
from wit.roles import Role


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = save_tokenizer(embedded_tokenizer(), tmp_path_factory.mktemp("base"))
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(TokenizerRecipe(), base, folder)
    return folder


class Prepared:
    """A prepared folder, read back."""

    def __init__(self, folder: Path, tokenizer: Path) -> None:
        self.folder = folder
        self.card = json.loads((folder / CARD).read_text())
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        self.rows: dict[str, list[Any]] = {
            split: read_split(folder, split).to_list() for split in (TRAIN, HELD_OUT)
        }

    def text(self, row: dict[str, Any], role: Role) -> str:
        return self.texts(row, role)

    def texts(self, row: dict[str, Any], *roles: Role) -> str:
        factors = row["factors"] or [1.0] * len(row["roles"])
        runs = decode_runs(self.tokenizer, Tokens(row["input_ids"], row["roles"], factors))
        return "".join(run.text for run in runs if run.role in roles)

    def prompt(self, row: dict[str, Any]) -> str:
        """With what it shares with all others."""
        return self.texts(row, Role.BOILERPLATE, Role.PROMPT)

    def prompts(self, split: str) -> set[str]:
        return {self.prompt(row) for row in self.rows[split]}

    def side_of(self, column: str = "row") -> dict[int, str]:
        return {row[column]: split for split, rows in self.rows.items() for row in rows}


def prepare(folder: Path, tokenizer: Path, rows: list[Any], **knobs: Any) -> Prepared:
    """Instructions if the rows are such, else preferences."""
    source = write_jsonl(folder / "source" / "rows.jsonl", rows)
    kind, make = (
        (PreferencesRecipe, make_preferences)
        if "chosen" in rows[0]
        else (InstructionsRecipe, make_instructions)
    )
    out = folder / "out"
    out.mkdir(parents=True)
    make(kind(path=str(source), **knobs), source, tokenizer, out)  # pyright: ignore
    return Prepared(out, tokenizer)


def asks(*numbers: int) -> list[dict[str, str]]:
    return [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in numbers]


def pairs(*numbers: int) -> list[dict[str, str]]:
    return [
        {"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No."} for n in numbers
    ]


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
        (
            [{"prompt": "a", "chosen": "x", "rejected": "x"}],
            {},
            "of 1: 1 x chosen equals rejected",
        ),
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


# --- the tokenizer ------------------------------------------------------------------------------


def test_generation_ends_where_responses_ended_in_training(tmp_path: Path) -> None:
    tokenizer = embedded_tokenizer()
    tokenizer.eos_token = "<|eos|>"  # as many a base calls its end of text
    out = tmp_path / "out"
    out.mkdir()
    make_tokenizer(TokenizerRecipe(), save_tokenizer(tokenizer, tmp_path / "base"), out)
    made = AutoTokenizer.from_pretrained(out)
    assert made.eos_token == "<|end|>"
    assert made.pad_token == "<|pad|>"
    assert made.chat_template == CHAT_TEMPLATE
    assert json.loads((out / CARD).read_text())["stop_token"] == "<|end|>"


@needs_shared
@pytest.mark.parametrize("template", ["alpaca", "tulu"])
def test_a_real_base_without_template_and_padding_gets_both(tmp_path: Path, template: str) -> None:
    make_tokenizer(TokenizerRecipe(template=template), STORIES, tmp_path)
    made = AutoTokenizer.from_pretrained(tmp_path)
    assert made.eos_token == "</s>"
    assert made.pad_token is not None
    assert "{%" in made.chat_template


@needs_shared
def test_a_base_without_a_template_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"set base\.template to alpaca, .*zephyr or a"):
        make_tokenizer(TokenizerRecipe(), STORIES, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_base_without_a_stop_token_is_refused(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    base = save_tokenizer(merging_tokenizer(template=template), tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = None
    save_tokenizer(tokenizer, base)
    for name, says in (("tulu", "'eos_token' is undefined"), ("own", "which is no special token")):
        with pytest.raises(BaseModelError, match=says) as caught:
            make_tokenizer(TokenizerRecipe(template=name), base, tmp_path / name)
        assert str(base) in str(caught.value)


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
