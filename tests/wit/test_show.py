"""Rows as a person sees them."""

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text
from samples import embedded_tokenizer, needs_shared, save_tokenizer, stories_tokenizer, write_jsonl

from wit.config import Runtime
from wit.data.card import read_card
from wit.data.prepare import TRAIN, make_instructions, make_preferences, make_tokenizer, read_split
from wit.loading import load_study
from wit.plan import make_plan
from wit.preview import Prepared, prepared
from wit.recipes import InstructionsRecipe, PreferencesRecipe, TokenizerRecipe
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


def prepare(
    folder: Path,
    tokenizer: Any,
    template: str,
    sources: dict[str, list[Any]] | None = None,
    **knobs: Any,
) -> Prepared:
    """Sets of these rows, or of a mixture with such rows."""
    base = save_tokenizer(tokenizer, folder / "base")
    folders = Prepared(*(folder / name for name in ("tokenizer", "instructions", "preferences")))
    for out in folders:
        out.mkdir()
    make_tokenizer(TokenizerRecipe(template=template), base, folders.tokenizer)
    named = sources or {"": ROWS}
    files = {name: write_jsonl(folder / f"{name}rows.jsonl", rows) for name, rows in named.items()}
    places: Any = {name: {"path": str(file)} for name, file in files.items()}
    where = {"sources": places} if sources else places[""]
    recipe = InstructionsRecipe(held_out_fraction=0, **where, **knobs)
    make_instructions(recipe, files, folders.tokenizer, folders.instructions)
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


def lines_of(
    folders: Prepared, weights: Any = WEIGHTS, num_rows: int = 9, **more: Any
) -> list[str]:
    """What a hundred columns without colours show."""
    page = io.StringIO()
    show_rows(Console(file=page, width=100, **more), folders, weights, num_rows)
    lines = [Text.from_ansi(line) for line in page.getvalue().splitlines()]
    assert max(line.cell_len for line in lines) <= 100
    return [line.plain.rstrip() for line in lines]


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


def test_a_long_text_stays_beside_its_name(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(60))
    rows = {"long": [{"prompt": text, "response": "x" * 300}]}
    lines = lines_of(prepare(tmp_path, embedded_tokenizer(), "own", rows, max_tokens=2000))
    start = next(n for n, line in enumerate(lines) if line.startswith("prompt   | word0"))
    beside = [line.partition("| ")[2] for line in lines[start:]]
    end = next(n for n, line in enumerate(lines[start:]) if line.startswith("template"))
    assert " ".join(beside[:end]) == text
    assert [len(line) for line in beside if set(line) == {"x"}] == [89, 89, 89, 33]


MIXTURE = {
    "chat": [
        {
            "messages": [
                {"role": "user", "content": f"Say {number}."},
                {"role": "assistant", "content": "No.", "weight": 0.25},
            ]
        }
        for number in range(5)
    ],
    "math": [
        {"prompt": f"Work it out with care: {number} + {number}", "response": f"{2 * number}"}
        for number in range(25)
    ],
}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("mixture"), embedded_tokenizer(), "alpaca", MIXTURE)


OWN_TABLE: Any = TokenWeights.model_validate(
    {"prompt": 0, "response": 1, "sources": {"math": {"prompt": 0.5, "response": 2}}}
)


def test_rows_of_a_mixture_come_from_every_source(mixture: Prepared) -> None:
    heads = [line for line in lines_of(mixture, num_rows=3) if line.startswith("row ")]
    assert [head.partition(",")[0] for head in heads] == [
        "row 1 of chat", "row 1 of math", "row 2 of chat"
    ]  # fmt: skip
    origins = rows_as_json(mixture, (OWN_TABLE,), 2)["origins"]
    assert origins == [{"row": 1, "source": "chat"}, {"row": 1, "source": "math"}]
    assert len(rows_as_json(mixture, (OWN_TABLE,), 99)["rows"]) == 30


def test_factors_of_messages_are_shown(mixture: Prepared) -> None:
    assert "response x0.25 | No." in lines_of(mixture, num_rows=1)
    [tokens] = rows_as_json(mixture, WEIGHTS, 1)["rows"]
    factors = {token["role"]: token["factor"] for token in tokens}
    assert (factors["response"], factors["stop"], factors["prompt"]) == (0.25, 0.25, 1)
    page = io.StringIO()
    console = Console(file=page, width=100, color_system="standard", force_terminal=True)
    show_rows(console, mixture, WEIGHTS, 1)
    assert "[x0.25]" in page.getvalue()


def test_weights_of_sources_stand_below_those_of_the_cell(mixture: Prepared) -> None:
    lines = lines_of(mixture, (OWN_TABLE, TokenWeights(prompt=1, response=1)))
    table = [line.split() for line in lines]
    [head] = [words for words in table if words[:2] == ["special", "template"]]
    assert head[2:] == ["boilerplate", "prompt", "response", "stop"]
    [name] = [n for n, words in enumerate(table) if words[:1] == ["p0-r1-math(p0.5-r2)"]]
    assert table[name][1:] == ["0", "0", "0", "0", "1", "1"]
    assert table[name + 1] == ["in", "rows", "of", "math", "0", "0.5", "0.5", "0.5", "2", "2"]
    found = rows_as_json(mixture, (OWN_TABLE,), 0)
    assert found["weights_by_source"]["math"]["response"] == {str(OWN_TABLE): 2}
    assert found["weights"]["response"] == {str(OWN_TABLE): 1}


def test_the_card_is_shown_with_boilerplate_lengths_and_sources(mixture: Prepared) -> None:
    lines = lines_of(mixture)
    card = read_card(mixture.instructions)
    assert "    'Work it out with care: '" in lines
    share = f"{card['boilerplate_share']:.1%}"
    assert f"  boilerplate: {share} of the prompt tokens: 1 text that nearly all rows hold" in lines
    median = str(card["lengths"]["row"]["p50"])
    words = [line.split() for line in lines]
    assert [line[4] for line in words if line[:1] == ["row"] and len(line) == 8] == [median]
    sources = [line for line in words if line[:2] in (["chat", "5"], ["math", "25"])]
    assert [line[:6] for line in sources] == [
        ["chat", "5", "0", "5", "0", "0"],
        ["math", "25", "0", "25", "0", "0"],
    ]


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
