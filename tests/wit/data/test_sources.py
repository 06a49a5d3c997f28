"""Rows of local files: every kind, and every way to be broken."""

import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import RASCHKA, SHARED, needs_shared

from wit.data.sources import Survey, read_file, read_rows, survey
from wit.errors import DataError
from wit.recipes import InstructionsRecipe

ROWS = [
    {"prompt": 'Say "hi",\nthen\u2028stop', "response": "hi 👋"},
    {"prompt": "", "response": "a, b"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    elif path.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n\n".join(lines), encoding="utf-8")  # a blank line is no row
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet", ".JSONL"])
def test_the_same_rows_come_from_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"rows{ending.lower()}", ROWS)
    assert list(read_file(path.rename(tmp_path / f"rows{ending}"))) == ROWS


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv"])
def test_the_mark_that_excel_writes_in_front_is_no_text(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"rows{ending}", ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(read_file(path)) == ROWS


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet"])
def test_a_text_of_a_million_characters_is_read_whole(tmp_path: Path, ending: str) -> None:
    rows = [{"prompt": "a", "response": "b" * 1_000_000}]
    assert list(read_file(write(tmp_path / f"rows{ending}", rows))) == rows


def test_nested_columns_keep_their_shape(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    for ending in (".json", ".jsonl", ".parquet"):
        assert list(read_file(write(tmp_path / f"rows{ending}", rows))) == rows


def parquet_bytes(tmp_path: Path) -> bytes:
    return write(tmp_path / "good.parquet", ROWS).read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.json", b"[{]", ":1: this is not JSON"),
        ("rows.json", b'[\n{"a": 1},\n{"a"}\n]', ":3: this is not JSON"),
        ("rows.json", b'{"a": 1}', "must hold a list of rows, holds a dict"),
        ("rows.json", b'[{"a": 1}, 3]', "row 2 is a int, not an object"),
        ("rows.json", b"", "this is not JSON"),
        ("rows.json", b"[]", "holds no rows"),
        ("rows.json", b'[\n"\xff"]', ":2: is not UTF-8 text"),
        ("rows.jsonl", b'{"a": 1}\n\n{"a": \n', ":3: this is not JSON"),
        ("rows.jsonl", b'{"a": 1}\n[2]\n', "row 2 is a list"),
        ("rows.jsonl", b'{"a": 1}\n' + b"[" * 100_000, "rows.jsonl:2: is nested too deeply"),
        ("rows.jsonl", b'{"a": 1}\n' + b"7" * 5000, "rows.jsonl:2: holds a number that cannot"),
        ("rows.json", b"[" * 100_000, "rows.json: is nested too deeply"),
        ("rows.json", b"[" + b"7" * 5000, "rows.json: holds a number that cannot"),
        ("rows.jsonl", b"\n\n", "holds no rows"),
        ("rows.jsonl", b"{}\n" * 9999 + b"\xff", ":10000: is not UTF-8 text"),
        ("rows.csv", b"a,b\n1,2\n3\n", ":3: row 2 does not have the 2 columns"),
        ("rows.csv", b"a,b\n1,2\n3,4,5\n", ":3: row 2 does not have the 2 columns"),
        ("rows.csv", b'a,b\n"1,2\n3,4\n', "this is not CSV"),
        ("rows.csv", b"a,b\n", "holds no rows"),
        ("rows.csv", b"", "holds no rows"),
        ("rows.csv", b"a\nb\n\xff", ":3: is not UTF-8 text"),
        ("rows.parquet", b"hello", "this is not Parquet"),
        ("rows.parquet", b"", "this is not Parquet"),
        ("rows.txt", b"hello", "cannot read files of type '.txt'; known: .json, .jsonl"),
        ("rows", b"hello", "cannot read files of type ''"),
    ],
)
def test_a_broken_file_is_named_with_the_place_and_what_is_wrong(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_rows(InstructionsRecipe(path=str(path)), path))
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("damage", [slice(40, 120), slice(-120, -60), slice(-30, None)])
def test_damaged_parquet_is_named(tmp_path: Path, damage: slice) -> None:
    content = bytearray(parquet_bytes(tmp_path))
    content[damage] = bytes(len(content[damage]))
    path = tmp_path / "rows.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: "):
        list(read_file(path))


def test_one_bad_line_in_a_large_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' * 50_000 + b'{"a": 1\n' + b'{"a": 1}\n' * 50_000)
    with pytest.raises(DataError, match=rf"^{path}:50001: this is not JSON"):
        survey(read_rows(InstructionsRecipe(path=str(path)), path))


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_rows_are_read_as_they_are_asked_for(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    write(path, [{"a": f"{n} {'long ' * 2000}"} for n in range(2000)])  # 20 MB
    tracemalloc.start()
    longest = max(len(row["a"]) for row in read_file(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert longest == 10_005
    assert peak < 8_000_000


def test_columns_are_those_of_all_rows_in_the_order_of_the_first(tmp_path: Path) -> None:
    rows = [{"b": 1}, {"b": 2, "a": 1}, {}, {"c": 1, "a": 2}]
    assert survey(iter(rows)) == Survey(4, ("b", "a", "c"))
    assert survey(iter([])) == Survey(0, ())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.json: cannot be read: No such file"):
        list(read_file(tmp_path / "nope.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(DataError, match=r"folder\.json: cannot be read: Is a directory"):
        list(read_file(tmp_path / "folder.json"))


@needs_shared
@pytest.mark.parametrize(
    ("path", "num_rows", "columns"),
    [
        (RASCHKA / "instruction-data.json", 1100, {"instruction", "input", "output"}),
        (SHARED / "data" / "gsm8k" / "train.jsonl", 7473, {"question", "answer"}),
    ],
    ids=["raschka", "gsm8k"],
)
def test_real_files_are_read_whole(path: Path, num_rows: int, columns: set[str]) -> None:
    rows = list(read_file(path))
    assert len(rows) == num_rows
    assert all(set(row) == columns for row in rows)
