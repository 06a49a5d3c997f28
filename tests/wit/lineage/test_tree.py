"""A family on a terminal: a line for each, main scores alone, no fingerprint twice."""

import io

import pytest
from rich.console import Console
from tiny_study import BASE, STUDY, fail, make, plan

from wit import lineage
from wit.lineage.tree import show_lineage


def said_of(fingerprint: str, uri: str) -> str:
    said = io.StringIO()
    show_lineage(Console(file=said, width=300), lineage.lineage(fingerprint, uri))
    return said.getvalue()


def test_every_fingerprint_stands_once_and_a_model_has_its_scores_on_its_line(finished):
    artifacts, uri = finished
    instructions = artifacts.data[1]
    said = said_of(instructions.fingerprint, uri)
    models = [*artifacts.sft, *artifacts.dpo]
    for artifact in [*models, artifacts.data[0]]:
        assert said.count(artifact.fingerprint) == 1
    for model in models:
        [line] = [line for line in said.splitlines() if model.fingerprint in line]
        assert "unseen 0." in line
        assert "cloze 2.500" in line
    assert "nll_" not in said
    assert "preference_accuracy" not in said
    assert "_stderr" not in said
    assert said.count(BASE.location) == 1
    num_models = len(models)
    assert len(said.splitlines()) == 2 + 1 + 3 + 1 + 1 + num_models  # and that of the base


@pytest.mark.parametrize("place", ["sft", "dpo"])
def test_an_evaluation_of_the_asked_model_has_a_line_of_its_own(finished, place):
    artifacts, uri = finished
    model = getattr(artifacts, place)[0]
    said = said_of(model.fingerprint, uri)
    evaluation = next(e for e in artifacts.evaluations if e.parents["model"] is model)
    assert evaluation.fingerprint in said.split("what came of it")[1]
    assert str(model.path) in said
    above = said.split("what came of it")[0]
    assert above.count(artifacts.data[0].fingerprint) == 1


def test_what_failed_is_said_with_its_reason(uri, tmp_path):
    artifacts = plan(tmp_path)
    run = lineage.start_study(STUDY, artifacts.all, uri)
    for artifact in artifacts.data:
        make(artifact, uri, run)
    fail(artifacts.sft[0], uri, "out of memory", run)
    assert f"{artifacts.sft[0].fingerprint} failed: out of memory" in said_of(BASE.fingerprint, uri)
