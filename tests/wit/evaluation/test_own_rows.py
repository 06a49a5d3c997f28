"""Rows that a benchmark names itself: seen from its own folder, and part of what it is."""

import json
import os
from pathlib import Path

import pytest
import yaml

from wit.errors import ConfigError
from wit.evaluation.catalogue import ResolvedBenchmark, resolve_benchmark
from wit.evaluation.harness import read_items

MEMBER = {
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 1, "wit": {"chat": False}},
}
FOLDERS = [  # as a benchmark names its folder of rows, and where that lies seen from its own
    ({"dataset_path": "json", "dataset_kwargs": {"data_dir": "rows"}}, "rows"),
    ({"dataset_path": "json", "dataset_kwargs": {"data_dir": "../rows"}}, "../rows"),
    ({"dataset_path": "json", "dataset_kwargs": {"data_dir": "HERE/rows"}}, "rows"),
    ({"dataset_path": "HERE/rows"}, "rows"),
    ({"dataset_path": "./rows"}, "rows"),
]


def write(folder: Path, name: str, content: object) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))


def rows_of(name: str) -> str:
    return json.dumps({"question": f"{name}?", "answer": name}) + "\n"


def reads(file: str) -> dict[str, object]:
    return {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": file}}}


def group_in(folder: Path) -> ResolvedBenchmark:
    return resolve_benchmark("all", folder / "all.yaml")


def texts(benchmark: ResolvedBenchmark) -> list[str]:
    return [item.text for item in read_items(benchmark, None)]


def test_members_that_name_their_files_alike_are_each_asked_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, by a tag, in the group's file, and in a group that lies in a third folder."""

    def member(name: str) -> dict[str, object]:
        return {"task": name, "tag": f"tag_{name}", **MEMBER, **reads("test.jsonl")}

    for folder, name in (("a", "one"), ("b", "two"), ("c", "three"), (".", "own")):
        write(tmp_path, f"{folder}/test.jsonl", rows_of(name))
        if name != "own":
            write(tmp_path, f"{folder}/{name}.yaml", member(name))
    write(tmp_path, "c/inner.yaml", {"group": "inner", "task": ["three"]})
    members = ["one", "tag_two", "inner", member("own")]
    write(tmp_path, "all.yaml", {"group": "all", "task": members})
    benchmark = group_in(tmp_path)
    assert [file.name for file in benchmark.files].count("test.jsonl") == 4
    monkeypatch.chdir(tmp_path / "b")
    expected = ["one?\none", "own?\nown", "three?\nthree", "two?\ntwo"]
    assert sorted(texts(benchmark)) == expected


@pytest.mark.parametrize("is_member", [False, True])
@pytest.mark.parametrize(("said", "place"), FOLDERS)
def test_all_below_a_folder_of_rows_decides_and_is_read_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict, place: str, is_member: bool
) -> None:
    here = tmp_path / "here"
    said = yaml.safe_load(yaml.safe_dump(said).replace("HERE", str(here)))
    write(here, f"{place}/test.jsonl", rows_of("one"))
    write(here, f"{place}/.git/index", "")
    write(here, "task.yaml", {"task": "task", **MEMBER, **said})
    write(here, "all.yaml", {"group": "all", "task": ["task"]})
    name = "all" if is_member else "task"

    def found() -> ResolvedBenchmark:
        return resolve_benchmark(name, here / f"{name}.yaml")

    monkeypatch.chdir("/")
    before = found().fingerprint
    assert found().is_pinned is not is_member
    assert texts(found()) == ["one?\none"]
    (here / place / ".git" / "index").write_text("more")
    assert found().fingerprint == before
    data = here / place / "test.jsonl"
    times = data.stat().st_atime_ns, data.stat().st_mtime_ns
    data.write_text(rows_of("two"))  # same size, same time
    os.utime(data, ns=times)
    assert found().fingerprint != before
    assert texts(found()) == ["two?\ntwo"]


def test_a_folder_of_rows_that_a_group_names_for_its_member_counts(tmp_path: Path) -> None:
    write(tmp_path, "rows/test.jsonl", rows_of("one"))
    own = {"task": "own", **MEMBER, **FOLDERS[0][0]}
    write(tmp_path, "all.yaml", {"group": "all", "task": [own]})
    assert [file.name for file in group_in(tmp_path).files] == ["all.yaml", "test.jsonl"]
    assert texts(group_in(tmp_path)) == ["one?\none"]


def test_a_lost_folder_of_rows_is_named_and_a_name_of_the_hub_is_none(tmp_path: Path) -> None:
    for said, _ in FOLDERS[1], FOLDERS[4]:
        write(tmp_path, "task.yaml", {"task": "task", **MEMBER, **said})
        with pytest.raises(ConfigError, match=r"task\.yaml: the folder .*rows does not exist"):
            resolve_benchmark("task", tmp_path / "task.yaml")
    write(tmp_path, "rows/test.jsonl", rows_of("one"))
    hub = {"dataset_path": "rows", "dataset_kwargs": {"data_dir": "rows"}}
    write(tmp_path, "task.yaml", {"task": "task", **MEMBER, **hub})
    files = resolve_benchmark("task", tmp_path / "task.yaml").files
    assert [file.name for file in files] == ["task.yaml"]
