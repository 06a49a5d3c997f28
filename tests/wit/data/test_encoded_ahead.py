"""Ways that are faster and change no byte: what is encoded ahead, bytes of tokens, tables."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from samples import embedded_tokenizer, save_tokenizer
from tokenizers import pre_tokenizers

from wit.data.boilerplate import Boilerplate
from wit.data.encode import (
    BATCHES_AHEAD,
    INSTRUCTION_COLUMNS,
    PREFERENCE_COLUMNS,
    UNPAIRED_COLUMNS,
    Batch,
    Encoded,
    NumberedRow,
    Place,
    RowEncoder,
    _table,
)
from wit.data.pieces import Encoder
from wit.data.schema import Message
from wit.recipes import InstructionsRecipe
from wit.roles import Role

TEXTS = [
    "one two",
    "a\n b, 12",
    "Grüße, 你好 🙂",
    " ",
    "\n\n",
    "<|user|>\nhi",
    "x" * 300,
    "e\u0301",
]


@pytest.fixture
def encoder() -> Encoder:
    tokenizer = embedded_tokenizer()
    tokenizer.add_tokens(["<think>", "naïve 你"])
    return Encoder(tokenizer)


def test_bytes_of_tokens_spell_what_the_tokenizer_decodes(encoder: Encoder) -> None:
    """Any tokens, also such that cut a character in two, where bytes are no text."""
    rng = random.Random(0)
    number = encoder._bare.get_vocab_size()
    for _ in range(500):
        ids = [rng.randrange(number) for _ in range(rng.randint(1, 8))]
        decoded = encoder.decode(ids)
        assert encoder.spells(ids, decoded) == ("\ufffd" not in decoded)
        assert not encoder.spells(ids, decoded + "a")
    for token in range(number):
        decoded = encoder.decode([token])
        assert "\ufffd" in decoded or encoder.spells([token], decoded), token
    for text in [*TEXTS, "<think>naïve 你"]:
        ids = encoder._ids(text)
        assert encoder.spells(ids, encoder.decode(ids))


def test_pieces_that_were_encoded_ahead_are_those_that_are_encoded_when_needed(
    encoder: Encoder,
) -> None:
    texts = ["".join(TEXTS[start:]) for start in range(len(TEXTS))]
    cuts = [{3, len(text) // 2} for text in texts]
    found = []
    for ahead in (False, True):
        if ahead:
            encoder.known = encoder.look_ahead(zip(texts[::2], cuts[::2], strict=True))
        of_texts = [
            encoder.encode(text, of_text, (), frozenset())
            for text, of_text in zip(texts, cuts, strict=True)
        ]
        found.append(
            [(e.ids, [e.characters(token) for token in range(len(e.ids))]) for e in of_texts]
        )
    assert found[0] == found[1]
    assert len(encoder.known) > 4


def test_pieces_that_are_encoded_for_their_ids_alone_have_the_same_ids(encoder: Encoder) -> None:
    found = encoder.ids_of([*TEXTS, *TEXTS])
    assert found == {text: encoder._ids(text) for text in TEXTS}
    assert encoder.ids_of([]) == {}


@pytest.mark.parametrize("adds_space", [False, True])  # then offsets say where tokens stand
def test_batches_in_turn_are_those_one_by_one_and_few_are_read_ahead(
    adds_space: bool, tmp_path: Path
) -> None:
    base = embedded_tokenizer()
    if adds_space:
        base.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    encoder = RowEncoder(
        InstructionsRecipe(path="rows.jsonl", max_tokens=40),
        save_tokenizer(base, tmp_path / "tokenizer"),
        {"": Place("rows.jsonl", Boilerplate())},
        INSTRUCTION_COLUMNS,
    )
    batches = [
        Batch("", [NumberedRow(n, False, (Message("user", text), Message("assistant", f"{n}!")))])
        for n, text in enumerate(TEXTS * 2)
    ]
    read: list[Batch] = []

    def reading() -> Iterator[Batch]:
        for batch in batches:
            read.append(batch)
            yield batch

    found: list[Encoded] = []
    for encoded in encoder.in_turn(reading()):
        found.append(encoded)
        assert len(read) <= len(found) + BATCHES_AHEAD
        assert encoded == encoder(batches[len(found) - 1])
    assert len(found) == len(batches)
    assert 0 < sum(encoded.rows.num_rows for encoded in found) < len(batches)


def test_a_row_is_kept_for_one_token_of_its_response_and_weights_behind_its_end_do_not_count(
    tmp_path: Path,
) -> None:
    tokenizer = save_tokenizer(embedded_tokenizer(), tmp_path / "tokenizer")
    turns = (Message("user", "one"), Message("assistant", "two"))
    row = NumberedRow(1, False, (*turns, turns[0], turns[1]._replace(weight=0.5)))

    def encoded(max_tokens: int) -> Encoded:
        recipe = InstructionsRecipe(path="rows.jsonl", max_tokens=max_tokens)
        places = {"": Place("rows.jsonl", Boilerplate())}
        return RowEncoder(recipe, tokenizer, places, INSTRUCTION_COLUMNS)(Batch("", [row]))

    [whole] = encoded(1000).rows.to_pylist()
    start, weighted = whole["roles"].index(Role.RESPONSE), whole["factors"].index(0.5)
    assert encoded(start).rows.num_rows == 0
    for end in (start + 1, weighted, weighted + 1):
        [cut] = encoded(end).rows.to_pylist()
        assert cut["input_ids"] == whole["input_ids"][:end]
        assert (cut["factors"] is None) == (end <= weighted)


ROW: dict[str, Any] = {"row": 7, "source": "a"}
TABLES = [
    (INSTRUCTION_COLUMNS, {"input_ids": [1, 2], "roles": [0, 3], "factors": None}),
    (INSTRUCTION_COLUMNS, {"input_ids": [3], "roles": [1], "factors": [0.5]}),
    (PREFERENCE_COLUMNS, {"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [128_000]}),
    (UNPAIRED_COLUMNS, {"prompt_ids": [1], "response_ids": [2], "is_desirable": True}),
]


@pytest.mark.parametrize(("columns", "row"), TABLES)
@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_table_is_that_of_arrow_itself(
    columns: pa.Schema, row: dict[str, Any], number: int, tmp_path: Path
) -> None:
    lists = {
        name: np.array(value) if isinstance(value, list) else value for name, value in row.items()
    }
    rows = [{**lists, **ROW, "row": place} for place in range(number)]
    if columns is INSTRUCTION_COLUMNS and number == 3:
        rows[1]["factors"] = None  # beside such that have some
    plain = [
        {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in of_row.items()}
        for of_row in rows
    ]
    files = []
    for name, table in (
        ("ours", _table(rows, columns)),
        ("theirs", pa.RecordBatch.from_pylist(plain, schema=columns)),
    ):
        with (
            pa.OSFile(str(tmp_path / name), "wb") as file,
            pa.ipc.new_stream(file, columns) as stream,
        ):
            stream.write_batch(table)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
