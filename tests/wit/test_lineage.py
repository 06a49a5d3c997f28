"""Laws of lineage, on a real MLflow: one run per artifact, whose family and scores can be asked."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import pytest

from wit import lineage
from wit._lineage_description import flat, model_sha256, run_name
from wit._lineage_store import EXPERIMENT, open_store
from wit.artifacts import Artifact, Source
from wit.config import (
    BenchmarkRecipe,
    DPORecipe,
    EvaluationRecipe,
    InstructionsRecipe,
    PreferencesRecipe,
    Runtime,
    SFTRecipe,
    Study,
    TokenizerRecipe,
    TokenWeights,
)
from wit.errors import InputError, TrainingError
from wit.evaluation.results import EvaluationResult, RoleNLL, Score, share_score

BENCHMARKS = ("unseen", "cloze")
STUDY = Study.model_validate(
    {
        "name": "tiny",
        "base": {"path": "builtin"},
        "instructions": {"path": "rows.jsonl"},
        "preferences": {"path": "pairs.jsonl"},
        "weights": [{"prompt": 0, "response": 1}, {"prompt": 0.2, "response": 1}],
        "benchmarks": [
            {"name": "unseen", "role": "select"},
            {"name": "cloze", "role": "report"},
        ],
    }
)
BASE = Source(kind="model", fingerprint="ba5eba5eba5e", location="/models/base")


class Plan(NamedTuple):
    """All artifacts of a study, known before they are made."""

    data: list[Artifact]
    sft: list[Artifact]
    dpo: list[Artifact]
    evaluations: list[Artifact]  # of the base, then of every SFT, then of every DPO model

    @property
    def all(self) -> list[Artifact]:
        return [*self.data, *self.sft, *self.dpo, *self.evaluations]


def plan(root: Path, study: Study = STUDY, base: Source = BASE) -> Plan:
    tokenizer = Artifact(root=root, recipe=TokenizerRecipe(), parents={"base": base})
    rows = Source(kind="rows", fingerprint="f11ef11ef11e", location="rows.jsonl")
    instructions = Artifact(
        root=root,
        recipe=InstructionsRecipe(path="rows.jsonl"),
        parents={"tokenizer": tokenizer, "rows": rows},
    )
    preferences = Artifact(
        root=root, recipe=PreferencesRecipe(path="pairs.jsonl"), parents={"tokenizer": tokenizer}
    )
    sft = [
        Artifact(
            root=root,
            recipe=SFTRecipe(weights=cell.weights, seed=cell.seed),
            parents={"base": base, "instructions": instructions},
        )
        for cell in study.cells
    ]
    dpo = [
        Artifact(
            root=root,
            recipe=DPORecipe(seed=model.recipe.model_dump()["seed"]),
            parents={"policy": model, "preferences": preferences},
        )
        for model in sft
    ]
    names = [BenchmarkRecipe(name=b.name, num_fewshot=0, limit=None) for b in study.benchmarks]
    evaluations = [
        Artifact(
            root=root,
            recipe=EvaluationRecipe(benchmarks=tuple(names)),
            parents={"model": model, "tokenizer": tokenizer, "instructions": instructions},
        )
        for model in [base, *sft, *dpo]
    ]
    return Plan([tokenizer, instructions, preferences], sft, dpo, evaluations)


def scores_of(artifact: Artifact) -> EvaluationResult:
    """Scores that a test can foresee: by the fingerprint's last digit."""
    share = int(artifact.fingerprint[-1], 16) / 20
    lower = Score(
        benchmark="cloze",
        metric="bits",
        value=2.5,
        stderr=None,
        num_items=10,
        higher_is_better=False,
        is_main=True,
    )
    return EvaluationResult(
        scores=(share_score("unseen", "exact_match", share, 50), lower),
        runs={},
        held_out_nll={"prompt": RoleNLL(nll=2.0, num_tokens=9)},
        preference_accuracy=share_score("held-out preferences", "accuracy", 0.75, 40),
    )


def write(artifact: Artifact, directory: Path) -> None:
    """What a stage would leave in ``directory``."""
    if artifact.stage == "evaluation":
        scores_of(artifact).save(directory)
    elif artifact.stage in ("sft", "dpo"):
        lines = [json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in range(1, 6)]
        (directory / "history.jsonl").write_text("".join(lines))
        (directory / "model").mkdir(exist_ok=True)
        (directory / "model" / "weights").write_text(artifact.fingerprint)
    else:
        card = {"rows": {"train": 90, "held_out": 10}, "dropped": {"empty": 2}}
        (directory / "card.json").write_text(json.dumps(card))


def make(artifact: Artifact, uri: str, study_name: str = "tiny") -> None:
    with lineage.tracked(artifact, study_name, uri) as tracker, artifact.writing() as directory:
        write(artifact, directory)
        tracker.log({"loss": 1.0}, 1)


def make_without_lineage(artifacts: list[Artifact]) -> None:
    for artifact in artifacts:
        with artifact.writing() as directory:
            write(artifact, directory)


def runs(uri: str):
    store = open_store(uri)
    return {
        run.data.tags["wit.fingerprint"]: run
        for run in store.search("tags.`wit.fingerprint` LIKE '%'")
    }


def num_runs(uri: str) -> int:
    return len(open_store(uri).search("attributes.status != 'nonsense'"))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    lineage.prepare(f"sqlite:///{file}")
    return file


@pytest.fixture
def uri(empty_store, tmp_path) -> str:
    file = tmp_path / "mlflow.db"
    shutil.copy(empty_store, file)  # 3 ms; making one takes a second
    return f"sqlite:///{file}"


@pytest.fixture(scope="session")
def finished(empty_store, tmp_path_factory) -> tuple[Plan, str]:
    """A study that ran to its end; read it, do not write to it."""
    root = tmp_path_factory.mktemp("finished")
    shutil.copy(empty_store, root / "mlflow.db")
    artifacts, uri = plan(root), f"sqlite:///{root}/mlflow.db"
    run = lineage.start_study(STUDY, artifacts.all, uri)
    for artifact in artifacts.all:
        make(artifact, uri)
    lineage.end_study(run, uri, is_failed=False)
    return artifacts, uri


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """A real MLflow server on a free loopback port."""
    folder = tmp_path_factory.mktemp("server")
    database = f"sqlite:///{folder}/server.db"
    lineage.prepare(database)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
    command += ["--artifacts-destination", str(folder / "files"), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{uri}/health", process, folder / "log")
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its own session: nobody else's processes
        process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    raise TimeoutError(log.read_text())


def test_importing_lineage_does_not_import_mlflow():
    code = "import sys, wit.lineage; sys.exit('mlflow' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tracking_uri_prefers_the_runtime_then_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:1")
    chosen = Runtime(artifact_root=tmp_path, tracking_uri="http://here:2")
    assert lineage.tracking_uri(chosen) == "http://here:2"
    unset = Runtime(artifact_root=tmp_path)
    assert lineage.tracking_uri(unset) == "http://elsewhere:1"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert lineage.tracking_uri(unset) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("wrong", ["./mlruns", "file:///tmp/mlruns", "sqlite://"])
def test_a_store_of_plain_files_is_refused_with_its_remedy(wrong):
    with pytest.raises(InputError, match="sqlite:///"):
        lineage.tracking_uri(Runtime(tracking_uri=wrong))


def _open_new(uri: str, barrier: Barrier) -> None:
    barrier.wait()
    open_store(uri).search("tags.x = 'y'")


def test_six_processes_open_a_new_store_together(tmp_path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    context = multiprocessing.get_context("forkserver")
    # Imported once, not six times; so the six meet at the file.
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store"])
    barrier = context.Barrier(6)
    processes = [context.Process(target=_open_new, args=(uri, barrier)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 6
    assert open_store(uri).client.get_experiment_by_name(EXPERIMENT) is not None


def test_preparing_again_is_fast_and_changes_nothing(uri):
    file = Path(uri.removeprefix("sqlite:///"))
    before = file.read_bytes()
    started = time.perf_counter()
    lineage.prepare(uri)
    assert time.perf_counter() - started < 0.1
    assert file.read_bytes() == before


def test_a_database_of_somebody_else_is_not_touched(tmp_path):
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"my diary" * 100)
    with pytest.raises(InputError, match="not an MLflow database"):
        lineage.prepare(f"sqlite:///{file}")
    assert file.read_bytes() == b"my diary" * 100


def test_one_run_per_artifact_that_says_what_it_is(finished):
    artifacts, uri = finished
    found = runs(uri)
    assert found.keys() == {a.fingerprint for a in artifacts.all}
    assert num_runs(uri) == len(artifacts.all) + 1  # and the study's
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    sft, dpo, evaluation = artifacts.sft[1], artifacts.dpo[1], artifacts.evaluations[-1]
    assert found[sft.fingerprint].info.run_name == "sft p0.2-r1-s0"
    assert found[dpo.fingerprint].info.run_name == "dpo p0.2-r1-s0"
    assert found[evaluation.fingerprint].info.run_name == "evaluation dpo p0.2-r1-s0"
    assert run_name(artifacts.evaluations[0]) == "evaluation base"


def test_the_chain_from_score_to_data_can_be_walked_by_parent_run_id(finished):
    artifacts, uri = finished
    by_id = {run.info.run_id: run for run in runs(uri).values()}
    run = runs(uri)[artifacts.evaluations[-1].fingerprint]
    walked = [run.data.tags["wit.stage"]]
    while "parent_run_id" in run.data.tags:
        run = by_id[run.data.tags["parent_run_id"]]
        walked.append(run.data.tags["wit.stage"])
    assert walked == ["evaluation", "dpo", "sft", "instructions", "tokenizer"]


def test_models_can_be_compared_without_a_join(finished):
    artifacts, uri = finished
    condition = "params.prompt_weight = '0.2' AND params.model_stage = 'dpo'"
    found = [r for r in open_store(uri).search(condition) if r.data.tags["wit.stage"] == "dpo"]
    assert [run.data.tags["wit.fingerprint"] for run in found] == [artifacts.dpo[1].fingerprint]
    score = scores_of(artifacts.evaluations[-1]).scores[0]
    assert found[0].data.metrics["unseen"] == score.value
    assert found[0].data.metrics["unseen_stderr"] == score.stderr
    assert found[0].data.metrics["preference_accuracy"] == 0.75


def test_checkpoints_are_named_by_hash_and_not_copied(finished):
    artifacts, uri = finished
    run = runs(uri)[artifacts.sft[0].fingerprint]
    files = artifacts.sft[0].record()["files"]
    assert run.data.tags["wit.model_sha256"] == model_sha256(files)
    kept = {file.path for file in open_store(uri).client.list_artifacts(run.info.run_id)}
    assert kept == {"record.json"}


def test_data_sets_are_inputs_known_by_their_content(finished):
    artifacts, uri = finished
    for model, data in ((artifacts.sft[0], "instructions"), (artifacts.dpo[0], "preferences")):
        inputs = runs(uri)[model.fingerprint].inputs
        assert inputs is not None
        digests = [given.dataset.digest for given in inputs.dataset_inputs]
        assert digests == [model.parents[data].fingerprint]


def test_a_killed_stage_resumes_in_the_same_run_and_logs_no_step_twice(uri, tmp_path):
    artifact = plan(tmp_path).sft[0]
    killed = lineage.tracked(artifact, "tiny", uri)  # entered, never left: what SIGKILL leaves
    tracker = killed.__enter__()
    for step in (1, 2, 3):
        tracker.log({"loss": 1 / step}, step)
    tracker._attempt(tracker._flush)
    assert runs(uri)[artifact.fingerprint].info.status == "RUNNING"

    with lineage.tracked(artifact, "tiny", uri) as resumed, artifact.writing() as directory:
        assert resumed.run_id == tracker.run_id
        resumed.log({"loss": 1 / 3}, 3)  # from the checkpoint at step 2
        write(artifact, directory)
    [run] = runs(uri).values()
    history = open_store(uri).client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(s, 1 / s) for s in range(1, 6)]
    assert run.info.status == "FINISHED"


def test_moved_data_does_not_trouble_a_resumed_run(uri, tmp_path):
    before = Artifact(root=tmp_path, recipe=InstructionsRecipe(path="here.jsonl"), parents={})
    after = Artifact(root=tmp_path, recipe=InstructionsRecipe(path="there.jsonl"), parents={})
    assert before.fingerprint == after.fingerprint
    with pytest.raises(KeyError), lineage.tracked(before, "tiny", uri):
        raise KeyError
    make(after, uri)
    assert num_runs(uri) == 1
    assert runs(uri)[after.fingerprint].info.status == "FINISHED"


def test_a_failure_is_written_down_and_a_retry_clears_it(uri, tmp_path):
    artifact = plan(tmp_path).sft[0]
    with pytest.raises(TrainingError), lineage.tracked(artifact, "tiny", uri) as tracker:
        tracker.log({"loss": float("nan")}, 7)
        raise TrainingError("loss is not finite at step 7")
    [run] = runs(uri).values()
    assert (run.info.status, run.data.tags["wit.error"]) == (
        "FAILED",
        "loss is not finite at step 7",
    )
    make(artifact, uri)
    [run] = runs(uri).values()
    assert run.info.status == "FINISHED"
    assert "wit.error" not in run.data.tags


def test_ctrl_c_is_not_a_failure(uri, tmp_path):
    artifact = plan(tmp_path).sft[0]
    with pytest.raises(KeyboardInterrupt), lineage.tracked(artifact, "tiny", uri):
        raise KeyboardInterrupt
    assert [run.info.status for run in runs(uri).values()] == ["KILLED"]


def test_a_server_that_is_down_does_not_end_a_training(tmp_path, caplog, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    artifact = plan(tmp_path).sft[0]
    make(artifact, "http://127.0.0.1:9")  # the discard port: nobody answers
    assert artifact.exists()
    assert "not recorded in MLflow" in caplog.text
    lineage.link([artifact], "tiny", uri)  # nothing is lost
    [run] = [r for r in runs(uri).values() if r.data.tags["wit.stage"] == "sft"]
    assert run.data.metrics["loss"] == 1 / 5


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


def test_the_table_has_every_score_with_its_role_and_error(finished):
    artifacts, uri = finished
    table = lineage.table("tiny", uri)
    assert len(table) == 5 * 4  # base, 2 SFT, 2 DPO; 2 benchmarks, nll, preferences
    wanted = artifacts.dpo[1]
    [row] = table[
        (table.fingerprint == wanted.fingerprint) & (table.benchmark == "unseen")
    ].to_dict("records")
    score = scores_of(artifacts.evaluations[-1]).scores[0]
    assert (row["study"], row["cell"], row["stage"], row["role"], row["status"]) == (
        "tiny",
        "p0.2-r1-s0",
        "dpo",
        "select",
        "finished",
    )
    assert (row["prompt_weight"], row["response_weight"], row["seed"]) == (0.2, 1.0, 0)
    assert (row["score"], row["stderr"]) == (score.value, score.stderr)
    assert row["run_id"] == runs(uri)[wanted.fingerprint].info.run_id
    assert set(table[table.role == "diagnostic"].benchmark) == {"nll_prompt", "preference_accuracy"}
    assert set(table[~table.higher_is_better].benchmark) == {"cloze", "nll_prompt"}
    assert set(table[table.stage == "base"].cell) == {"base"}


def test_cells_without_scores_stand_in_the_table_with_the_reason(uri, tmp_path):
    artifacts = plan(tmp_path)
    lineage.start_study(STUDY, artifacts.all, uri)
    with pytest.raises(TrainingError), lineage.tracked(artifacts.sft[1], "tiny", uri):
        raise TrainingError("loss is not finite")
    table = lineage.table("tiny", uri).set_index(["cell", "stage"])
    assert table.status.to_dict() == {
        ("base", "base"): "missing",
        ("p0-r1-s0", "sft"): "missing",
        ("p0-r1-s0", "dpo"): "missing",
        ("p0.2-r1-s0", "sft"): "failed",
        ("p0.2-r1-s0", "dpo"): "blocked",
    }
    assert table.error["p0.2-r1-s0", "sft"] == "loss is not finite"


def test_the_table_shows_the_version_of_the_study_that_was_started_last(uri, tmp_path):
    larger, smaller = plan(tmp_path), STUDY.model_copy(update={"weights": STUDY.weights[:1]})
    lineage.start_study(STUDY, larger.all, uri)
    make_without_lineage(larger.all)
    lineage.link(larger.all, "tiny", uri)
    assert set(lineage.table("tiny", uri).weights) == {"base", "p0-r1", "p0.2-r1"}
    fewer = plan(tmp_path, smaller)
    lineage.start_study(smaller, fewer.all, uri)
    lineage.link(fewer.all, "tiny", uri)
    assert set(lineage.table("tiny", uri).weights) == {"base", "p0-r1"}


def test_an_unknown_study_is_answered_with_near_ones(finished):
    with pytest.raises(InputError, match="Did you mean tiny"):
        lineage.table("tinny", finished[1])
    with pytest.raises(InputError, match="is not in MLflow"):
        lineage.table("'; drop table runs", finished[1])


def test_lineage_names_all_that_a_model_was_made_of_and_all_that_came_of_it(finished):
    artifacts, uri = finished
    node = lineage.lineage(artifacts.sft[1].fingerprint, uri)
    assert node.name == "sft p0.2-r1-s0"
    base = node.parents["base"]
    assert (base.fingerprint, base.kind, base.location) == (
        BASE.fingerprint,
        "model",
        BASE.location,
    )
    tokenizer = node.parents["instructions"].parents["tokenizer"]
    assert tokenizer.fingerprint == artifacts.data[0].fingerprint
    assert tokenizer.parents["base"].fingerprint == BASE.fingerprint
    assert [child.name for child in node.children] == [
        "dpo p0.2-r1-s0",
        "evaluation sft p0.2-r1-s0",
    ]
    [evaluation] = node.children[0].children
    assert evaluation.fingerprint == artifacts.evaluations[-1].fingerprint
    assert evaluation.scores["unseen"] == scores_of(artifacts.evaluations[-1]).scores[0].value
    assert node.studies == ("tiny",)
    assert node.model_sha256


def test_lineage_is_found_by_run_id_and_by_the_beginning_of_a_fingerprint(finished):
    artifacts, uri = finished
    wanted = artifacts.dpo[0].fingerprint
    run_id = runs(uri)[wanted].info.run_id
    assert lineage.lineage(run_id, uri) == lineage.lineage(wanted[:9], uri)


def test_lineage_of_a_source_is_all_that_came_of_it(finished):
    artifacts, uri = finished
    node = lineage.lineage(BASE.fingerprint, uri)
    assert (node.status, node.location) == ("source", BASE.location)

    def names(node: lineage.Node) -> set[str]:
        return {child.fingerprint for child in node.children}.union(*map(names, node.children))

    assert names(node) == {artifact.fingerprint for artifact in artifacts.all}


def test_an_unknown_or_ambiguous_name_is_answered_with_the_possible_ones(finished):
    artifacts, uri = finished
    known = artifacts.dpo[0].fingerprint
    mistyped = known[:11] + ("0" if known[11] != "0" else "1")
    with pytest.raises(InputError, match=known):
        lineage.lineage(mistyped, uri)
    with pytest.raises(InputError, match="neither a fingerprint"):
        lineage.lineage("my model", uri)


def test_the_beginning_of_two_fingerprints_is_refused(uri):
    store = open_store(uri)
    for fingerprint in ("abcdef000000", "abcdef111111"):
        store.create("x", {"wit.fingerprint": fingerprint, "wit.ancestors": "", "wit.path": ""})
    with pytest.raises(InputError, match="beginning of 2 artifacts"):
        lineage.lineage("abcdef", uri)


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


def test_nested_values_become_dotted_params():
    assert flat({"a": {"b c": 1, "d": [1, {"e": 2}]}, "f$": "x", "g": None}) == {
        "a.b c": "1",
        "a.d": '[1, {"e": 2}]',
        "f_": "x",
        "g": "null",
    }


def test_finer_weights_keep_their_name(tmp_path):
    weights = TokenWeights(prompt=1, response=1, template=0)
    artifact = Artifact(root=tmp_path, recipe=SFTRecipe(weights=weights, seed=3), parents={})
    assert run_name(artifact) == "sft p1-r1-template0-s3"
