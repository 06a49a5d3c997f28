"""Rows as a person sees them."""

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from samples import embedded_tokenizer, needs_shared, save_tokenizer, stories_tokenizer, write_jsonl

from wit.config import InstructionsRecipe, PreferencesRecipe, Runtime, TokenizerRecipe
from wit.data.prepare import TRAIN, make_instructions, make_preferences, make_tokenizer, read_split
from wit.loading import load_study
from wit.plan import make_plan
from wit.preview import Prepared, prepared
from wit.roles import Role
from wit.show import STYLE, rows_as_json, show_rows
from wit.tokenizers import load_tokenizer
from wit.weights import TokenWeights

ROWS = [
    {"prompt": "Say 👩\u200d👧!", "response": "👩\u200d👧 [bold]yes[/bold]", "system": "Be brief."},
    {"prompt": "And now?", "response": "ends with \ufffd"},
    {"prompt": "And now?", "response": "ends with \ufffd"},
]
PAIRS = [
    {"prompt": "And now?", "chosen": "one", "rejected": "two"},
    {"prompt": "Then?", "chosen": "same", "rejected": "same"},
]
WEIGHTS = (
    TokenWeights(prompt=0, response=1),
    TokenWeights(prompt=0.25, response=1, system=0.125),
)


def prepare(folder: Path, tokenizer: Any, template: str, **knobs: Any) -> Prepared:
    base = save_tokenizer(tokenizer, folder / "base")
    folders = Prepared(*(folder / name for name in ("tokenizer", "instructions", "preferences")))
    for out in folders:
        out.mkdir()
    make_tokenizer(TokenizerRecipe(template=template), base, folders.tokenizer)
    rows = write_jsonl(folder / "rows.jsonl", ROWS)
    recipe = InstructionsRecipe(path=str(rows), held_out_fraction=0, **knobs)
    make_instructions(recipe, rows, folders.tokenizer, folders.instructions)
    pairs = write_jsonl(folder / "pairs.jsonl", PAIRS)
    make_preferences(
        PreferencesRecipe(path=str(pairs), held_out_fraction=0),
        pairs,
        folders.tokenizer,
        folders.preferences,
    )
    return folders


@pytest.fixture
def folders(tmp_path: Path) -> Prepared:
    return prepare(tmp_path, embedded_tokenizer(), "own")


def shown(folders: Prepared, num_rows: int) -> str:
    page = io.StringIO()
    console = Console(file=page, width=200, color_system="standard", force_terminal=True)
    show_rows(console, folders, WEIGHTS, num_rows)
    return page.getvalue()


def check_tokens_put_together_are_the_row(folders: Prepared) -> None:
    decode = load_tokenizer(folders.tokenizer).decode
    found = rows_as_json(folders, WEIGHTS, 9)
    rows = read_split(folders.instructions, TRAIN).to_list()
    for tokens, row in zip(found["rows"], rows, strict=True):
        assert [token["id"] for token in tokens] == row["input_ids"]
        assert [token["role"] for token in tokens] == [Role(r).name.lower() for r in row["roles"]]
        assert "".join(token["text"] for token in tokens) == decode(row["input_ids"])
    assert json.loads(json.dumps(found)) == found


def test_tokens_put_together_are_the_row(folders: Prepared) -> None:
    check_tokens_put_together_are_the_row(folders)


@pytest.mark.parametrize("max_tokens", range(36, 44))
def test_a_character_that_was_cut_in_half_is_shown_as_such(tmp_path: Path, max_tokens: int) -> None:
    folders = prepare(tmp_path, embedded_tokenizer(), "own", max_tokens=max_tokens)
    check_tokens_put_together_are_the_row(folders)


@needs_shared
def test_tokens_of_a_real_llama_put_together_are_the_row(tmp_path: Path) -> None:
    check_tokens_put_together_are_the_row(prepare(tmp_path, stories_tokenizer("tulu"), "tulu"))


def test_more_rows_than_there_are_show_all(folders: Prepared) -> None:
    assert len(rows_as_json(folders, WEIGHTS, 99)["rows"]) == 2
    assert len(rows_as_json(folders, WEIGHTS, 0)["rows"]) == 0
    assert shown(folders, 99).count(" tokens\x1b") >= 2


def test_weights_of_every_role_are_in_the_json(folders: Prepared) -> None:
    found = rows_as_json(folders, WEIGHTS, 1)["weights"]
    assert set(found) == {role.name.lower() for role in Role}
    assert found["response"] == {"p0-r1": 1, "p0.25-r1-system0.125": 1}
    assert found["template"] == {"p0-r1": 0, "p0.25-r1-system0.125": 0.25}
    assert found["system"] == {"p0-r1": 0, "p0.25-r1-system0.125": 0.125}


def test_every_role_has_a_colour_of_its_own() -> None:
    assert set(STYLE) == set(Role)
    assert len(set(STYLE.values())) == len(Role)


def test_rows_are_shown_as_they_are_with_what_was_dropped_and_all_weights(
    folders: Prepared,
) -> None:
    page = shown(folders, 2)
    assert "dropped 1: duplicate" in page
    assert "instructions: 3 rows in: 2 train, 0 held_out" in page
    assert "preferences: 2 rows in: 1 train, 0 held_out" in page
    assert "dropped 1: chosen equals rejected" in page
    for text in ("p0-r1", "p0.25-r1-system0.125", "0.125", "0.25"):
        assert text in page
    plain = io.StringIO()
    show_rows(Console(file=plain, width=200), folders, WEIGHTS, 1)
    assert "[bold]yes[/bold]" in plain.getvalue()
    assert "Be brief." in plain.getvalue()
    assert "👩\u200d👧!" in plain.getvalue()


def test_a_set_that_is_not_made_yet_is_prepared_aside_and_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    file = tmp_path / "study.yaml"
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    file.write_text(
        "name: x\nbase: {path: builtin}\npreferences: {path: builtin}\n"
        "instructions: {path: rows.jsonl, held_out_fraction: 0}\nweights: [instruction-tuning]\n"
        "benchmarks: [{name: wit_cloze, role: select}]\n"
    )
    plan = make_plan(load_study(file), Runtime(artifact_root=tmp_path / "root"))
    with prepared(plan) as folders:
        assert len(rows_as_json(folders, WEIGHTS, 5)["rows"]) == 2
    assert not (tmp_path / "root").exists()
    assert list((tmp_path / "temporary").iterdir()) == []
