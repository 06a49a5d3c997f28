"""Several alignments in MLflow: each row of the table is of one model, and says how it was made."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import yaml
from tiny_grid import GRID, IPO, VALUES, Grid, grid_in
from tiny_study import STUDY, fail, make, make_without_lineage, runs
from tiny_study import plan as plan_of_one

from wit import lineage
from wit.alignment_recipes import DPOKnobs, DPORecipe, ReferenceRecipe
from wit.artifacts import Artifact
from wit.config import Study
from wit.evaluation_recipes import BenchmarkEvaluation, BenchmarkRecipe
from wit.lineage.cells import (
    MAX_CELLS_LENGTH,
    alignments_of,
    cell_tags,
    model_columns,
    named_by,
)
from wit.lineage.headline import result_of
from wit.lineage.reader import RunRow
from wit.lineage.score_table import table_of_artifacts
from wit.lineage.store import open_store


class Made(NamedTuple):
    """The grid at its end, and the store that knows it."""

    grid: Grid
    uri: str


def made_in(root: Path, uri: str) -> Made:
    grid = grid_in(root)
    run = lineage.start_study(GRID, grid.artifacts, uri)
    make_without_lineage(grid.artifacts)
    lineage.link(grid.artifacts, run, uri)
    lineage.end_study(run, uri, is_failed=False)
    return Made(grid, uri)


@pytest.fixture(scope="module")
def made(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Read it, do not write to it."""
    root = tmp_path_factory.mktemp("grid")
    return made_in(root, f"sqlite:///{shutil.copy(empty_store, root / 'mlflow.db')}")


def models_of(table: pd.DataFrame) -> dict[str, set[str]]:
    """Fingerprints by alignment."""
    return {str(name): set(rows.fingerprint) for name, rows in table.groupby("alignment")}


def test_every_row_is_of_the_alignment_of_its_model(made: Made) -> None:
    table = lineage.table("tiny", made.uri)
    assert models_of(table) == {
        "plain": {model.fingerprint for model in made.grid.plain},
        "other": {model.fingerprint for model in made.grid.other},
    }
    assert len(table) == 7 * 4  # base, 2 SFT and 4 DPO models; 4 scores of each
    known = table.set_index("alignment")
    assert set(known.loc["plain"].objective) == {"dpo"}
    assert set(known.loc["plain"].beta) == {0.1}
    assert set(known.loc["other"].objective) == {"ipo"}
    assert set(known.loc["other"].beta) == {0.3}
    for row in table.loc[table.stage != "dpo"].to_dict("records"):
        assert all(pd.isna(row[name]) for name in ("alignment", "objective", "beta"))
    assert table.alignment.dropna().unique().tolist() == ["plain", "other"]


def test_one_query_finds_all_that_is_of_an_objective_and_beta(made: Made) -> None:
    found = open_store(made.uri).search("params.objective = 'ipo' AND params.beta = '0.3'")
    wanted = {a.fingerprint for a in (*made.grid.other, *made.grid.other_evaluations)}
    assert {run.data.tags["wit.fingerprint"] for run in found} == wanted
    names = {run.info.run_name for run in found}
    assert {"dpo p0-r1-s0 ipo beta 0.3", "unseen dpo p0-r1-s0 ipo beta 0.3"} <= names


def test_the_table_is_the_same_while_mlflow_is_down(made: Made) -> None:
    drop = ["run_id", "run_url"]
    found = table_of_artifacts(GRID, made.grid.artifacts, [])
    assert found.drop(columns=drop).equals(lineage.table("tiny", made.uri).drop(columns=drop))


def test_each_study_has_its_own_names_for_one_model(uri: str, tmp_path: Path) -> None:
    grid, _ = made_in(tmp_path, uri)
    named = {"name": "second", "alignments": {"mine": IPO, "yours": {}}}
    second = Study.model_validate(VALUES | named)
    lineage.link(grid.artifacts, lineage.start_study(second, grid.artifacts, uri), uri)
    first, other = models_of(lineage.table("tiny", uri)), models_of(lineage.table("second", uri))
    assert other == {"mine": first["other"], "yours": first["plain"]}
    assert len(runs(uri)) == len(grid.artifacts)


def test_mlflow_keeps_the_study_with_its_main_alignment(made: Made, tmp_path: Path) -> None:
    """By the alphabet, that would be the other one."""
    store = open_store(made.uri)
    [run] = store.search("tags.`wit.stage` = 'study'")
    file = store.client.download_artifacts(run.info.run_id, "study.yaml", str(tmp_path))
    kept = Study.model_validate(yaml.safe_load(Path(file).read_text()))
    assert kept == GRID
    assert [*kept.aligned_by] == ["plain", "other"]


def test_a_study_of_another_main_alignment_is_another_version(uri: str, tmp_path: Path) -> None:
    grid = grid_in(tmp_path)
    plain, other = GRID.alignments["plain"], GRID.alignments["other"]
    named: list[dict[str, DPOKnobs]] = [
        {"plain": plain, "other": other},
        {"other": other, "plain": plain},
        {"plain": other, "other": plain},
        {"usual": plain, "other": other},
    ]
    studies = [GRID.model_copy(update={"alignments": alignments}) for alignments in named]
    started = [lineage.start_study(study, grid.artifacts, uri) for study in studies]
    assert len({run.version for run in started}) == len(named)
    assert lineage.start_study(GRID, grid.artifacts, uri) == started[0]
    for study, run in zip(studies, started, strict=True):
        table = lineage.table("tiny", uri, version=run.version)
        assert table.alignment.dropna().unique().tolist() == [*study.alignments]


def test_a_single_alignment_is_the_same_study_whatever_it_is_called(uri: str, tmp_path: Path):
    artifacts = plan_of_one(tmp_path).all
    named = [STUDY, *(STUDY.model_copy(update={"alignments": {n: STUDY.dpo}}) for n in "ab")]
    assert len({lineage.start_study(study, artifacts, uri) for study in named}) == 1


def test_a_model_that_fails_fails_in_its_own_alignment(uri: str, tmp_path: Path) -> None:
    grid = grid_in(tmp_path)
    run = lineage.start_study(GRID, grid.artifacts, uri)
    fail(grid.other[1], uri, "loss is not finite", run)
    table = lineage.table("tiny", uri)
    status = table[table.stage == "dpo"].set_index(["cell", "alignment"]).status.to_dict()
    assert status == {
        ("p0-r1-s0", "plain"): "missing",
        ("p0-r1-s0", "other"): "missing",
        ("p0.2-r1-s0", "plain"): "missing",
        ("p0.2-r1-s0", "other"): "failed",
    }
    fail(plan_of_one(tmp_path).sft[0], uri, "it broke", run)
    table = lineage.table("tiny", uri)
    blocked = table[(table.cell == "p0-r1-s0") & (table.stage == "dpo")]
    assert blocked.status.tolist() == ["blocked", "blocked"]


def test_a_reference_that_fails_blocks_those_that_read_it(uri: str, tmp_path: Path) -> None:
    simpo = {"plain": {}, "simpo": {"objective": "simpo"}}
    study = Study.model_validate(VALUES | {"alignments": simpo})
    of_one = plan_of_one(tmp_path)
    reference = Artifact(root=tmp_path, recipe=ReferenceRecipe(), parents=of_one.dpo[0].parents)
    run = lineage.start_study(study, [*of_one.all, reference], uri)
    fail(reference, uri, "not finite", run)
    table = lineage.table("tiny", uri)
    first = table[(table.cell == "p0-r1-s0") & (table.stage == "dpo")].set_index("alignment")
    assert first.status.to_dict() == {"plain": "blocked", "simpo": "missing"}


def test_a_reference_that_fails_blocks_nobody_who_reads_another(uri: str, tmp_path: Path) -> None:
    """KTO reads one of its own besides; a mixture reads what any of its terms does."""
    named: dict[str, Any] = {
        "dpo": {},
        "kto": {"objective": "kto"},
        "half": {"precision": "bfloat16"},
        "mixed": {"objective": "simpo", "loss_weights": {"simpo": 1, "dpo": 0.5}},
    }
    study = Study.model_validate(VALUES | {"alignments": named})
    of_one = plan_of_one(tmp_path)
    own, other = ReferenceRecipe(), ReferenceRecipe(responses="mismatched")
    references = [
        Artifact(root=tmp_path, recipe=recipe, parents=dpo.parents)
        for recipe, dpo in zip((own, other), of_one.dpo, strict=True)
    ]
    run = lineage.start_study(study, [*of_one.all, *references], uri)
    for reference in references:
        fail(reference, uri, "not finite", run)
    table = lineage.table("tiny", uri)
    blocked = table[(table.stage == "dpo") & (table.status == "blocked")]
    assert blocked.groupby("cell").alignment.unique().map(list).to_dict() == {
        "p0-r1-s0": ["dpo", "kto", "mixed"],
        "p0.2-r1-s0": ["kto"],
    }


def test_tags_that_an_older_wit_wrote_are_read() -> None:
    """They do not say which references are read."""
    tags = {"wit.alignments": "plain:0123456789ab:dpo:0.1 simpo:ba9876543210:simpo:2.0 "}
    plain, simpo = alignments_of(RunRow("1", "study", "FINISHED", {}, tags, {}))
    assert (plain.name, plain.identity, plain.objective, plain.beta) == (
        *("plain", "0123456789ab", "dpo"),
        0.1,
    )
    reference = RunRow("2", "", "FAILED", {"responses": "own"}, {"wit.stage": "reference"}, {})
    assert plain.reads(reference)
    assert not simpo.reads(reference)
    assert not plain.reads(reference._replace(tags={"wit.stage": "dpo"}))


def test_alignments_that_look_alike_are_named_in_runs_and_models(uri: str, tmp_path: Path) -> None:
    slow = {"learning_rate": 1e-6}
    named = {"fast": {}, "slow": slow, "other": IPO}
    study = Study.model_validate(VALUES | {"alignments": named})
    of_one = plan_of_one(tmp_path)
    first, measured = of_one.dpo[0], of_one.evaluations[-1]
    made = [
        Artifact(
            root=tmp_path,
            recipe=DPORecipe.model_validate({**knobs.model_dump(), "seed": 0}),
            parents=first.parents,
        )
        for knobs in study.alignments.values()
    ]
    parents = {**measured.parents, "model": made[1]}
    evaluation = Artifact(root=tmp_path, recipe=measured.recipe, parents=parents)
    run = lineage.start_study(study, [*made, evaluation], uri)
    make_without_lineage([of_one.data[2], of_one.sft[0], *made, evaluation])
    lineage.link([*made, evaluation], run, uri)
    lineage.end_study(run, uri, is_failed=False)
    store, found = open_store(uri), runs(uri)
    names = [found[artifact.fingerprint].info.run_name for artifact in (*made, evaluation)]
    assert names == [
        "dpo p0-r1-s0 fast",
        "dpo p0-r1-s0 slow",
        "dpo p0-r1-s0 ipo beta 0.3",
        "unseen dpo p0-r1-s0 slow",
    ]
    models = store.client.search_logged_models([store.experiment_id])
    assert {model.name for model in models} >= {"dpo-p0-r1-s0-fast", "dpo-p0-r1-s0-slow"}


def test_the_list_of_cells_says_how_each_model_was_aligned(made: Made, tmp_path: Path) -> None:
    store = open_store(made.uri)
    [study] = store.search("tags.`wit.stage` = 'study'")
    file = store.client.download_artifacts(study.info.run_id, "cells.json", str(tmp_path))
    cells = json.loads(Path(file).read_text())["cells"]
    said = {c["fingerprint"]: (c["alignment"], c["objective"], c["beta"]) for c in cells}
    for artifacts, wanted in (
        (made.grid.plain, ("plain", "dpo", "0.1")),
        (made.grid.other, ("other", "ipo", "0.3")),
        (made.grid.other_evaluations, ("other", "ipo", "0.3")),
        (plan_of_one(made.grid.plain[0].root).sft, ("", "", "")),
    ):
        assert {said[artifact.fingerprint] for artifact in artifacts} == {wanted}


def test_cells_are_counted_by_all_their_alignments(made: Made) -> None:
    """The first alignment is there; the other one failed."""
    table = lineage.table("tiny", made.uri)
    is_broken = (table.alignment == "other") & (table.cell == "p0-r1-s0")
    table.loc[is_broken, "status"] = "failed"
    found = result_of(table, GRID).figures
    names = ("cells_planned", "cells_finished", "cells_failed")
    assert [found[name] for name in names] == [2, 1, 1]


def test_a_failed_evaluation_stands_with_its_model(uri: str, tmp_path: Path) -> None:
    grid = grid_in(tmp_path)
    measured = grid.other_evaluations[1]
    recipe = BenchmarkEvaluation(benchmark=BenchmarkRecipe.of(STUDY.benchmarks[1]))
    broken = Artifact(root=tmp_path, recipe=recipe, parents=measured.parents)
    run = lineage.start_study(GRID, [*grid.artifacts, broken], uri)
    for artifact in (*grid.artifacts[:5], *grid.other, measured):
        make(artifact, uri, run)
    fail(broken, uri, "no memory", run)
    table = lineage.table("tiny", uri)
    [row] = table.loc[table.status == "failed"].to_dict("records")
    assert (row["cell"], row["alignment"], row["objective"]) == ("p0.2-r1-s0", "other", "ipo")
    assert row["error"].endswith("no memory")
    assert (table[table.fingerprint == row["fingerprint"]].status == "finished").sum() == 4


def test_a_run_that_says_nothing_of_alignments_has_one() -> None:
    params = {"dpo.objective": "ipo", "dpo.beta": "0.3"}
    [found] = alignments_of(RunRow("1", "study", "FINISHED", params, {}, {}))
    assert (found.name, found.objective, found.beta) == ("dpo", "ipo", 0.3)
    [oldest] = alignments_of(RunRow("1", "study", "FINISHED", {}, {}, {}))
    assert (oldest.name, oldest.objective, oldest.beta) == ("dpo", None, None)


def test_a_model_of_an_older_wit_is_of_the_only_alignment() -> None:
    """Its run says none, or one by the knobs that there were then."""
    params = [{"model_stage": "dpo"}, {"model_stage": "dpo", "alignment": "0123456789ab"}]
    for study, names in ((STUDY, ["dpo", "dpo"]), (GRID, ["unknown", "0123456789ab"])):
        tags = {"wit.study_name": "tiny", **cell_tags(study)}
        top = RunRow("1", "study", "FINISHED", {}, tags, {})
        of_runs = [RunRow("2", "", "FINISHED", p, {"wit.cell": "p0-r1-s0"}, {}) for p in params]
        assert [model_columns("tiny", run, named_by(top))["alignment"] for run in of_runs] == names


def test_many_alignments_fit_into_tags() -> None:
    named = {f"alignment-with-a-long-name-{n}": {"beta": 1 + n} for n in range(300)}
    study = Study.model_validate(VALUES | {"alignments": named})
    tags = cell_tags(study)
    assert max(map(len, tags.values())) <= MAX_CELLS_LENGTH + 100
    found = alignments_of(RunRow("1", "study", "RUNNING", {}, tags, {}))
    assert [one.name for one in found] == [*named]
    assert [one.beta for one in found] == [knobs.beta for knobs in study.alignments.values()]
