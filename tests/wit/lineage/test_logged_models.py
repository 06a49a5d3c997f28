"""Every SFT and DPO model is one logged model of MLflow: findable, measured, never copied."""

import contextlib

import pytest
from tiny_study import STUDY, fail, make, make_without_lineage, nll, plan, runs, scores_of, write

from wit import lineage
from wit.artifacts import Artifact
from wit.evaluation.results import EvaluationResult
from wit.evaluation_recipes import AlignmentEvaluation
from wit.lineage.models import ensure_model
from wit.lineage.runs import ensure_run
from wit.lineage.store import open_store


def models(uri: str, condition: str | None = None, **order):
    store = open_store(uri)
    order_by = [order] if order else None
    found = store.client.search_logged_models(
        [store.experiment_id], condition, order_by=order_by, max_results=200
    )
    return {model.tags["wit.fingerprint"]: model for model in found}


def test_every_model_that_we_made_is_a_logged_model_and_nothing_else_is(finished):
    artifacts, uri = finished
    found = models(uri)
    assert found.keys() == {a.fingerprint for a in [*artifacts.sft, *artifacts.dpo]}
    assert {model.status.value for model in found.values()} == {"READY"}
    names = {model.name for model in found.values()}
    assert names == {f"{s}-{cell}" for s in ("sft", "dpo") for cell in ("p0-r1-s0", "p0p2-r1-s0")}
    dpo = found[artifacts.dpo[1].fingerprint]
    assert (
        dpo.params.items()
        >= {
            "prompt_weight": "0.2",
            "response_weight": "1",
            "seed": "0",
            "stage": "dpo",
            "beta": "0.1",
        }.items()
    )
    assert dpo.tags["wit.path"] == str(artifacts.dpo[1].path)
    assert dpo.tags["wit.parent.policy"] == artifacts.sft[1].fingerprint


def test_one_query_sorted_by_a_benchmark_names_the_best_model(finished):
    artifacts, uri = finished
    best = next(
        iter(
            models(
                uri, "params.stage = 'dpo'", field_name="metrics.unseen", ascending=False
            ).values()
        )
    )
    scores = {
        evaluation.parents["model"].fingerprint: scores_of(evaluation)
        for evaluation in artifacts.evaluations[-2:]
    }
    wanted = max(scores, key=lambda fingerprint: scores[fingerprint].scores[0].value)
    assert best.tags["wit.fingerprint"] == wanted
    metrics = {metric.key: metric for metric in best.metrics}
    assert metrics["unseen"].value == scores[wanted].scores[0].value
    assert (metrics["unseen"].dataset_name, metrics["unseen"].dataset_digest) == (
        "unseen",
        scores[wanted].runs["unseen"].items_hash,
    )
    preferences = artifacts.data[2]
    assert metrics["preference_accuracy"].dataset_digest == preferences.fingerprint
    assert metrics["last_loss"].dataset_digest == preferences.fingerprint
    assert metrics["last_loss"].value == 1 / 5
    assert "seconds" not in metrics


def test_a_model_is_output_of_its_run_and_input_of_those_that_use_it(finished):
    artifacts, uri = finished
    store, found = open_store(uri), runs(uri)
    model_ids = {fingerprint: model.model_id for fingerprint, model in models(uri).items()}

    def inputs(fingerprint: str) -> list[str]:
        run = store.client.get_run(found[fingerprint].info.run_id)
        return [given.model_id for given in run.inputs.model_inputs]

    sft, dpo, evaluation = artifacts.sft[1], artifacts.dpo[1], artifacts.evaluations[-1]
    [made] = store.client.get_run(found[dpo.fingerprint].info.run_id).outputs.model_outputs
    assert made.model_id == model_ids[dpo.fingerprint]
    assert inputs(dpo.fingerprint) == [model_ids[sft.fingerprint]]
    assert inputs(evaluation.fingerprint) == [model_ids[dpo.fingerprint]]
    assert inputs(artifacts.evaluations[0].fingerprint) == []  # of the base, which we did not make
    tags = found[evaluation.fingerprint].data.tags
    assert tags["wit.parent_model.model"] == model_ids[dpo.fingerprint]


def test_an_evaluation_names_the_items_that_were_asked_and_the_rows_held_out(finished):
    artifacts, uri = finished
    evaluation = artifacts.evaluations[-1]
    given = runs(uri)[evaluation.fingerprint].inputs.dataset_inputs
    assert {g.dataset.digest for g in given} == {
        *(run.items_hash for run in scores_of(evaluation).runs.values()),
        *(evaluation.parents[part].fingerprint for part in ("instructions", "preferences")),
    }
    assert {tag.value for g in given for tag in g.tags} == {"evaluation"}


def test_the_run_of_a_model_names_its_children(finished):
    artifacts, uri = finished
    found = runs(uri)
    sft, dpo, evaluation = artifacts.sft[0], artifacts.dpo[0], artifacts.evaluations[1]
    tags = found[sft.fingerprint].data.tags
    children = {key: value for key, value in tags.items() if key.startswith("wit.child.")}
    assert children == {
        f"wit.child.{child.fingerprint}": found[child.fingerprint].info.run_id
        for child in (dpo, evaluation)
    }


def test_the_run_of_a_model_has_its_scores_but_for_those_that_are_curves_there(uri, tmp_path):
    of_one = plan(tmp_path)
    make_without_lineage([*of_one.data, of_one.sft[0], of_one.dpo[0]])
    parents = {**of_one.evaluations[-1].parents, "model": of_one.dpo[0]}
    evaluation = Artifact(root=tmp_path, recipe=AlignmentEvaluation(), parents=parents)
    curves, others = [f"nll_{r}" for r in ("prompt", "stop")], ["nll_chosen", "nll_text", "margin"]
    score = nll("prompt").model_copy(update={"stderr": 0.5})
    scores = tuple(score.model_copy(update={"benchmark": name}) for name in (*curves, *others))
    with lineage.tracked(evaluation, None, uri), evaluation.writing() as out:
        EvaluationResult(scores=scores, runs={}).save(out)
    metrics = runs(uri)[of_one.dpo[0].fingerprint].data.metrics
    assert metrics.keys() >= {*others, *(f"{name}_stderr" for name in others)}
    assert not metrics.keys() & {*curves, *(f"{name}_stderr" for name in curves)}


def test_a_model_is_pending_while_it_is_trained_failed_if_that_fails_then_ready(uri, tmp_path):
    artifact = plan(tmp_path).sft[0]

    def status() -> str:
        [model] = models(uri).values()
        return model.status.value

    with contextlib.suppress(KeyError), lineage.tracked(artifact, None, uri):
        assert status() == "PENDING"
        raise KeyError
    fail(artifact, uri, "loss is not finite")
    assert status() == "FAILED"
    make(artifact, uri)
    assert status() == "READY"


def test_a_killed_and_resumed_training_has_one_model(uri, tmp_path):
    artifact = plan(tmp_path).sft[0]
    artifact.scratch.mkdir(parents=True)
    killed = lineage.tracked(artifact, None, uri)
    killed.__enter__()  # and never left: what SIGKILL leaves
    with lineage.tracked(artifact, None, uri), artifact.writing() as directory:
        write(artifact, directory)
    assert [model.status.value for model in models(uri).values()] == ["READY"]


@pytest.mark.parametrize("killed_after", ["create_run", "create_logged_model", "log_outputs"])
def test_a_kill_between_any_two_writes_leaves_one_model(uri, tmp_path, killed_after, monkeypatch):
    class Killed(BaseException):
        pass

    artifact, store = plan(tmp_path).sft[0], open_store(uri)
    act = getattr(store.client, killed_after)

    def act_and_die(*given, **named):
        act(*given, **named)
        raise Killed

    monkeypatch.setattr(store.client, killed_after, act_and_die)
    with pytest.raises(Killed):
        ensure_run(store, artifact, None)
    monkeypatch.undo()
    make(artifact, uri)
    assert len(store.client.search_logged_models([store.experiment_id])) == 1
    [run] = runs(uri).values()
    assert len(run.outputs.model_outputs) == 1


def test_a_reused_model_is_linked_and_not_made_again(uri, tmp_path):
    artifacts = plan(tmp_path)
    make_without_lineage(artifacts.all)
    lineage.link(artifacts.all, lineage.start_study(STUDY, artifacts.all, uri), uri)
    other = STUDY.model_copy(update={"name": "other"})
    second = lineage.start_study(other, artifacts.all, uri)
    before = {model.model_id for model in models(uri).values()}
    assert lineage.link(artifacts.all, second, uri) == len(artifacts.all)
    assert lineage.link(artifacts.all, second, uri) == 0
    for study in ("tiny", "other"):
        found = models(uri, f"tags.`wit.study.{study}` = 'yes'")
        assert {model.model_id for model in found.values()} == before


def test_a_model_that_is_known_is_not_looked_for(uri, tmp_path):
    artifact = plan(tmp_path).sft[0]
    make(artifact, uri)
    store, run = open_store(uri), runs(uri)[artifact.fingerprint]
    [model] = models(uri).values()
    assert ensure_model(store, artifact, run, None, is_new=False) == model.model_id
