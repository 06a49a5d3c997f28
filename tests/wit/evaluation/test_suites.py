"""Suites: what a name in a study stands for; every benchmark in one exists and is pinned."""

import json
import re
from pathlib import Path

import pytest

from wit.config import Runtime
from wit.errors import ConfigError
from wit.evaluation.benchmark_files import included_in, read_benchmark
from wit.evaluation.catalogue import SHIPPED, resolve_benchmark
from wit.evaluation.harness import read_items
from wit.evaluation.suites import SUITES, expand_suites, read_suite
from wit.loading import load_study
from wit.plan import make_plan

NAMES = sorted(file.stem for file in SUITES.glob("*.yaml"))
COMMIT = re.compile(r"[0-9a-f]{40}")


def test_the_four_suites_are_there() -> None:
    assert NAMES == ["embedded", "forgetting", "open-llm", "paper"]


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_of_a_suite_is_found_with_rows_that_cannot_change(name: str) -> None:
    entries = read_suite(name)
    assert len({entry["name"] for entry in entries}) == len(entries)
    for entry in entries:
        found = resolve_benchmark(entry["name"], entry.get("path"), revision=entry.get("revision"))
        assert found.is_pinned, entry
        assert entry["role"] in ("select", "report", "forgetting")
        assert COMMIT.fullmatch(entry.get("revision", 40 * "0"))


def test_one_repository_has_one_commit_in_all_suites() -> None:
    commits: dict[str, set[str]] = {}
    for entry in (entry for name in NAMES for entry in read_suite(name)):
        if "revision" in entry:
            commits.setdefault(entry["name"], set()).add(entry["revision"])
    assert commits
    assert all(len(found) == 1 for found in commits.values())


def test_a_suite_stands_for_its_benchmarks_in_their_order_between_others() -> None:
    before, after = {"name": "a", "role": "report"}, {"name": "b", "role": "report"}
    found = expand_suites([before, {"suite": "forgetting"}, after])
    assert [entry["name"] for entry in found] == [
        "a",
        "hellaswag",
        "winogrande",
        "arc_challenge",
        "b",
    ]
    assert found[0] == before
    assert {entry["role"] for entry in found[1:4]} == {"forgetting"}


def test_what_is_said_of_a_suite_holds_for_each_of_its_benchmarks() -> None:
    found = expand_suites([{"suite": "forgetting", "role": "report", "limit": 7}])
    assert [(entry["role"], entry["limit"]) for entry in found] == [("report", 7)] * 3
    assert "limit" not in read_suite("forgetting")[0]


def test_the_data_of_a_suite_are_a_folder_for_each_benchmark_and_need_no_commit() -> None:
    found = expand_suites([{"suite": "forgetting", "data": "/rows"}])
    assert [entry["data"] for entry in found] == [
        "/rows/hellaswag",
        "/rows/winogrande",
        "/rows/arc_challenge",
    ]
    assert not any("revision" in entry for entry in found)


@pytest.mark.parametrize("entries", [None, "embedded", 3, [3, {"name": "a"}]])
def test_what_is_no_suite_is_left_to_the_study(entries: object) -> None:
    assert expand_suites(entries) == entries


def test_an_unknown_suite_lists_the_nearest_and_all() -> None:
    with pytest.raises(ValueError, match=r"'forgeting' is unknown\. Did you mean 'forgetting'\?"):
        expand_suites([{"suite": "forgeting"}])
    with pytest.raises(ValueError, match="embedded, forgetting, open-llm, paper"):
        expand_suites([{"suite": 7}])


def test_what_cannot_be_said_of_a_whole_suite_is_refused() -> None:
    with pytest.raises(ValueError, match="num_fewshot cannot be said of a whole suite"):
        expand_suites([{"suite": "embedded", "num_fewshot": 3}])


@pytest.mark.parametrize("data", [5, True, ["rows"], {"a": "b"}])
def test_data_of_a_suite_that_are_no_folder_are_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"suite 'forgetting': 'data' is .*give a folder"):
        expand_suites([{"suite": "forgetting", "data": data}])


def test_the_papers_ifeval_is_scored_by_instruction() -> None:
    assert resolve_benchmark("ifeval").main_metric == "inst_level_strict_acc"
    assert resolve_benchmark("ifeval_short").main_metric == "inst_level_strict_acc"
    assert resolve_benchmark("hellaswag").main_metric is None


def test_a_file_of_ours_may_include_one_of_lm_evals() -> None:
    [included] = included_in(SHIPPED / "ifeval.yaml")
    assert included.parts[-4:] == ("lm_eval", "tasks", "ifeval", "ifeval.yaml")
    short = read_benchmark(SHIPPED / "ifeval_short.yaml")
    assert short["dataset_path"] == "google/IFEval"
    assert short["generation_kwargs"]["max_gen_toks"] == 128


def test_a_revision_is_part_of_the_identity_and_so_is_none() -> None:
    plain, one, other = (
        resolve_benchmark("hellaswag", revision=revision).fingerprint
        for revision in (None, 40 * "1", 40 * "2")
    )
    assert len({plain, one, other}) == 3


def test_a_group_is_pinned_by_a_revision_or_data_only() -> None:
    assert not resolve_benchmark("mmlu").is_pinned
    assert resolve_benchmark("mmlu", revision=40 * "1").is_pinned
    assert not resolve_benchmark("hellaswag").is_pinned
    assert resolve_benchmark("wit_seen").is_pinned


def test_a_revision_of_local_rows_is_refused(tmp_path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="'revision' is of rows on the hub"):
        resolve_benchmark("hellaswag", data=tmp_path / "rows.jsonl", revision=40 * "1")


STUDY = """\
name: small
base: {path: builtin}
instructions: {path: builtin}
preferences: {path: builtin}
weights: [instruction-tuning]
benchmarks:
  - {name: wit_seen, role: select}
  - suite: forgetting
    limit: LIMIT
  - name: FIRST
    role: report
  - {suite: SUITE, role: report}
  - name: last
    role: ROLE
    path: nowhere.yaml
judge: {model: judge}
judged:
  - {suite: paper, data: FOLDER}
  - {name: chat, kind: KIND, role: report, path: prompts.jsonl}
"""
USABLE = {"LIMIT": "3", "FIRST": "wit_choice", "SUITE": "paper", "ROLE": "report"}
USABLE |= {"FOLDER": "judged-sets", "KIND": "ratings"}


def complaint(folder: Path, **changes: str) -> tuple[str, Path]:
    text = STUDY
    for word, value in {**USABLE, **changes}.items():
        text = text.replace(word, value)
    file = folder / "study.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        make_plan(load_study(file), Runtime(artifact_root=folder / "root"))
    return str(caught.value), file


@pytest.mark.parametrize(
    ("changes", "line", "key"),
    [
        ({}, "nowhere.yaml", "benchmarks.8.path"),
        ({"FIRST": "no_such_task"}, "name: no_such_task", "benchmarks.4.name"),
        ({"ROLE": "rol"}, "role: rol", "benchmarks.8.role"),
        ({"LIMIT": "-3"}, "limit: -3", "benchmarks.1.limit"),
        ({"KIND": "stars"}, "kind: stars", "judged.2.kind"),
        ({"LIMIT": "3\n    data: 5"}, "benchmarks:", "benchmarks"),
        ({"SUITE": "forgeting"}, "benchmarks:", "benchmarks"),
        ({"SUITE": "forgetting"}, "benchmarks:", "benchmarks"),
    ],
)
def test_a_complaint_names_the_line_of_the_benchmark_before_between_and_after_suites(
    tmp_path: Path, changes: dict[str, str], line: str, key: str
) -> None:
    said, file = complaint(tmp_path, **changes)
    [number] = [n for n, text in enumerate(file.read_text().splitlines(), 1) if line in text]
    assert said.startswith(f"{file}:{number}: {key}"), said


def test_a_benchmark_of_a_suite_stands_where_the_suite_is_named(tmp_path: Path) -> None:
    said, file = complaint(tmp_path, LIMIT=f"3\n    data: {tmp_path}/no-rows")
    [number] = [n for n, text in enumerate(file.read_text().splitlines(), 1) if "no-rows" in text]
    assert said.startswith(f"{file}:{number}: benchmarks.1.data: benchmark hellaswag"), said


def test_suites_that_share_benchmarks_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="one score") as caught:
        expand_suites([{"suite": "forgetting"}, {"suite": "open-llm"}])
    said = str(caught.value)
    assert "named by suite 'forgetting' and by suite 'open-llm'" in said
    assert all(name in said for name in ("arc_challenge", "hellaswag", "winogrande"))
    with pytest.raises(ValueError, match="wit_seen: named by an entry of its own and by suite"):
        expand_suites([{"name": "wit_seen", "role": "report"}, {"suite": "embedded"}])


def test_what_the_refusal_advises_can_be_done(tmp_path: Path) -> None:
    second = tmp_path / "hellaswag_10.yaml"
    second.write_text("include: lm_eval/hellaswag/hellaswag.yaml\n")
    entry = {"name": "hellaswag_10", "role": "report", "num_fewshot": 10, "path": str(second)}
    assert len(expand_suites([{"suite": "forgetting"}, entry])) == 4
    row = {"activity_label": "A", "ctx_a": "B", "ctx_b": "c", "endings": ["d", "e"], "label": "1"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row) + "\n")
    found = [
        resolve_benchmark(name, path, data=rows)
        for name, path in (("hellaswag", None), ("hellaswag_10", second))
    ]
    assert found[0].fingerprint != found[1].fingerprint
    first, other = (list(read_items(benchmark, None)) for benchmark in found)
    assert [item.text for item in first] == [item.text for item in other]
