"""A study owns runs by tags: reuse, resume, other versions, lost stores, a real server."""

import shutil

import pytest
from tiny_study import STUDY, make, make_without_lineage, num_runs, plan, runs

from wit import lineage
from wit._lineage_store import open_store
from wit.errors import InputError


def test_a_study_that_cannot_be_recorded_is_refused_at_the_door(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match="Is the server up"):
        lineage.start_study(STUDY, [], "http://127.0.0.1:9")


def test_reuse_adds_a_tag_and_no_run(uri, tmp_path):
    artifacts = plan(tmp_path)
    other = STUDY.model_copy(update={"name": "other"})
    lineage.start_study(STUDY, artifacts.all, uri)
    for artifact in artifacts.data:
        make(artifact, uri)
    lineage.start_study(other, artifacts.all, uri)
    before = num_runs(uri)
    lineage.link(artifacts.all, "other", uri)
    lineage.link(artifacts.all, "other", uri)
    assert num_runs(uri) == before
    for run in runs(uri).values():
        assert {"wit.study.tiny", "wit.study.other"} <= run.data.tags.keys()


def test_a_study_is_resumed_while_it_is_the_same_and_owns_what_it_made_first(uri, tmp_path):
    artifacts = plan(tmp_path)
    first = lineage.start_study(STUDY, artifacts.all, uri)
    make(artifacts.data[0], uri)
    assert lineage.start_study(STUDY, artifacts.all, uri) == first
    changed = lineage.start_study(STUDY, artifacts.data, uri)
    assert changed.version != first.version
    tags = runs(uri)[artifacts.data[0].fingerprint].data.tags
    assert tags["mlflow.parentRunId"] == first.run_id


def test_a_deleted_store_is_written_again_from_the_artifacts(finished, empty_store, tmp_path):
    artifacts, old = finished
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    new = f"sqlite:///{tmp_path}/mlflow.db"
    lineage.start_study(STUDY, artifacts.all, new)
    lineage.link(reversed(artifacts.all), "tiny", new)  # children before parents, too
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
    artifacts = plan(tmp_path, study)
    run = lineage.start_study(study, artifacts.all, server)
    make_without_lineage(artifacts.data)
    lineage.link(artifacts.data, "tiny", server)
    for artifact in [*artifacts.sft, *artifacts.dpo, *artifacts.evaluations]:
        make(artifact, server)
    report = tmp_path / "report.html"
    report.write_text("<!doctype html>")
    lineage.end_study(run, server, is_failed=False, files=[report])
    lineage.start_study(study, artifacts.all, server)
    lineage.link(artifacts.all, "tiny", server)
    assert num_runs(server) == len(artifacts.all) + 1
    table = lineage.table("tiny", server)
    assert set(table.status) == {"finished"}
    assert len(table) == 3 * 4
    assert table.run_url.iloc[0].startswith(f"{server}/#/experiments/")
    node = lineage.lineage(artifacts.dpo[0].fingerprint, server)
    assert node.parents["policy"].parents["instructions"].parents["tokenizer"].fingerprint
    [evaluation] = node.children
    assert evaluation.scores["preference_accuracy"] == 0.75
    kept = {f.path for f in open_store(server).client.list_artifacts(run.run_id)}
    assert kept == {"report.html", "study.yaml"}
