"""What the version of a data stage stands for: the files that it leaves, and their columns.

A reader of today takes whatever has the version for what is written today; so what was prepared
before a change must not have it.
"""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from prepared import prepare

from wit.builtin import BASE_DIR, DATA_DIR
from wit.data.prepare import make_instructions, make_preferences, make_tokenizer
from wit.data.splits import HELD_OUT, TRAIN, split_file
from wit.recipes import DataRecipe, InstructionsRecipe, PreferencesRecipe, TokenizerRecipe

Columns = dict[str, str] | None  # of a file of Arrow, by name
INSTRUCTIONS = {
    "input_ids": "list<item: int32>",
    "roles": "list<item: int8>",
    "row": "int64",
    "source": "string",
    "factors": "list<item: float>",
}
PREFERENCES = {
    "prompt_ids": "list<item: int32>",
    "chosen_ids": "list<item: int32>",
    "rejected_ids": "list<item: int32>",
    "row": "int64",
    "source": "string",
}
LEFT_BY: dict[str, dict[str, Columns]] = {
    "instructions@3": {
        "card.json": None,
        "held_out.arrow": INSTRUCTIONS,
        "train.arrow": INSTRUCTIONS,
    },
    "preferences@3": {
        "card.json": None,
        "held_out.arrow": PREFERENCES,
        "train.arrow": PREFERENCES,
    },
}


SINGLE_RESPONSES = {  # of preferences, if their rows have labels
    "prompt_ids": "list<item: int32>",
    "response_ids": "list<item: int32>",
    "is_desirable": "bool",
    "row": "int64",
    "source": "string",
}


def columns_of(file: Path) -> Columns:
    if file.suffix != ".arrow":
        return None
    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
        return {field.name: str(field.type) for field in stream.schema}


@pytest.mark.parametrize(
    ("kind", "make"),
    [(InstructionsRecipe, make_instructions), (PreferencesRecipe, make_preferences)],
)
def test_other_files_or_columns_need_another_version(
    kind: type[DataRecipe], make: Callable[..., None], tmp_path: Path
) -> None:
    tokenizer, out = tmp_path / "tokenizer", tmp_path / "out"
    out.mkdir()
    make_tokenizer(TokenizerRecipe(), BASE_DIR, tokenizer)
    name = kind.stage.split("@")[0]
    recipe = kind(path="builtin", max_rows=40, held_out_fraction=0.2)
    make(recipe, DATA_DIR / f"{name}.jsonl", tokenizer, out)
    left = {file.name: columns_of(file) for file in sorted(out.iterdir())}
    assert LEFT_BY.get(kind.stage) == left, (
        f"the stage {kind.stage} leaves other files or columns than this version stands for: raise "
        f"{kind.__name__}.stage in wit/recipes.py, and write down here what it leaves from then on"
    )


def test_other_columns_of_single_responses_need_another_version_too(
    tmp_path: Path, tokenizer: Path
) -> None:
    rows = [{"prompt": f"{n}", "completion": "a", "label": True} for n in range(9)]
    prepared = prepare(tmp_path, tokenizer, rows, held_out_fraction=0.3)
    assert PreferencesRecipe.stage == "preferences@3"
    for split in (TRAIN, HELD_OUT):
        assert columns_of(split_file(prepared.folder, split)) == SINGLE_RESPONSES
