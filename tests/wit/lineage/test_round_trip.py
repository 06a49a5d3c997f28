"""From any fingerprint up to the data and down to the scores, on SQLite and on PostgreSQL."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny_study import BASE, STUDY, Plan, make, make_without_lineage, plan, runs, scores_of, write

from wit import lineage
from wit.artifacts import Artifact
from wit.lineage.place import EXPERIMENT
from wit.lineage.reader import as_row, find_runs, tag
from wit.lineage.store import open_store


class Shared(NamedTuple):
    """A study that was killed in every training, and a smaller one that reuses half of it."""

    uri: str
    artifacts: Plan  # of the larger
    larger: str
    smaller: str


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request, empty_store, tmp_path_factory) -> Shared:
    """On an SQLite file, then on a server with PostgreSQL behind it."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        shutil.copy(empty_store, folder / "mlflow.db")
        return studies_that_share(folder, f"sqlite:///{folder}/mlflow.db")
    return studies_that_share(folder, request.getfixturevalue("postgresql_server"))


def killed_and_resumed(artifact: Artifact, uri: str, study: lineage.StudyRun) -> None:
    artifact.scratch.mkdir(parents=True)
    killed = lineage.tracked(artifact, study, uri).__enter__()  # never left: what SIGKILL leaves
    killed.log({"loss": 1.0}, 1)
    killed._attempt(killed._flush)
    with lineage.tracked(artifact, study, uri) as resumed, artifact.writing() as directory:
        assert resumed.run_id == killed.run_id
        write(artifact, directory)


def studies_that_share(root: Path, uri: str) -> Shared:
    larger = STUDY.model_copy(update={"name": "larger"})
    smaller = STUDY.model_copy(update={"name": "smaller", "weights": STUDY.weights[:1]})
    artifacts, fewer = plan(root, larger), plan(root, smaller)
    run = lineage.start_study(larger, artifacts.all, uri)
    for artifact in artifacts.all:
        act = killed_and_resumed if artifact.stage in ("sft", "dpo") else make
        act(artifact, uri, run)
    lineage.end_study(run, uri, is_failed=False)
    run = lineage.start_study(smaller, fewer.all, uri)
    lineage.link(fewer.all, run, uri)
    lineage.end_study(run, uri, is_failed=False)
    return Shared(uri, artifacts, larger.name, smaller.name)


def test_from_any_fingerprint_up_to_the_data_and_down_to_the_scores(shared):
    uri, artifacts, larger, smaller = shared
    evaluation_of = {e.parents["model"].fingerprint: e for e in artifacts.evaluations}
    for number in (0, 1):
        sft, dpo = artifacts.sft[number], artifacts.dpo[number]
        node = lineage.lineage(sft.fingerprint, uri)
        assert node.parents["base"].fingerprint == BASE.fingerprint
        rows = node.parents["instructions"]
        assert rows.parents["rows"].location == "rows.jsonl"
        assert rows.parents["tokenizer"].fingerprint == artifacts.data[0].fingerprint
        below = {child.fingerprint: child for child in node.children}
        assert below.keys() == {dpo.fingerprint, evaluation_of[sft.fingerprint].fingerprint}
        [aligned] = below[dpo.fingerprint].children
        wanted = scores_of(evaluation_of[dpo.fingerprint]).scores[0]
        assert aligned.scores["unseen"] == wanted.value
        assert node.studies == ((larger, smaller) if number == 0 else (larger,))
        upward = lineage.lineage(aligned.fingerprint, uri)
        policy = upward.parents["model"].parents["policy"]
        assert policy.fingerprint == sft.fingerprint
        assert policy.parents["instructions"].fingerprint == rows.fingerprint
    everything = lineage.lineage(BASE.fingerprint, uri)

    def names(node: lineage.Node) -> set[str]:
        return {child.fingerprint for child in node.children}.union(*map(names, node.children))

    assert names(everything) == {artifact.fingerprint for artifact in artifacts.all}


def test_each_artifact_has_one_run_and_each_study_its_own_table(shared):
    uri, artifacts, larger, smaller = shared
    ours = {artifact.fingerprint for artifact in artifacts.all}
    found = [
        run
        for run in open_store(uri).search("tags.`wit.fingerprint` LIKE '%'")
        if run.data.tags["wit.fingerprint"] in ours
    ]
    assert len(found) == len(ours)
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len(lineage.table(larger, uri)) == 5 * 4
    table = lineage.table(smaller, uri)
    assert len(table) == 3 * 4
    assert set(table.cell) == {"base", "p0-r1-s0"}
    assert set(table.status) == {"finished"}


def test_the_run_on_top_lists_every_cell_with_its_runs_and_models(shared, tmp_path):
    uri, artifacts, larger, _ = shared
    [study] = lineage.study_versions(larger, uri)
    client = open_store(uri).client
    listed = client.download_artifacts(study.run_id, "cells.json", str(tmp_path))
    cells = json.loads(Path(listed).read_text())["cells"]
    found = runs(uri)
    assert {cell["fingerprint"]: cell["run_id"] for cell in cells} == {
        artifact.fingerprint: found[artifact.fingerprint].info.run_id for artifact in artifacts.all
    }
    models = {cell["fingerprint"] for cell in cells if cell["model_id"]}
    assert models == {a.fingerprint for a in [*artifacts.sft, *artifacts.dpo]}
    assert study.num_cells == 2


def test_reading_the_tables_gives_what_mlflow_gives(finished):
    uri = finished[1]
    store = open_store(uri)
    expected = [as_row(run) for run in store.search("attributes.status = 'FINISHED'")]
    assert len(expected) > 10
    found = find_runs(uri)
    assert sorted(found) == sorted(expected)
    sft = find_runs(uri, tag("wit.stage", "sft"), tag("wit.cell", "p0.2%"))
    assert [run.name for run in sft] == ["sft p0.2-r1-s0"]


def test_a_database_can_be_asked_without_its_server(shared, request):
    if not shared.uri.startswith("http"):
        pytest.skip("it has no server")
    database, drop = request.getfixturevalue("database"), ["run_url"]
    by_server = lineage.table(shared.larger, shared.uri).drop(columns=drop)
    assert lineage.table(shared.larger, database).drop(columns=drop).equals(by_server)
    fingerprint = shared.artifacts.sft[0].fingerprint
    by_server = lineage.lineage(fingerprint, shared.uri)
    assert lineage.lineage(fingerprint, database) == by_server


def test_runs_of_other_programs_and_deleted_ones_are_not_seen(uri, tmp_path):
    artifacts = plan(tmp_path).data
    make_without_lineage(artifacts)
    lineage.link(artifacts, lineage.start_study(STUDY, artifacts, uri), uri)
    client = open_store(uri).client
    client.delete_run(find_runs(uri, tag("wit.stage", "tokenizer"))[0].run_id)
    elsewhere = client.create_experiment("elsewhere")
    client.create_run(elsewhere, tags={"wit.stage": "instructions"})
    assert client.get_experiment_by_name(EXPERIMENT).experiment_id != elsewhere
    assert len(find_runs(uri, tag("wit.stage", "%"))) == 3  # two data sets and the study
