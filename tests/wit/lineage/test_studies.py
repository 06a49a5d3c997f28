"""A study owns runs by tags: reuse, resume, other versions, lost stores, a real server."""

import shutil
import urllib.request

from tiny_study import BASE, STUDY, make, make_without_lineage, num_runs, plan, runs

from wit import lineage
from wit.lineage.reader import find_runs, tag
from wit.lineage.store import open_store


def test_reuse_adds_a_tag_and_no_run(uri, tmp_path):
    artifacts = plan(tmp_path)
    other = STUDY.model_copy(update={"name": "other"})
    run = lineage.start_study(STUDY, artifacts.all, uri)
    for artifact in artifacts.data:
        make(artifact, uri, run)
    reusing = lineage.start_study(other, artifacts.all, uri)
    before = num_runs(uri)
    lineage.link(artifacts.all, reusing, uri)
    lineage.link(artifacts.all, reusing, uri)
    assert num_runs(uri) == before
    for run in runs(uri).values():
        assert {"wit.study.tiny", "wit.study.other"} <= run.data.tags.keys()


def test_a_study_is_resumed_while_it_is_the_same_and_owns_what_it_made_first(uri, tmp_path):
    artifacts = plan(tmp_path)
    first = lineage.start_study(STUDY, artifacts.all, uri)
    make(artifacts.data[0], uri, first)
    assert lineage.start_study(STUDY, artifacts.all, uri) == first
    changed = lineage.start_study(STUDY, artifacts.data, uri)
    assert changed.version != first.version
    tags = runs(uri)[artifacts.data[0].fingerprint].data.tags
    assert tags["mlflow.parentRunId"] == first.run_id


def test_two_runs_of_a_study_at_once_keep_their_tables_apart(uri, tmp_path):
    """Somebody starts a smaller grid while the larger one is still being made."""
    larger = plan(tmp_path)
    smaller_study = STUDY.model_copy(update={"weights": STUDY.weights[:1]})
    smaller = plan(tmp_path, smaller_study)
    first = lineage.start_study(STUDY, larger.all, uri)
    second = lineage.start_study(smaller_study, smaller.all, uri)
    for artifact in larger.all:
        make(artifact, uri, first)
    lineage.link(smaller.all, second, uri)
    cells = {
        run.version: set(lineage.table("tiny", uri, version=run.version).cell)
        for run in (first, second)
    }
    assert cells == {
        first.version: {"base", "p0-r1-s0", "p0.2-r1-s0"},
        second.version: {"base", "p0-r1-s0"},
    }


def test_an_artifact_made_outside_of_a_study_belongs_to_none(uri, tmp_path):
    artifact = plan(tmp_path).data[0]
    lineage.start_study(STUDY, [artifact], uri)
    make(artifact, uri)
    [run] = runs(uri).values()
    assert run.info.status == "FINISHED"
    assert not [tag for tag in run.data.tags if tag.startswith("wit.study.")]


def test_a_deleted_store_is_written_again_from_the_artifacts(finished, empty_store, tmp_path):
    artifacts, old = finished
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    new = f"sqlite:///{tmp_path}/mlflow.db"
    run = lineage.start_study(STUDY, artifacts.all, new)
    lineage.link(reversed(artifacts.all), run, new)  # children before parents, too
    drop = ["run_id", "run_url"]
    expected = lineage.table("tiny", old).drop(columns=drop)
    order = ["cell", "stage", "benchmark"]
    found = lineage.table("tiny", new).drop(columns=drop)
    assert found.sort_values(order, ignore_index=True).equals(
        expected.sort_values(order, ignore_index=True)
    )
    run = runs(new)[artifacts.sft[0].fingerprint]
    history = open_store(new).client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [1, 2, 3, 4, 5]
    assert runs(new)[artifacts.evaluations[-1].fingerprint].data.tags["parent_run_id"]


def test_all_of_it_works_against_a_server(server, tmp_path):
    study = STUDY.model_copy(update={"weights": STUDY.weights[:1]})
    base = BASE.model_copy(update={"fingerprint": "5e17e15e17e1"})  # others write here too
    artifacts = plan(tmp_path, study, base)
    run = lineage.start_study(study, artifacts.all, server)
    make_without_lineage(artifacts.data)
    lineage.link(artifacts.data, run, server)
    for artifact in [*artifacts.sft, *artifacts.dpo, *artifacts.evaluations]:
        make(artifact, server, run)
    report = tmp_path / "report.html"
    report.write_text("<!doctype html>")
    lineage.end_study(run, server, is_failed=False, files=[report])
    assert lineage.start_study(study, artifacts.all, server) == run
    lineage.link(artifacts.all, run, server)
    assert len(find_runs(server, tag("wit.study.tiny", f"%{run.version}%"))) == len(artifacts.all)
    table = lineage.table("tiny", server, version=run.version)
    assert set(table.status) == {"finished"}
    assert len(table) == 3 * 4
    assert table.run_url.iloc[0].startswith(f"{server}/#/experiments/")
    node = lineage.lineage(artifacts.dpo[0].fingerprint, server)
    assert node.parents["policy"].parents["instructions"].parents["tokenizer"].fingerprint
    [evaluation] = node.children
    assert evaluation.scores["preference_accuracy"] == 0.75
    kept = {f.path for f in open_store(server).client.list_artifacts(run.run_id)}
    assert kept == {"report.html", "study.yaml", "cells.json"}


def test_a_link_opens_and_has_no_password(server):
    asked = open_store(server.replace("//", "//wit:s3cret@"))
    link = asked.run_url("1")
    assert link == open_store(server).run_url("1")
    with urllib.request.urlopen(link) as page:
        assert b"MLflow" in page.read()


def test_a_damaged_artifact_does_not_keep_others_from_being_linked(uri, tmp_path, caplog):
    artifacts = plan(tmp_path)
    make_without_lineage(artifacts.data)
    artifacts.sft[0].path.mkdir(parents=True)  # by hand, without a record
    run = lineage.start_study(STUDY, artifacts.all, uri)
    lineage.link([artifacts.sft[0], *artifacts.data], run, uri)
    assert "is not linked" in caplog.text
    finished = {f for f, found in runs(uri).items() if found.info.status == "FINISHED"}
    assert finished == {artifact.fingerprint for artifact in artifacts.data}
