"""Files of judged sets: what is wrong with them is said before anything is made; suites of them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import wit
from planned_study import inputs_in, plan_of, study_in
from test_judge_questions import MT_BENCH, needs_mt_bench

from wit.config import Runtime, Study
from wit.errors import DataError
from wit.evaluation_recipes import JudgedPrompts
from wit.generation.questions import read_questions
from wit.judging.inputs import requests_of
from wit.judging.questions import read_references
from wit.judging.suites import SUITES, expand_judged, source_of, suite_names
from wit.loading import load_study
from wit.plan import make_plan

MATH = {"question_id": 7, "category": "math", "turns": ["One and one?", "And two?"]}
KEY = {"question_id": 7, "choices": [{"turns": ["2", "4"]}]}
ALPACA = {"instruction": "Name it.", "input": "A red fruit", "output": "Apple"}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def judged(
    folder: Path, questions: list[Any], known: list[Any], changes: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A study that has these judged."""
    values = study_in(folder)
    lines(folder / "questions.jsonl", *questions)
    lines(folder / "references.jsonl", *known)
    values["judged"][0] |= changes or {}
    return values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return inputs_in(tmp_path)


ONE, NAMELESS = {"question_id": 7, "choices": [{"turns": ["2"]}]}, {"choices": KEY["choices"]}
SAME = [{"instruction": "a", "output": "c"}] * 2
PAIRS = {"kind": "pairs"}
WRONG = [
    ([MATH], [], {"references": None}, r"questions\.jsonl:1: question 7 has no reference"),
    ([{"prompt": "a"}, MATH], [{**KEY, "question_id": 8}], {}, r"jsonl:2: question 7 has no"),
    ([MATH], [ONE], {}, r"questions\.jsonl:1: question 7: 2 turns are"),
    ([MATH], [NAMELESS], {}, r"references\.jsonl:1: 'question_id'"),
    ([MATH], [KEY, {"answer": "2"}], {}, r"references\.jsonl:2: .*no shape that is known"),
    ([{"prompt": "a"}, {"text": "?"}], [KEY], {}, r"questions\.jsonl:2: has none of the col"),
    ([{"prompts": ["a", "b", "c"]}], [KEY], {}, r"questions\.jsonl:1: question 1: has 3 turns"),
    ([MATH], [KEY], PAIRS, r"questions\.jsonl:1: question 7: has 2 turns; pairs"),
    ([{"prompt": "a"}, {"prompt": "b"}], SAME, PAIRS, r"questions\.jsonl:2: .*another prompt"),
    ([MATH, MATH], [KEY], {}, r"questions\.jsonl:2: id '7' is that of"),
    ([MATH], [KEY, KEY], {}, r"references\.jsonl:2: a second row named '7'"),
    ([MATH], [], {}, "holds no rows"),
]


@pytest.mark.parametrize(("questions", "references", "changes", "says"), WRONG)
def test_what_is_wrong_is_said_by_file_and_line_before_anything_is_made(
    folder: Path, questions: list[Any], references: list[Any], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=rf"judged\.0: .*{says}"):
        plan_of(judged(folder, questions, references, changes))


def test_what_is_not_asked_need_not_have_a_reference(folder: Path) -> None:
    values = judged(folder, [{"prompt": "Hi!"}, MATH], [], {"references": None, "num_prompts": 1})
    plan_of(values)
    values["judged"][0]["num_prompts"] = 2
    with pytest.raises(DataError, match=r"questions\.jsonl:2"):
        plan_of(values)


@pytest.mark.parametrize("name", ["samples", "sensitivity"])
def test_prompts_that_are_none_are_found_as_soon(folder: Path, name: str) -> None:
    values = study_in(folder)
    lines(Path(values[name]["path"]), {"prompt": "Hi!"}, {"prompt": 5})
    with pytest.raises(DataError, match=rf"{name}\.path: .*jsonl:2: 'prompt' is a int"):
        plan_of(values)


def test_the_command_ends_with_2_and_names_both_files(folder: Path) -> None:
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(judged(folder, [MATH], [{**KEY, "question_id": 8}])))
    for command in ("plan", "run"):
        root = folder / "root"
        ended = wit(command, study, "--set-runtime", f"artifact_root={root}")
        assert ended.returncode == 2
        [line] = [line for line in ended.stderr.splitlines() if "question 7" in line]
        assert f"{study}:" in line
        assert f"{folder / 'questions.jsonl'}:1: question 7 has no reference" in line
        assert not list(root.rglob("record.json"))


@pytest.mark.parametrize("changes", [{}, {"input": ""}, {"id": "apple"}])
def test_one_file_of_alpacas_rows_is_both_questions_and_references(tmp_path: Path, changes) -> None:
    """Rows with an input, and with an id, too."""
    file = lines(tmp_path / "both.jsonl", {**ALPACA, **changes}, {**ALPACA, "output": "Cherry"})
    references = read_references(file)
    for question in read_questions(file):
        assert references[question.id].prompts == question.prompts
    values = {"name": "a", "kind": "pairs", "role": "report", "path": str(file)}
    pairs = JudgedPrompts.model_validate({**values, "references": str(file)})
    requests = requests_of(pairs, file, max_response_tokens=2)
    assert len(requests) == 2 * 2
    has_input = "A red fruit" in requests[0].user
    assert has_input == (changes.get("input") != "")
    assert '"answer": """Apple"""' in requests[0].user
    assert '"answer": """........"""' in requests[0].user


# Suites


def judged_by_suite(folder: Path, **said: object) -> Study:
    return Study.model_validate({**study_in(folder), "judged": [{"suite": "paper", **said}]})


def test_every_entry_of_a_suite_is_a_judged_set_whose_files_have_pinned_sources() -> None:
    assert suite_names() == ["paper"]
    [first, second] = expand_judged([{"suite": "paper", "data": "/d"}])
    names = [JudgedPrompts.model_validate(entry).name for entry in (first, second)]
    assert names == ["alpaca_eval", "mt_bench"]
    for entry in (first, second):
        for key in ("path", "references"):
            source = source_of(Path(entry[key]))
            assert source is not None
            assert source.endswith(Path(entry[key]).name)
            assert "/blob/" not in source, "a page that shows the file"
            assert len([part for part in source.split("/") if len(part) == 40]) == 1
    assert source_of(Path("/d/other/question.jsonl")) is None
    assert source_of(Path("question.jsonl")) is None


def test_what_is_said_of_a_suite_holds_for_each_of_its_sets() -> None:
    own = {"name": "own"}
    said = {"role": "select", "num_prompts": 3, "max_new_tokens": 7}
    found = expand_judged([own, {"suite": "paper", "data": "/d", **said}])
    assert found[0] == own
    assert [entry | said for entry in found[1:]] == found[1:]
    assert found[2]["references"] == "/d/mt_bench/reference_answer/gpt-4.jsonl"
    again = expand_judged([{"suite": "paper", "data": "/d"}])
    assert "num_prompts" not in again[0]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"suite": "papers", "data": "/d"}, "'papers' has nothing to be judged.*: paper"),
        ({"suite": "paper"}, r"give 'data', .*alpaca_eval/alpaca_eval\.json \(https://hugg.*gpt-4"),
        ({"suite": "paper", "data": "/d", "kind": "pairs"}, "kind cannot be said of a whole suite"),
    ],
)
def test_a_suite_that_cannot_be_is_refused(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        expand_judged([entry])


@pytest.mark.parametrize("entries", [None, "paper", 3, [3, {"name": "a"}]])
def test_what_is_no_suite_is_left_to_the_study(entries: object) -> None:
    assert expand_judged(entries) == entries


def test_a_file_that_is_not_there_is_told_with_what_to_fetch_and_where_to_put_it(
    folder: Path,
) -> None:
    """The folder is meant from the study's own."""
    values = study_in(folder) | {"judged": [{"suite": "paper", "data": "judged"}]}
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(DataError) as complaint:
        make_plan(load_study(file), Runtime())
    missing = folder / "judged" / "alpaca_eval" / "alpaca_eval.json"
    pattern = rf"{file}:\d+: judged\.0\.path: {missing}: there is no such file; fetch https://hugg"
    assert re.match(pattern, str(complaint.value))


@needs_mt_bench
def test_with_its_files_there_the_papers_suite_is_asked_whole(folder: Path) -> None:
    data = folder / "data"
    (data / "mt_bench" / "reference_answer").mkdir(parents=True)
    (data / "alpaca_eval").mkdir()
    shutil.copy(MT_BENCH / "question.jsonl", data / "mt_bench")
    gpt_4 = data / "mt_bench" / "reference_answer" / "gpt-4.jsonl"
    shutil.copy(MT_BENCH / "reference_gpt-4.jsonl", gpt_4)
    (data / "alpaca_eval" / "alpaca_eval.json").write_text(json.dumps([ALPACA]))
    study = judged_by_suite(folder, data=str(data))
    names = {getattr(a.recipe, "name", "") for a in plan_of(study.model_dump()).base_evaluations}
    assert {"alpaca_eval", "mt_bench"} <= names
    mt_bench = study.judged[1]
    assert len(requests_of(mt_bench, Path(mt_bench.path), max_response_tokens=0)) == 160


def test_a_suite_of_judged_sets_is_one_of_benchmarks_too() -> None:
    """One name brings all that the paper asks: three benchmarks, and what a judge scores."""
    of_benchmarks = SUITES.parents[1] / "evaluation" / "suites"
    assert {f"{name}.yaml" for name in suite_names()} <= {
        file.name for file in of_benchmarks.iterdir()
    }
