"""What MLflow, tables and reports say of weights that another pair's models stand for."""

import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from tiny_study import STUDY, Plan, make, num_runs, plan

from wit import lineage
from wit.analysis.comparison import ComparedCell, compare
from wit.analysis.grid import summarise
from wit.analysis.replicates import replicates_in, shown_grid
from wit.analysis.report import Extras, write_report
from wit.analysis.scores import with_objectives
from wit.analysis.selection import recommend
from wit.analysis.summary import cells_table, markdown_summary
from wit.config import Study
from wit.display import show_comparison
from wit.lineage.store import open_store

VALUES = STUDY.model_dump(mode="json", exclude_none=True)
PAIRS = [(0, 0.5), (0.1, 0.5), (0, 1), (0.2, 1), (1, 1)]
WEIGHTS = [{"prompt": p, "response": r} for p, r in PAIRS]
WHOLE = Study.model_validate(VALUES | {"weights": WEIGHTS, "seeds": [0, 1]})
ONCE = WHOLE.model_copy(update={"dedupe": "rays"})
REPLICATES = {"p0-r1": "p0-r0.5", "p0.2-r1": "p0.1-r0.5"}
TRAINED = [WHOLE.weights[n] for n in (0, 1, 4)]


@pytest.fixture(scope="module")
def deduped(empty_store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, str, str]:
    """A finished study with replicates: its artifacts, the store and the version."""
    root = tmp_path_factory.mktemp("deduped")
    shutil.copy(empty_store, root / "mlflow.db")
    artifacts, uri = plan(root, ONCE), f"sqlite:///{root}/mlflow.db"
    run = lineage.start_study(ONCE, artifacts.all, uri)
    for artifact in artifacts.all:
        make(artifact, uri, run)
    lineage.end_study(run, uri, is_failed=False)
    return artifacts, uri, run.version


def compared(deduped: tuple[Plan, str, str]) -> dict[str, ComparedCell]:
    return {cell.cell: cell for cell in compare(lineage.table("tiny", deduped[1]))}


def test_the_table_has_every_cell_with_the_scores_of_its_objective(
    deduped: tuple[Plan, str, str],
) -> None:
    cells = compared(deduped)
    assert {*cells} == {"base", *(f"{w}-s{s}" for w in WHOLE.weights for s in WHOLE.seeds)}
    for name, cell in cells.items():
        first = REPLICATES.get(cell.weights)
        assert cell.replicate_of == (first and f"{first}-s{cell.seed}")
        if cell.replicate_of:
            assert cell.models == cells[cell.replicate_of].models
            assert name == f"p{cell.prompt_weight:g}-r{cell.response_weight:g}-s{cell.seed}"
    assert all(cell.models["dpo"].score is not None for cell in [*cells.values()][1:])


def test_a_replicate_follows_the_cell_that_it_is_of(deduped: tuple[Plan, str, str]) -> None:
    last = None
    for cell in compared(deduped).values():
        assert cell.replicate_of in (None, last)
        last = last if cell.replicate_of else cell.cell
    shown = StringIO()
    show_comparison(Console(file=shown, width=80), lineage.table("tiny", deduped[1]))
    lines = [line.split() for line in shown.getvalue().splitlines()]
    [place] = [n for n, line in enumerate(lines) if line[:1] == ["p0.1-r0.5-s1"]]
    assert lines[place + 1] == ["=", "p0.2-r1-s1", *lines[place][1:]]
    assert "not trained" in shown.getvalue()


def test_no_statistic_counts_a_replicate(deduped: tuple[Plan, str, str]) -> None:
    """Scores that are the same twice would pass for runs without noise."""
    table = lineage.table("tiny", deduped[1])
    assert set(table.weights) == {"base", *map(str, TRAINED)}
    plain = table.copy()
    plain.attrs = {}
    alone = ONCE.model_copy(update={"weights": tuple(TRAINED)})
    grid = summarise(with_objectives(table, ONCE))
    assert grid == summarise(with_objectives(plain, alone))
    assert recommend(table) == recommend(plain)
    shown = shown_grid(grid, replicates_in(table))
    assert shown.dpo.best == grid.dpo.best
    assert {c.weights: c.replicate_of for c in shown.sft.cells if c.replicate_of} == REPLICATES
    assert len(shown.sft.cells) == len(PAIRS)
    for cell in shown.dpo.cells:
        trained = grid.dpo.cell(cell.replicate_of or cell.weights)
        assert trained is not None
        assert (cell.score, cell.half_width) == (trained.score, trained.half_width)


def test_report_summary_and_files_mark_them(deduped: tuple[Plan, str, str], tmp_path: Path) -> None:
    _, uri, version = deduped
    table = lineage.table("tiny", uri)
    page = write_report(table, ONCE, Extras(), tmp_path / "report.html").read_text()
    assert "2 of the pairs were not trained" in page
    assert "not trained: as p0-r0.5" in page
    assert "p0.2-r1-s0 = p0.1-r0.5-s0" in markdown_summary(table, tmp_path, uri, ONCE)
    rows = {row["cell"]: row for row in cells_table(table)}
    assert rows["p0-r1-s1"]["same objective as"] == "p0-r0.5-s1"
    assert rows["p1-r1-s1"]["same objective as"] is None
    [study] = lineage.study_versions("tiny", uri)
    assert study.version == version
    client = open_store(uri).client
    listed = client.download_artifacts(study.run_id, "cells.json", str(tmp_path))
    assert json.loads(Path(listed).read_text())["replicates"] == REPLICATES


def test_a_replicate_that_no_map_can_show_is_named_below_them(
    deduped: tuple[Plan, str, str], tmp_path: Path
) -> None:
    table = lineage.table("tiny", deduped[1])
    table.attrs["replicates"] = {"p0-r1-template0.5": "p0-r0.5"}
    page = write_report(table, None, Extras(), tmp_path / "report.html").read_text()
    assert "has weights of its own in p0-r1-template0.5." in page


def test_without_it_the_same_cells_are_reused_and_it_is_another_version(
    deduped: tuple[Plan, str, str], tmp_path: Path
) -> None:
    artifacts, uri, version = deduped
    root = shutil.copytree(artifacts.data[0].root, tmp_path / "again")
    uri = f"sqlite:///{root}/mlflow.db"
    whole = plan(root, WHOLE)
    missing = [artifact for artifact in whole.all if not artifact.exists()]
    cells = {(a.stage, json.dumps(a.recipe.model_dump(mode="json"))) for a in missing}
    assert len([stage for stage, _ in cells if stage == "sft"]) == 2 * 2  # replicates and seeds
    assert {a.fingerprint for a in artifacts.all} == {
        a.fingerprint for a in whole.all if a.exists()
    }
    run = lineage.start_study(WHOLE, whole.all, uri)
    assert run.version != version
    before = num_runs(uri)
    lineage.link(whole.all, run, uri)
    for artifact in missing:
        make(artifact, uri, run)
    lineage.end_study(run, uri, is_failed=False)
    assert num_runs(uri) == before + len(missing)
    cells = compare(lineage.table("tiny", uri, version=run.version))
    assert len(cells) == 1 + len(PAIRS) * 2
    assert not [cell for cell in cells if cell.replicate_of]


def test_a_study_of_the_trained_weights_alone_is_another_version(uri: str, root: Path) -> None:
    """Its artifacts are the same ones, and its table is another."""
    artifacts = plan(root, ONCE)
    alone = ONCE.model_copy(update={"weights": tuple(TRAINED)})
    assert [a.fingerprint for a in plan(root, alone).all] == [a.fingerprint for a in artifacts.all]
    versions = {lineage.start_study(s, artifacts.all, uri).version for s in (ONCE, alone)}
    assert len(versions) == 2
    # Where no two weights are one objective there is nothing to tell apart.
    plain = alone.model_copy(update={"dedupe": "none"})
    assert lineage.start_study(plain, artifacts.all, uri).version in versions
