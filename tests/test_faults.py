"""The table of known faults names tests that exist."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (FOLDER / "README.md").read_text(encoding="utf-8"))


def test_every_fault_has_a_test() -> None:
    assert len(NAMED) == 19


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    assert f"\ndef {name}(" in (FOLDER / file).read_text(encoding="utf-8")
