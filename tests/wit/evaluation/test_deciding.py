"""A changed file that decides a score makes an evaluation again; no other file does."""

import json
import os
from pathlib import Path

import pytest
import yaml
from planned_study import (
    ITEMS,
    changed,
    evaluations,
    fingerprints,
    inputs_in,
    plan_of,
    put,
    study_in,
)

from wit.errors import ConfigError
from wit.evaluation import deciding
from wit.evaluation.catalogue import ResolvedBenchmark, resolve_benchmark
from wit.evaluation.checkers import IFEVAL, checkers_of
from wit.evaluation.deciding import folders_of_tasks
from wit.evaluation.harness import read_items

MEAN = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
MEMBER = {
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [MEAN],
    "metadata": {"version": 1, "wit": {"chat": False}},
}
CODE = "import helper\nfrom package import inside\n\ndef same(docs):\n    return docs\n"
DECIDE = [
    "all.yaml",  # the group
    "own.jsonl",  # of a member that the group's file defines
    "below/one.yaml",
    "below/base.yaml.part",  # which that includes
    "below/one.jsonl",
    "below/code.py",
    "below/helper.py",  # which the code imports
    "below/further.py",  # which the helper imports
    "below/package/__init__.py",
    "below/package/inside.py",
    "tagged/two.yaml",  # a member by its tag
    "tagged/two.jsonl",
    "inner.yaml",  # a group in the group
    "deep.yaml",
    "deep.jsonl",
]
DO_NOT = [
    "README.md",
    "stranger.yaml",
    "stranger.jsonl",
    "below/stranger.py",
    "tagged/stranger.jsonl",
]


def write(folder: Path, name: str, content: object) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))


def rows_of(name: str) -> str:
    return json.dumps({"question": f"{name}?", "answer": name}) + "\n"


def reads(file: str) -> dict[str, object]:
    return {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": file}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A group of four: defined there, named, by a tag, and in a group of its own."""
    folder = tmp_path / "group"
    own = {"task": "own", **MEMBER, **reads("own.jsonl")}
    write(folder, "all.yaml", {"group": "all", "task": [own, "one", "even", "inner"]})
    write(folder, "own.jsonl", rows_of("own"))
    write(folder, "below/base.yaml.part", MEMBER)
    one = {"task": "one", "include": "base.yaml.part", **reads("one.jsonl")}
    write(folder, "below/one.yaml", yaml.safe_dump(one) + "process_docs: !function code.same\n")
    write(folder, "below/one.jsonl", rows_of("one"))
    write(
        folder,
        "below/code.py",
        "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parent))\n" + CODE,
    )
    write(folder, "below/helper.py", "from further import *\n")
    write(folder, "below/further.py", "")
    write(folder, "below/package/__init__.py", "")
    write(folder, "below/package/inside.py", "")
    write(
        folder, "tagged/two.yaml", {"task": "two", "tag": ["even"], **MEMBER, **reads("two.jsonl")}
    )
    write(folder, "tagged/two.jsonl", rows_of("two"))
    write(folder, "inner.yaml", {"group": "inner", "task": [{"task": "deep", "num_fewshot": 0}]})
    write(folder, "deep.yaml", {"task": "deep", **MEMBER, **reads("deep.jsonl")})
    write(folder, "deep.jsonl", rows_of("deep"))
    write(folder, "README.md", "A group.\n")
    write(
        folder,
        "stranger.yaml",
        {"task": "stranger", "tag": "odd", **MEMBER, **reads("stranger.jsonl")},
    )
    for name in ("stranger.jsonl", "tagged/stranger.jsonl"):
        write(folder, name, rows_of("stranger"))
    write(folder, "below/stranger.py", "")
    return folder


def group_in(folder: Path) -> ResolvedBenchmark:
    return resolve_benchmark("all", folder / "all.yaml")


def append(file: Path) -> None:
    comment = "\n" if file.suffix == ".jsonl" else "\n# more\n"
    file.write_text(file.read_text() + comment)


def test_the_files_of_a_group_are_all_that_decide(folder: Path) -> None:
    found = [str(file.relative_to(folder)) for file in group_in(folder).files]
    assert sorted(found) == sorted(DECIDE)
    assert {str(f.relative_to(folder)) for f in folder.rglob("*.*")} == {*DECIDE, *DO_NOT}


@pytest.mark.parametrize("name", DECIDE)
def test_a_changed_file_that_decides_is_another_benchmark(folder: Path, name: str) -> None:
    before = group_in(folder).fingerprint
    append(folder / name)
    assert group_in(folder).fingerprint != before


@pytest.mark.parametrize("name", DO_NOT)
def test_another_file_is_not(folder: Path, name: str) -> None:
    before = group_in(folder).fingerprint
    append(folder / name)
    assert group_in(folder).fingerprint == before


def test_a_changed_member_makes_the_evaluation_again_and_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    inputs_in(tmp_path)
    values = study_in(tmp_path)
    put(values, "benchmarks.0.path", str(folder / "all.yaml"))
    before = fingerprints(plan_of(values))
    append(folder / "stranger.yaml")
    assert fingerprints(plan_of(values)) == before
    append(folder / "tagged" / "two.yaml")
    assert changed(before, fingerprints(plan_of(values))) == evaluations("seen") | ITEMS


def test_code_of_a_single_task_is_followed_too(folder: Path) -> None:
    path = folder / "below" / "one.yaml"
    before = resolve_benchmark("one", path).fingerprint
    append(folder / "below" / "further.py")
    assert resolve_benchmark("one", path).fingerprint != before


def test_modules_that_import_each_other_or_cannot_be_read_end(folder: Path) -> None:
    (folder / "below" / "further.py").write_text("import helper\n")
    (folder / "below" / "helper.py").write_text("from . import further, code\nimport os.path\n")
    assert len(group_in(folder).files) == len(DECIDE)
    (folder / "below" / "helper.py").write_text("def (")
    assert len(group_in(folder).files) == len(DECIDE) - 1


def test_members_find_their_rows_from_everywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    items = [item.text for item in read_items(group_in(folder), None)]
    assert sorted(items) == [f"{name}?\n{name}" for name in ("deep", "one", "own", "two")]


def test_rows_of_a_member_are_read_anew(folder: Path) -> None:
    list(read_items(group_in(folder), None))
    data = folder / "tagged" / "two.jsonl"
    times = data.stat().st_atime_ns, data.stat().st_mtime_ns
    data.write_text(data.read_text().replace("two?", "too?"))  # same size, same time
    os.utime(data, ns=times)
    assert "too?\ntwo" in [item.text for item in read_items(group_in(folder), None)]


def test_a_file_of_a_siblings_folder_that_no_member_names_is_not_asked(folder: Path) -> None:
    before = group_in(folder).fingerprint
    write(folder, "below/two.jsonl", rows_of("other"))
    assert group_in(folder).fingerprint == before
    items = [item.text for item in read_items(group_in(folder), None)]
    assert sorted(items) == [f"{name}?\n{name}" for name in ("deep", "one", "own", "two")]


def test_lost_rows_of_a_member_are_named(folder: Path) -> None:
    (folder / "tagged" / "two.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"two\.yaml: the data file .*two\.jsonl does not exist"):
        group_in(folder)
    write(folder, "tagged/two.jsonl", rows_of("two"))
    (folder / "own.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"all\.yaml: the data file .*own\.jsonl does not exist"):
        group_in(folder)


def test_a_checker_that_a_member_needs_is_seen(folder: Path) -> None:
    assert not checkers_of(group_in(folder).files).packages
    write(folder, "all.yaml", {"group": "all", "task": ["one", "ifeval"]})
    assert checkers_of(group_in(folder).files).packages == IFEVAL
    assert checkers_of(resolve_benchmark("leaderboard").files).packages == IFEVAL
    task = {"task": "strict", **MEMBER, **reads("own.jsonl")}
    code = "process_results: !function lm_eval.tasks.ifeval.utils.process_results\n"
    write(folder, "strict.yaml", yaml.safe_dump(task) + code)
    strict = resolve_benchmark("strict", folder / "strict.yaml")
    assert checkers_of(strict.files).packages == IFEVAL


def test_members_of_the_same_name_are_ours_before_lm_evals(folder: Path) -> None:
    write(folder, "all.yaml", {"group": "all", "task": ["arc_easy"]})
    theirs = group_in(folder)
    assert sorted(file.name for file in theirs.files) == ["all.yaml", "arc_easy.yaml"]
    write(folder, "mine.yaml", {"task": "arc_easy", **MEMBER, **reads("deep.jsonl")})
    assert [file.name for file in group_in(folder).files] == ["all.yaml", "deep.jsonl", "mine.yaml"]
    assert [item.text for item in read_items(group_in(folder), None)] == ["deep?\ndeep"]


def test_members_that_swap_files_of_one_name_make_another_benchmark(tmp_path: Path) -> None:
    folder, members = tmp_path, ["one", "two"]
    write(folder, "all.yaml", {"group": "all", "task": members})
    for name in members:
        write(folder / name, f"{name}.yaml", {"task": name, **MEMBER, **reads("rows.jsonl")})
        write(folder / name, "rows.jsonl", rows_of(name))
    before = group_in(folder).fingerprint
    for name, other in zip(members, reversed(members), strict=True):
        write(folder / name, "rows.jsonl", rows_of(other))
    assert group_in(folder).fingerprint != before


def test_lm_evals_own_groups_are_their_members() -> None:
    mmlu = resolve_benchmark("mmlu")
    assert sum("mmlu_" in file.name for file in mmlu.files) >= 57
    assert [folder.name for folder in folders_of_tasks(mmlu.yaml_path)] == ["default"]


def test_tasks_whose_keys_stand_in_quotes_are_found() -> None:
    assert resolve_benchmark("aclue_couplet_prediction").files


@pytest.mark.slow  # lm-eval's own index takes ten seconds
def test_names_stand_for_the_files_that_lm_eval_takes() -> None:
    from lm_eval.tasks import TaskManager

    theirs = TaskManager()._index
    ours = deciding._index_of_lm_eval()
    assert set(ours) == set(theirs)
    for name, entry in theirs.items():
        files = (
            {theirs[tagged].yaml_path for tagged in entry.tags}
            if entry.yaml_path is None
            else {entry.yaml_path}
        )
        assert set(ours[name]) == {file and file.resolve() for file in files}
