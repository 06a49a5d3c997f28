"""One run per artifact, which says what it is, whatever befell the making of it."""

import json

import pytest
from tiny_study import STUDY, fail, make, num_runs, plan, runs, scores_of, write

from wit import lineage
from wit.artifacts import Artifact
from wit.config import TokenWeights
from wit.data.overlap import OVERLAP, BenchmarkOverlap, Overlap
from wit.evaluation_recipes import OverlapRecipe
from wit.lineage.description import flat, run_name
from wit.lineage.outcome import model_sha256
from wit.lineage.store import open_store
from wit.recipes import InstructionsRecipe, SFTRecipe


def test_one_run_per_artifact_that_says_what_it_is(finished):
    artifacts, uri = finished
    found = runs(uri)
    assert found.keys() == {a.fingerprint for a in artifacts.all}
    assert num_runs(uri) == len(artifacts.all) + 1  # and the study's
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    sft, dpo, evaluation = artifacts.sft[1], artifacts.dpo[1], artifacts.evaluations[-1]
    assert found[sft.fingerprint].info.run_name == "sft p0.2-r1-s0"
    assert found[dpo.fingerprint].info.run_name == "dpo p0.2-r1-s0"
    assert found[evaluation.fingerprint].info.run_name == "unseen dpo p0.2-r1-s0"
    assert run_name(artifacts.evaluations[0]) == "unseen base"


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
        [figures] = [json.loads(given.dataset.profile) for given in inputs.dataset_inputs]
        assert figures == {
            "num_rows": 90,
            "rows": {"train": 90, "held_out": 10},
            "dropped": {"empty": 2},
            "lengths": {"row": {"p50": 40}},
        }


def test_the_figures_of_a_card_are_metrics_of_its_run(finished):
    artifacts, uri = finished
    metrics = runs(uri)[artifacts.data[1].fingerprint].data.metrics
    expected = {"rows.train": 90, "rows.held_out": 10, "dropped.empty": 2, "lengths.row.p50": 40}
    assert metrics.items() >= expected.items()


def test_a_data_set_that_is_elsewhere_has_no_figures(uri, tmp_path):
    artifact = plan(tmp_path).sft[0]
    make(artifact, uri)
    [run] = runs(uri).values()
    [given] = run.inputs.dataset_inputs
    assert given.dataset.profile is None


def test_the_share_of_test_items_in_the_training_rows_is_a_metric(uri, tmp_path):
    def found(share):
        counts = {"num_items": 4, "num_looked_for": 4, "num_too_short": 0, "num_common": 0}
        return BenchmarkOverlap(**counts, share=share, overlapping=(1,), examples=())

    artifact = Artifact(root=tmp_path, recipe=OverlapRecipe(), parents={})
    with lineage.tracked(artifact, None, uri), artifact.writing() as directory:
        benchmarks = {"gsm8k": found(0.25), "short": found(None)}
        overlap = Overlap(num_words=13, num_rows={"instructions": 9}, benchmarks=benchmarks)
        (directory / OVERLAP).write_text(overlap.model_dump_json())
    [run] = runs(uri).values()
    assert run.info.run_name == f"overlap {artifact.fingerprint[:6]}"
    assert run.data.metrics.keys() == {"overlap_share.gsm8k", "seconds"}
    assert run.data.metrics["overlap_share.gsm8k"] == 0.25
    kept = {file.path for file in open_store(uri).client.list_artifacts(run.info.run_id)}
    assert kept == {"record.json", OVERLAP}


def test_a_killed_stage_resumes_in_the_same_run_and_logs_no_step_twice(uri, tmp_path):
    artifact = plan(tmp_path).sft[0]
    artifact.scratch.mkdir(parents=True)  # with its checkpoint
    killed = lineage.tracked(artifact, None, uri)  # entered, never left: what SIGKILL leaves
    tracker = killed.__enter__()
    for step in (1, 2, 3):
        tracker.log({"loss": 1 / step}, step)
    tracker.flush()
    assert runs(uri)[artifact.fingerprint].info.status == "RUNNING"

    with lineage.tracked(artifact, None, uri) as resumed, artifact.writing() as directory:
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
    with pytest.raises(KeyError), lineage.tracked(before, None, uri):
        raise KeyError
    make(after, uri)
    assert num_runs(uri) == 1
    assert runs(uri)[after.fingerprint].info.status == "FINISHED"


def test_a_failure_is_written_down_and_a_retry_clears_it(uri, tmp_path):
    artifact = plan(tmp_path).sft[0]
    fail(artifact, uri, "loss is not finite at step 7")
    [run] = runs(uri).values()
    assert (run.info.status, run.data.tags["wit.error"]) == (
        "FAILED",
        "loss is not finite at step 7",
    )
    make(artifact, uri)
    [run] = runs(uri).values()
    assert run.info.status == "FINISHED"
    assert "wit.error" not in run.data.tags
    history = open_store(uri).client.get_metric_history(run.info.run_id, "loss")
    last = {point.step: point.value for point in history}
    assert last == {step: 1 / step for step in range(1, 6)}  # not those of the failed attempt


def test_ctrl_c_is_not_a_failure(uri, tmp_path):
    artifact = plan(tmp_path).sft[0]
    with pytest.raises(KeyboardInterrupt), lineage.tracked(artifact, None, uri):
        raise KeyboardInterrupt
    assert [run.info.status for run in runs(uri).values()] == ["KILLED"]


def test_a_server_that_is_down_does_not_end_a_training(tmp_path, caplog, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    artifact = plan(tmp_path).sft[0]
    make(artifact, "http://127.0.0.1:9")  # the discard port: nobody answers
    assert artifact.exists()
    assert "not recorded in MLflow" in caplog.text
    lineage.link([artifact], lineage.start_study(STUDY, [artifact], uri), uri)  # nothing is lost
    [run] = [r for r in runs(uri).values() if r.data.tags["wit.stage"] == "sft"]
    assert run.data.metrics["loss"] == 1 / 5


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


def test_likelihoods_of_a_model_are_its_own_curve(finished):
    """Its evaluation measures them again; that must not add a point at step 0."""
    artifacts, uri = finished
    of_model = runs(uri)[artifacts.sft[0].fingerprint].data.metrics
    assert "unseen" in of_model
    assert "nll_prompt" not in of_model
    assert runs(uri)[artifacts.evaluations[1].fingerprint].data.metrics["nll_prompt"] == 2.0


@pytest.mark.parametrize("end", [make, lambda a, uri: fail(a, uri, "out of memory")])
def test_a_finished_run_of_another_root_stays_as_it_is(end, uri, tmp_path):
    theirs, ours = plan(tmp_path / "theirs").sft[0], plan(tmp_path / "ours").sft[0]
    make(theirs, uri)
    [before] = runs(uri).values()
    end(ours, uri)
    [after] = runs(uri).values()
    assert after.info.status == "FINISHED"
    assert after.data.to_dictionary() == before.data.to_dictionary()
    assert after.info.end_time == before.info.end_time


def test_a_run_that_another_root_finished_meanwhile_stays_finished(uri, tmp_path):
    theirs, ours = plan(tmp_path / "theirs").sft[0], plan(tmp_path / "ours").sft[0]

    def attempt() -> None:
        with lineage.tracked(ours, None, uri):
            make(theirs, uri)
            raise KeyError

    with pytest.raises(KeyError):
        attempt()
    assert [run.info.status for run in runs(uri).values()] == ["FINISHED"]
