"""What docs/configuration.md says of keys, defaults and allowed values is what the code says.

Of all documents: every picture is there, every picture is shown, and links lead somewhere.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python
from samples import ROOT

from wit.config import Runtime, Study
from wit.data.templates import template_names
from wit.forms import StudyRequest
from wit.loading import load_runtime, load_study
from wit.weights import PRESETS

DOCUMENT = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
Kind = type[Study] | type[Runtime]
PARTS: dict[Kind, str] = dict(
    zip((Study, Runtime), DOCUMENT.split("\n## The runtime file\n"), strict=True)
)
# What capitals in a key stand for, as the document's beginning says.
STANDS_FOR = {
    "PLACE": ("ROWS", "ROWS.sources.NAME"),
    "ROWS": ("instructions", "preferences"),
    "WEIGHTS": ("weights.N", "weights.N.sources.NAME"),
    "TUNING": ("sft", "tunings.NAME"),
    "ALIGNMENT": ("dpo", "alignments.NAME"),
}
ROW = re.compile(r"^\| `([^`]+)` \| (.+?) \| (.+) \|$", re.MULTILINE)
PRESET = re.compile(r"^\| `([\w-]+)` \| `(\{.+\})` \|$", re.MULTILINE)
YAML = re.findall(r"^```yaml\n(.+?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
REQUIRED = {
    "name": "of-a-block",
    "base": {"path": "builtin"},
    "instructions": {"path": "builtin"},
    "preferences": {"path": "builtin"},
    "weights": ["instruction-tuning"],
    "benchmarks": [{"name": "wit_seen", "role": "select"}],
}


def _rows(part: str) -> list[tuple[str, str, str]]:
    """Key, default and meaning of every row of the tables of keys."""
    return [(key, *cells) for row, *cells in ROW.findall(part) for key in _spelled_out(row)]


def _spelled_out(key: str) -> list[str]:
    first, *rest = key.split(".")
    if first not in STANDS_FOR:
        return [key]
    return [k for one in STANDS_FOR[first] for k in _spelled_out(".".join([one, *rest]))]


def _fields(model: type[BaseModel], holder: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field of a model and of the models in it, by the key that sets it."""
    for name, field in model.model_fields.items():
        name = "weights.search" if model is Study and name == "search" else name
        yield holder + name, field
        for nested, place in _models(field.annotation):
            yield from _fields(nested, f"{holder}{name}{place}.")


def _models(annotation: Any, place: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, place
    place += {dict: ".NAME", tuple: ".N"}.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        yield from _models(argument, place)


def _allowed(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for argument in get_args(annotation):
            yield from _allowed(argument)


def _default(field: FieldInfo) -> str:
    """As it stands in the document, but for the spelling of numbers."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return "see below"
    return "unset" if default in (None, {}) else json.dumps(to_jsonable_python(default))


def _said(default: str) -> str:
    """A default of the document in the spelling of ``_default``."""
    is_value = default.startswith("`") and default.endswith("`")
    return json.dumps(yaml.safe_load(default.strip("`"))) if is_value else default


@pytest.mark.parametrize("kind", [Study, Runtime])
def test_every_key_stands_in_the_document_once_and_no_other(kind: Kind) -> None:
    assert Counter(key for key, *_ in _rows(PARTS[kind])) == Counter(k for k, _ in _fields(kind))


@pytest.mark.parametrize("kind", [Study, Runtime])
def test_every_default_is_the_documents(kind: Kind) -> None:
    said = {key: _said(default) for key, default, _ in _rows(PARTS[kind])}
    assert said == {key: _default(field) for key, field in _fields(kind)}


@pytest.mark.parametrize("kind", [Study, Runtime])
def test_every_allowed_word_stands_in_the_row_of_its_key(kind: Kind) -> None:
    allowed = {key: list(_allowed(field.annotation)) for key, field in _fields(kind)}
    assert any(allowed.values())
    allowed |= {"base.template": ["own", *template_names()]} if kind is Study else {}
    for key, _, meaning in _rows(PARTS[kind]):
        assert [word for word in allowed[key] if f"`{word}`" not in meaning] == [], key


def test_every_name_of_weights_stands_in_the_document_with_its_table() -> None:
    assert {name: yaml.safe_load(table) for name, table in PRESET.findall(DOCUMENT)} == PRESETS


@pytest.mark.parametrize("block", YAML)
def test_every_block_loads(block: str, tmp_path: Path) -> None:
    path, values = tmp_path / "block.yaml", yaml.safe_load(block)
    if values.keys() <= Runtime.model_fields.keys():
        path.write_text(block, encoding="utf-8")
        assert load_runtime(path) != Runtime()
    else:
        path.write_text(yaml.safe_dump(REQUIRED | values), encoding="utf-8")
        assert load_study(path).cells


def test_there_are_blocks_of_both_kinds() -> None:
    assert all("```yaml\n" in part for part in PARTS.values())
    assert len(YAML) == DOCUMENT.count("```yaml")


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#]*)#?([^)]*)\)")


def test_every_picture_is_there_and_shown() -> None:
    shown = {
        (page.parent / name).resolve()
        for page in PAGES
        for name in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert shown == {picture.resolve() for picture in (ROOT / "docs").glob("*.png")}


def test_every_link_leads_to_a_file_and_to_a_heading_of_it() -> None:
    links = {
        (page.parent / (name or page.name), heading)
        for page in PAGES
        for name, heading in LINK.findall(page.read_text(encoding="utf-8"))
        if not name.startswith("https:")
    }
    assert any(heading for _, heading in links)
    for file, heading in links:
        assert file.exists(), file
        assert not heading or heading in _anchors(file), (file, heading)


def _anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_run_of_the_walk_is_what_a_form_takes() -> None:
    walk = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    [request] = re.findall(r"--param 'request=(.+?)'", walk, re.DOTALL)
    assert StudyRequest.model_validate_json(request).load_study().cells
