"""Rows as a person sees them."""

import io
import json
import tempfile
from pathlib import Path

import pytest
from rich.console import Console
from samples import embedded_tokenizer, needs_shared, stories_tokenizer, write_jsonl
from shown_rows import ROWS, WEIGHTS, lines_of, prepare

from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.loading import load_study
from wit.plan import make_plan
from wit.preview import Prepared, prepared
from wit.roles import Role
from wit.show import STYLE, rows_as_json, show_rows
from wit.tokenizers import load_tokenizer


@pytest.fixture
def folders(tmp_path: Path) -> Prepared:
    return prepare(tmp_path, embedded_tokenizer(), "own")


def shown(folders: Prepared, num_rows: int) -> str:
    page = io.StringIO()
    console = Console(file=page, width=200, color_system="standard", force_terminal=True)
    show_rows(console, folders, WEIGHTS, num_rows)
    return page.getvalue()


def assert_tokens_put_together_are_the_row(folders: Prepared) -> None:
    decode = load_tokenizer(folders.tokenizer).decode
    found = rows_as_json(folders, WEIGHTS, 9)
    rows = read_split(folders.instructions, TRAIN).to_list()
    for tokens, row in zip(found["rows"], rows, strict=True):
        assert [token["id"] for token in tokens] == row["input_ids"]
        assert [token["role"] for token in tokens] == [Role(r).name.lower() for r in row["roles"]]
        assert "".join(token["text"] for token in tokens) == decode(row["input_ids"])
    assert json.loads(json.dumps(found)) == found


def test_tokens_put_together_are_the_row(folders: Prepared) -> None:
    assert_tokens_put_together_are_the_row(folders)


@pytest.mark.parametrize("max_tokens", range(36, 44))
def test_a_character_that_was_cut_in_half_is_shown_as_such(tmp_path: Path, max_tokens: int) -> None:
    folders = prepare(tmp_path, embedded_tokenizer(), "own", max_tokens=max_tokens)
    assert_tokens_put_together_are_the_row(folders)


@needs_shared
def test_tokens_of_a_real_llama_put_together_are_the_row(tmp_path: Path) -> None:
    assert_tokens_put_together_are_the_row(prepare(tmp_path, stories_tokenizer("tulu"), "tulu"))


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


def block(lines: list[str], head: str) -> list[str]:
    """From the line that begins so to the next empty one, without the first."""
    start = next(number for number, line in enumerate(lines) if line.startswith(head))
    return lines[start + 1 : lines.index("", start)]


def test_without_colours_every_stretch_has_the_name_of_its_role(folders: Prepared) -> None:
    assert block(lines_of(folders), "row 1, ") == [
        "special  | <|bos|>",
        "template | <|system|>\\n",
        "system   | Be brief.",
        "template | <|end|>\\n",
        "         | <|user|>\\n",
        "prompt   | Say 👩\u200d👧!",
        "template | <|end|>\\n",
        "         | <|assistant|>\\n",
        "response | 👩\u200d👧 [bold]yes[/bold]",
        "stop     | <|end|>",
    ]


def test_names_instead_of_colours_can_be_asked_for(folders: Prepared) -> None:
    page = io.StringIO()
    console = Console(file=page, width=100, color_system="standard", force_terminal=True)
    show_rows(console, folders, WEIGHTS, 1, is_plain=True)
    assert "\nresponse | 👩" in page.getvalue()
    assert "response |" not in shown(folders, 1)
    assert "response |" in "\n".join(lines_of(folders, force_terminal=True, no_color=True))


def test_pairs_are_shown_with_both_answers(folders: Prepared) -> None:
    assert block(lines_of(folders), "pair 1, ") == [
        "prompt   | <|bos|><|user|>\\n",
        "         | And now?<|end|>\\n",
        "         | <|assistant|>\\n",
        "chosen   | one<|end|>",
        "rejected | two<|end|>",
    ]
    found = rows_as_json(folders, WEIGHTS, 9)
    prompt = "<|bos|><|user|>\nAnd now?<|end|>\n<|assistant|>\n"
    [pair] = found["pairs"]
    assert pair == {
        "row": 1, "source": "", "prompt": prompt, "chosen": "one<|end|>", "rejected": "two<|end|>"
    }  # fmt: skip


def test_single_responses_are_shown_as_good_or_bad_and_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "And now?", "completion": text, "label": label}
        for text, label in [("one", True), ("two", False), ("three", True), ("four", None)]
    ]
    folders = prepare(tmp_path, embedded_tokenizer(), "own", preferences=rows)
    lines = lines_of(folders)
    for name, answer in [("good response 1, ", "one"), ("bad response 2, ", "two")]:
        assert block(lines, name)[-1] == f"response | {answer}<|end|>"
    assert "  single responses to train on: 2 desirable, 1 undesirable" in lines
    assert "  dropped 1: label is neither true nor false" in lines
    found = rows_as_json(folders, WEIGHTS, 9)
    assert found["pairs"] == []
    assert [row["is_desirable"] for row in found["unpaired"]] == [True, False, True]
    assert found["unpaired"][1]["response"] == "two<|end|>"
    assert found["preferences"]["labels"] == {"desirable": 2, "undesirable": 1}


def test_a_long_text_stays_beside_its_name(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(60))
    rows = {"long": [{"prompt": text, "response": "x" * 300}]}
    lines = lines_of(prepare(tmp_path, embedded_tokenizer(), "own", rows, max_tokens=2000))
    start = next(n for n, line in enumerate(lines) if line.startswith("prompt   | word0"))
    beside = [line.partition("| ")[2] for line in lines[start:]]
    end = next(n for n, line in enumerate(lines[start:]) if line.startswith("template"))
    assert " ".join(beside[:end]) == text
    assert [len(line) for line in beside if set(line) == {"x"}] == [89, 89, 89, 33]


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
