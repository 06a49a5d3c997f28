"""docs/querying.md: every block is run as it stands, on a store of a finished study."""

import re
from pathlib import Path
from typing import Any

import mlflow
import pytest
from commands import wit
from tiny_grid import GRID, grid_in
from tiny_study import STUDY, fail, make, make_without_lineage, plan

from wit import lineage

PAGE = (Path(__file__).parents[3] / "docs" / "querying.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```([\w-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The page speaks of the quickstart; a study of the same form takes seconds.
NAMES = {"quickstart": STUDY.name, "wit_unseen": "unseen"}
FIRST, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)


def blocks(section: str, language: str) -> list[str]:
    found = [code for kind, code in BLOCK.findall(section) if kind == language]
    for here, there in NAMES.items():
        found = [code.replace(here, there) for code in found]
    return found


@pytest.fixture(scope="module")
def store(empty_store, tmp_path_factory):
    """The finished study, and another one whose DPO training failed."""
    root = tmp_path_factory.mktemp("queried")
    (root / "mlflow.db").write_bytes(empty_store.read_bytes())
    uri = f"sqlite:///{root}/mlflow.db"
    artifacts = plan(root)
    run = lineage.start_study(STUDY, artifacts.all, uri)
    *others, last = artifacts.all
    for artifact in others:
        make(artifact, uri, run)
    fail(last, uri, "the loss is not finite", run)
    lineage.end_study(run, uri, is_failed=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield artifacts, uri
        mlflow.set_tracking_uri(None)  # what the page sets is in the environment too


def answer(section: str) -> dict[str, Any]:
    """Names that the blocks of a section leave behind, and what they print."""
    printed: list[Any] = []
    names: dict[str, Any] = {"print": lambda *what: printed.extend(what), "printed": printed}
    for code in blocks(FIRST, "python") + blocks(section, "python"):
        exec(compile(code, "docs/querying.md", "exec"), names)
    return names


def section(number: int) -> str:
    return next(found for found in SECTIONS if found.startswith(f"{number}. "))


def test_there_are_ten_questions():
    assert [found.split(".")[0] for found in SECTIONS[:10]] == [str(n) for n in range(1, 11)]


@pytest.mark.parametrize("number", range(1, 11))
def test_every_block_runs_and_every_filter_finds_runs(store, number):
    answer(section(number))
    ids = [mlflow.get_experiment_by_name("wit").experiment_id]
    for condition in blocks(section(number), "filter"):
        assert mlflow.search_runs(ids, condition.strip(), output_format="list"), condition
    for condition in blocks(section(number), "filter-models"):
        found = mlflow.search_logged_models(
            ids, filter_string=condition.strip(), output_format="list"
        )
        assert found, condition


def test_the_answers_are_those_of_the_study(store):
    artifacts, _ = store
    pivot = answer(section(2))["dpo"].pivot_table("score", "weights", "benchmark")
    assert list(pivot.index) == ["p0-r1"]  # the other cell's evaluation failed
    models = answer(section(3))["models"]
    assert {m.tags["wit.fingerprint"] for m in models} == {a.fingerprint for a in artifacts.dpo}
    assert len(answer(section(6))["descendants"]) == 9
    runs = answer(section(7))["failed"]
    failed = {run.info.run_name: run.data.tags.get("wit.error") for run in runs}
    assert failed == {"study tiny": None, "unseen dpo p0.2-r1-s0": "the loss is not finite"}
    assert [point.step for point in answer(section(8))["curve"]] == [1, 2, 3, 4, 5]
    assert len(answer(section(10))["cells"]) == len(artifacts.all)


def test_models_of_several_alignments_make_no_mean(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = grid_in(tmp_path)
    run = lineage.start_study(GRID, grid.artifacts, uri)
    make_without_lineage(grid.artifacts)
    lineage.link(grid.artifacts, run, uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    [pivot] = answer(section(2))["printed"]
    weights = ("p0-r1", "p0.2-r1")
    assert {*pivot.index} == {(name, pair) for name in ("plain", "other") for pair in weights}
    assert answer(section(9))["study"].relation.num_cells == 2
    mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("command", [c for s in SECTIONS for c in blocks(s, "sh")])
def test_every_command_answers(store, command):
    artifacts, uri = store
    words = command.split()
    assert words[0] == "wit"
    words = [artifacts.sft[0].fingerprint if word == "FINGERPRINT" else word for word in words[1:]]
    place = ["--set-runtime", f"artifact_root={uri[10:-10]}"]
    found = wit(*words, *place, environment={"COLUMNS": "100"})
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip()
