"""Artifacts are named by what they were made of, wherever that lay."""

from pathlib import Path

import pytest
from made_up import ROWS, MadeUp, MadeUpAgain

from wit.artifacts import Artifact
from wit.errors import InputError
from wit.files import digest_of_files, sha256_of


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return Artifact(root=tmp_path, recipe=MadeUp(), parents={"rows": ROWS})


def test_a_fingerprint_is_twelve_hex_digits_and_names_the_place(artifact: Artifact) -> None:
    assert len(artifact.fingerprint) == 12
    assert int(artifact.fingerprint, 16) >= 0
    assert artifact.path == artifact.root / "made-up" / artifact.fingerprint


def test_recipe_stage_version_parents_and_their_parts_make_the_fingerprint(tmp_path: Path) -> None:
    other = ROWS.model_copy(update={"fingerprint": "ba9876543210"})
    made = [
        Artifact(root=tmp_path, recipe=recipe, parents=parents).fingerprint
        for recipe, parents in [
            (MadeUp(), {"rows": ROWS}),
            (MadeUp(knob=2), {"rows": ROWS}),
            (MadeUpAgain(), {"rows": ROWS}),
            (MadeUp(), {"rows": other}),
            (MadeUp(), {"pairs": ROWS}),
            (MadeUp(), {"rows": ROWS, "more": other}),
            (MadeUp(), {"rows": other, "more": ROWS}),
            (MadeUp(), {}),
        ]
    ]
    assert len(set(made)) == len(made)


def test_what_says_where_does_not_make_the_fingerprint(artifact: Artifact) -> None:
    moved = Artifact(
        root=artifact.root / "other",
        recipe=MadeUp(place="there"),
        parents={"rows": ROWS.model_copy(update={"location": "elsewhere.jsonl"})},
    )
    assert moved.fingerprint == artifact.fingerprint


def test_a_grandparents_change_reaches_the_fingerprint(tmp_path: Path) -> None:
    def grandchild(knob: float) -> str:
        first = Artifact(root=tmp_path, recipe=MadeUp(knob=knob), parents={"rows": ROWS})
        second = Artifact(root=tmp_path, recipe=MadeUp(), parents={"of": first})
        return Artifact(root=tmp_path, recipe=MadeUp(), parents={"of": second}).fingerprint

    assert grandchild(1) == grandchild(1)
    assert grandchild(1) != grandchild(2)


def test_files_count_by_name_and_content_not_by_folder_or_order(tmp_path: Path) -> None:
    for folder in ("a", "b", "z"):
        (tmp_path / folder).mkdir()
    files = {}
    for path, content in {"a/x": "1", "b/y": "2", "z/x": "1", "a/y": "2", "b/x": "3"}.items():
        files[path] = tmp_path / path
        files[path].write_text(content)
    digest = digest_of_files([files["a/x"], files["b/y"]])
    assert digest == digest_of_files([files["a/y"], files["z/x"]])
    assert digest != digest_of_files([files["b/x"], files["b/y"]])
    assert digest != digest_of_files([files["a/x"], files["b/y"]], "more")
    assert digest != digest_of_files([files["a/x"]])


def test_the_same_name_with_other_content_is_another_source(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("a")
    before = digest_of_files([file])
    file.write_text("b")
    assert digest_of_files([file]) != before


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nope: cannot be read: No such file"):
        sha256_of(tmp_path / "nope")
