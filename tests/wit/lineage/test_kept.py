"""What MLflow did not take is kept, whatever befell the files, until MLflow has it."""

import shutil

import pytest
from mlflow_server import free_port
from tiny_study import BASE, STUDY, fail, make, num_runs, plan, runs

from wit import lineage
from wit.errors import ArtifactError
from wit.lineage.spool import (
    RECIPES,
    UNSENT,
    UnsentArtifact,
    UnsentStudy,
    artifact_file,
    read_kept,
    settle,
    study_file,
)
from wit.lineage.store import open_store
from wit.recipes import Recipe

OTHER_BASE = BASE.model_copy(update={"fingerprint": "0ddba5e0ddba"})


@pytest.fixture
def down() -> str:
    """A server's address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


def run_all(artifacts, uri, study=STUDY) -> lineage.StudyRun:
    run = lineage.start_study(study, artifacts.all, uri)
    for artifact in artifacts.all:
        make(artifact, uri, run)
    lineage.end_study(run, uri, is_failed=False)
    return run


def test_what_was_kept_is_sent_after_the_artifact_root_moved(down, uri, tmp_path):
    artifacts = plan(tmp_path / "old")
    run_all(artifacts, down)
    (tmp_path / "old").rename(tmp_path / "new")
    assert lineage.sync(uri, tmp_path / "new") == len(artifacts.all) + 1
    assert set(lineage.table("tiny", uri).status) == {"finished"}


def test_what_was_kept_of_artifacts_that_are_nowhere_stays(down, uri, tmp_path):
    artifacts = plan(tmp_path)
    run_all(artifacts, down)
    make(plan(tmp_path, base=OTHER_BASE).data[0], down)
    for stage in {artifact.stage for artifact in artifacts.all}:
        shutil.rmtree(tmp_path / stage)
    with pytest.raises(ArtifactError, match="nothing of what it made is in"):
        lineage.sync(uri, tmp_path)
    assert len(list((tmp_path / UNSENT).glob("*.json"))) == 2
    assert num_runs(uri) == 0


@pytest.mark.parametrize("damage", [("{", "#"), ('"sft@', '"sft@9'), ('"loss"', '"loss", 0')])
def test_one_damaged_file_holds_nothing_else_up(damage, down, uri, tmp_path, caplog):
    artifacts = plan(tmp_path)
    fail(artifacts.sft[0], down, "loss is not finite")
    fail(artifacts.sft[1], down, "loss is not finite")
    file = artifact_file(artifacts.sft[0])
    for kept in (file, artifact_file(artifacts.sft[1])):
        kept.write_text(kept.read_text().replace(down, uri))
    file.write_text(file.read_text().replace(*damage))
    run_all(plan(tmp_path, base=OTHER_BASE), uri)
    assert set(lineage.table("tiny", uri).status) == {"finished"}
    assert file.name in caplog.text
    assert runs(uri)[artifacts.sft[1].fingerprint].info.status == "FAILED"
    with pytest.raises(ArtifactError, match=file.name):
        lineage.sync(uri, tmp_path)
    assert file.exists()


def test_an_artifact_is_made_beside_a_damaged_file_of_its_own(down, tmp_path, caplog):
    artifact = plan(tmp_path).sft[0]
    fail(artifact, down, "loss is not finite")
    artifact_file(artifact).write_text("{")
    make(artifact, down)
    assert artifact.exists()
    assert read_kept(UnsentArtifact, artifact_file(artifact)).status == "FINISHED"
    assert "damaged" in caplog.text


def test_a_study_that_starts_while_it_is_sent_is_kept(down, uri, tmp_path):
    artifacts = plan(tmp_path)
    run = run_all(artifacts, down)
    file = study_file(tmp_path, run.version)
    sent = file.read_bytes()
    lineage.start_study(STUDY, artifacts.all, down)
    settle(file, sent)
    assert read_kept(UnsentStudy, file).status is None


def test_of_two_processes_that_run_a_study_the_last_one_ends_it(down, uri, tmp_path):
    artifacts = plan(tmp_path)
    first = lineage.start_study(STUDY, artifacts.all, uri)
    second = lineage.start_study(STUDY, artifacts.all, uri)
    lineage.end_study(first, uri, is_failed=True)
    for artifact in artifacts.all:
        make(artifact, uri, second)
    report = tmp_path / "report.html"
    report.write_text("<!doctype html>")
    lineage.end_study(second, uri, is_failed=False, files=[report])
    [study] = lineage.study_versions("tiny", uri)
    assert study.status == "finished"
    kept = {file.path for file in open_store(uri).client.list_artifacts(study.run_id)}
    assert "report.html" in kept


def test_runs_made_before_mlflow_knew_their_study_are_below_it(down, uri, tmp_path):
    artifacts = plan(tmp_path)
    run = lineage.start_study(STUDY, artifacts.all, down)
    for artifact in artifacts.all:
        make(artifact, uri, run)
    lineage.end_study(run, uri, is_failed=False)
    [study] = lineage.study_versions("tiny", uri)
    assert {r.data.tags["mlflow.parentRunId"] for r in runs(uri).values()} == {study.run_id}


# --- addresses with a password ------------------------------------------------------------------


def test_no_password_is_kept_and_what_was_kept_is_sent(down, uri, tmp_path):
    artifacts = plan(tmp_path)
    secret = down.replace("http://", "http://somebody:hunter2@")
    run_all(artifacts, secret)
    fail(artifacts.sft[0], secret, "loss is not finite")
    files = [file for file in (tmp_path / UNSENT).iterdir() if file.suffix == ".json"]
    assert len(files) == 2
    assert not [file for file in tmp_path.rglob("*") if holds(file, "hunter2")]
    assert down in files[0].read_text()
    assert lineage.sync(uri, tmp_path) == len(artifacts.all) + 1 + 1
    assert set(lineage.table("tiny", uri).status) == {"finished"}


def test_a_run_with_the_password_sends_what_was_kept_without_it(server, tmp_path):
    port = int(server.rpartition(":")[2])
    secret = server.replace("http://", "http://somebody:hunter2@")
    nobody = secret.replace(str(port), str(free_port()))
    artifacts = plan(tmp_path)
    run = run_all(artifacts, nobody)
    file = study_file(tmp_path, run.version)
    file.write_text(file.read_text().replace(nobody.partition("@")[2], server[len("http://") :]))
    lineage.start_study(STUDY.model_copy(update={"name": "next"}), artifacts.all, secret)
    assert not file.exists(), "it was not sent"
    assert set(lineage.table("tiny", server).status) == {"finished"}


def holds(file, text):
    return file.is_file() and text.encode() in file.read_bytes()


def test_what_any_stage_is_told_can_be_kept() -> None:
    """``tiny_study`` plans, so all recipes that there are have been imported."""

    def stages_of(kind: type[Recipe]) -> set[str]:
        is_ours = "stage" in vars(kind) and kind.__module__.startswith("wit.")
        own = {kind.stage} if is_ours else set()
        return own.union(*(stages_of(other) for other in kind.__subclasses__()))

    assert stages_of(Recipe) == {recipe.stage for recipe in RECIPES}
