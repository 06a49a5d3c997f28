from pathlib import Path

import pytest

from wit.errors import ConfigError
from wit.evaluation.benchmark_files import local_data_files
from wit.evaluation.catalogue import SHIPPED, resolve_benchmark

YAML = """
task: quiz
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl, train: [rows.jsonl]}}
process_docs: !function code.only_easy
"""


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "code.py").write_text("def only_easy(docs): return docs\n")
    (tmp_path / "base.yaml").write_text("metadata: {wit: {chat: false}}\noutput_type: generate\n")
    path = tmp_path / "quiz.yaml"
    path.write_text("include: base.yaml\n" + YAML)
    return path


def test_every_shipped_benchmark_is_found_by_its_name_with_its_data():
    names = [path.stem for path in SHIPPED.glob("*.yaml")]
    assert names
    for name in names:
        benchmark = resolve_benchmark(name)
        assert benchmark.yaml_path == SHIPPED / f"{name}.yaml"
        if name.startswith("wit_"):  # the others ask rows of the hub, or of a study's 'data'
            assert any(file.suffix == ".jsonl" for file in benchmark.files)


def test_a_path_has_precedence_and_files_are_seen_from_it(quiz, monkeypatch):
    monkeypatch.chdir("/")
    benchmark = resolve_benchmark("wit_seen", quiz)
    assert benchmark.yaml_path == quiz
    names = {file.name for file in benchmark.files}
    assert names == {"quiz.yaml", "base.yaml", "rows.jsonl", "code.py"}
    rows = str(quiz.parent / "rows.jsonl")
    assert local_data_files(quiz) == {"test": [rows], "train": [rows]}


@pytest.mark.parametrize("name", ["quiz.yaml", "base.yaml", "rows.jsonl", "code.py"])
def test_the_fingerprint_follows_every_file(quiz, name):
    before = resolve_benchmark("quiz", quiz).fingerprint
    assert resolve_benchmark("quiz", quiz).fingerprint == before
    file = quiz.parent / name
    file.write_text(file.read_text() + "\n")
    assert resolve_benchmark("quiz", quiz).fingerprint != before


def test_a_benchmark_is_chat_unless_its_file_or_an_included_one_says_no(quiz):
    assert not resolve_benchmark("quiz", quiz).is_chat
    quiz.write_text(YAML)
    assert resolve_benchmark("quiz", quiz).is_chat
    quiz.write_text("include: base.yaml\nmetadata: {wit: {chat: true}}\n" + YAML)
    assert resolve_benchmark("quiz", quiz).is_chat


def test_lm_evals_own_tasks_and_groups_are_found_without_importing_it():
    assert resolve_benchmark("arc_easy").yaml_path.name == "arc_easy.yaml"
    assert "utils.py" in {file.name for file in resolve_benchmark("ifeval").files}
    assert resolve_benchmark("mmlu").yaml_path.parent.name == "default"


def test_an_unknown_name_lists_what_is_known_and_what_is_close():
    with pytest.raises(ConfigError, match=r"'wit_sen' is unknown.*'wit_seen'.*wit_choice, "):
        resolve_benchmark("wit_sen")
    with pytest.raises(ConfigError, match="'arc_easy'"):
        resolve_benchmark("arc_eazy")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (YAML.replace("rows.jsonl", "lost.jsonl"), "lost.jsonl does not exist"),
        ("task: [", "not YAML"),
        ("- task", "mapping"),
        ("include: lost.yaml\n" + YAML, "lost.yaml: the benchmark cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(quiz, text, complaint):
    quiz.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        resolve_benchmark("quiz", quiz)
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        resolve_benchmark("quiz", quiz.parent / "gone.yaml")


def test_files_that_include_each_other_end(quiz):
    (quiz.parent / "base.yaml").write_text("include: quiz.yaml\n")
    assert len(resolve_benchmark("quiz", quiz).files) == 4
