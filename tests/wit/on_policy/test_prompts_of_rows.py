"""The prompt of a prepared row is found again where the row came from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import embedded_tokenizer, save_tokenizer, write_jsonl

from wit.data import sources
from wit.data.prepare import TRAIN, make_preferences, make_tokenizer, read_split
from wit.data.schema import Messages
from wit.errors import DataError
from wit.generation.encoding import PromptEncoder
from wit.on_policy.prompts import prompts_of_rows
from wit.recipes import PreferencesRecipe, SourceRecipe, TokenizerRecipe
from wit.tokenizers import load_tokenizer

Row = dict[str, Any]


def said(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def pair(number: int, **changes: Any) -> Row:
    return {
        "prompt": f"What is {number}?",
        "chosen": f"It is {number}.",
        "rejected": "No.",
    } | changes


SYSTEM_AND_TURNS = [said("system", "Be brief."), said("user", "q"), said("assistant", "Why?")]
SHARED = [said("user", "What is blue?"), said("assistant", "Why?"), said("user", "So.")]
ROWS: list[Row] = [
    *(pair(number) for number in range(1, 9)),
    pair(9, prompt=[*SYSTEM_AND_TURNS, said("user", "So.")]),
    {  # the prompt is what both begin with
        "chosen": [*SHARED, said("assistant", "It is.")],
        "rejected": [*SHARED, said("assistant", "It is not.")],
        "prompt": SHARED[:1],
    },
    pair(11, chosen="It is 12.", rejected="It is 12."),  # says nothing
    pair(12, chosen=None),
]
SCORED: list[Row] = [
    {"instruction": f"Add {n}", "input": f"{n} and 1", "responses": ["a", "b"], "scores": [n, 2]}
    for n in range(5)
]
LABELLED: list[Row] = [
    {"prompt": f"Is it {n}?", "completion": "Yes.", "label": n % 2 == 0} for n in range(12)
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    base = save_tokenizer(embedded_tokenizer(), tmp_path_factory.mktemp("base"))
    make_tokenizer(TokenizerRecipe(), base, folder)
    return folder


def texts(prompts: list[Messages]) -> list[list[tuple[str, str]]]:
    return [[(turn.role, turn.text) for turn in prompt] for prompt in prompts]


@pytest.mark.parametrize(
    ("sets", "knobs"),
    [
        ({"": ROWS}, {}),
        ({"": ROWS}, {"max_rows": 4, "near_duplicates": 0.9}),
        ({"": LABELLED}, {}),
        ({"b": ROWS, "a": SCORED}, {"min_margin": 1.5}),
    ],
)
def test_the_prompt_of_every_prepared_row_has_the_tokens_that_the_row_has(
    sets: dict[str, list[Row]], knobs: dict[str, Any], tmp_path: Path, tokenizer: Path
) -> None:
    files = {name: write_jsonl(tmp_path / f"rows{name}.jsonl", rows) for name, rows in sets.items()}
    if list(sets) == [""]:
        recipe = PreferencesRecipe(path="x.jsonl", held_out_fraction=0.2, **knobs)
    else:
        named = {name: SourceRecipe(path=str(file)) for name, file in files.items()}
        recipe = PreferencesRecipe(sources=named, held_out_fraction=0.2, **knobs)
    out = tmp_path / "out"
    out.mkdir()
    make_preferences(recipe, files, tokenizer, out)
    rows = read_split(out, TRAIN).to_list()
    assert {row["source"] for row in rows} == {*sets}
    backwards = [(row["source"], row["row"]) for row in rows][::-1]
    prompts = prompts_of_rows(recipe, files, backwards)
    encoder = PromptEncoder(load_tokenizer(tokenizer))
    assert [encoder.ids(prompt) for prompt in prompts] == [row["prompt_ids"] for row in rows[::-1]]


def test_prompts_come_in_the_order_asked_for_and_as_often(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    recipe = PreferencesRecipe(path="rows.jsonl")
    numbers = [10, 2, 9, 2]
    found = texts(prompts_of_rows(recipe, file, [("", number) for number in numbers]))
    two = [("user", "What is 2?")]
    nine = [("system", "Be brief."), ("user", "q"), ("assistant", "Why?"), ("user", "So.")]
    ten = [("user", "What is blue?"), ("assistant", "Why?"), ("user", "So.")]
    assert found == [ten, two, nine, two]
    assert prompts_of_rows(recipe, file, []) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("", 2), ("", 13)], "row 13 was prepared and is not there any more: there are 12 rows"),
        ([("", 0)], "row 0 was prepared and is not there"),
        ([("", 11)], "row 11 was prepared and says nothing any more: chosen equals rejected"),
        ([("", 12)], "row 12 was prepared and says nothing any more: row 12: 'chosen' is missing"),
        ([("web", 3)], "there is no source 'web', from which row 3 was prepared; allowed: ''"),
    ],
)
def test_a_row_that_has_gone_or_says_nothing_is_an_error_that_names_it(
    rows: list[tuple[str, int]], said: str, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(DataError, match=f"^{file}: {said}.*[Pp]repare the preferences again"):
        prompts_of_rows(PreferencesRecipe(path="rows.jsonl"), file, rows)


def test_a_pair_whose_scores_are_too_close_now_says_nothing(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", SCORED)  # row 4 differs by 1
    recipe = PreferencesRecipe(path="rows.jsonl")
    assert texts(prompts_of_rows(recipe, file, [("", 4)])) == [[("user", "Add 3\n\n3 and 1")]]
    wider = recipe.model_copy(update={"min_margin": 1.5})
    with pytest.raises(DataError, match=r"row 4 was prepared and says nothing.*differ by 1, less"):
        prompts_of_rows(wider, file, [("", 4)])


def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    read = sources.READERS[".jsonl"]

    def changing(path: Path) -> Iterator[Any]:
        yield from read(path)
        write_jsonl(path, [*ROWS, pair(13)])

    monkeypatch.setitem(sources.READERS, ".jsonl", changing)
    with pytest.raises(DataError, match="was changed while it was read"):
        prompts_of_rows(PreferencesRecipe(path="rows.jsonl"), file, [("", 1)])


class Counted(dict[str, Any]):
    """A row that knows how many of its kind there are."""

    alive = 0
    most = 0

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1


def test_only_the_rows_asked_for_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", [pair(number) for number in range(1, 300)])
    read = sources.READERS[".jsonl"]
    monkeypatch.setitem(sources.READERS, ".jsonl", lambda path: map(Counted, read(path)))
    wanted = [("", number) for number in (1, 150, 299)]
    found = texts(prompts_of_rows(PreferencesRecipe(path="rows.jsonl"), file, wanted))
    assert found == [[("user", f"What is {number}?")] for _, number in wanted]
    assert Counted.most < 10
