"""What `wit best` says of the weights that a study chose."""

import json
from pathlib import Path

import pytest
from commands import wit
from contest import hold
from registered import BETTER, WORSE
from tiny_study import STUDY, make, plan

from wit import lineage


@pytest.mark.parametrize("is_usual_best", [True, False])
def test_the_base_stands_beside_and_nothing_beside_itself(uri: str, tmp_path: Path, is_usual_best):
    usual, other = (BETTER, WORSE) if is_usual_best else (WORSE, BETTER)
    hold(tmp_path, uri, "choice", {"p0-r1-s0": usual, "p0.2-r1-s0": other})
    place = ["--set-runtime", f"artifact_root={tmp_path}"]
    said = wit("best", "choice", *place).stdout
    [reported] = [line for line in said.splitlines() if line.startswith("reported")]
    assert reported.endswith("base 2.500")
    assert ("instruction tuning itself" in said) == is_usual_best
    assert (", instruction tuning 2.500" in reported) != is_usual_best
    [chosen_by] = [line for line in said.splitlines() if line.startswith("chosen by")]
    assert chosen_by.endswith(", base 0.500")
    choice = json.loads(wit("best", "choice", "--json", *place).stdout)
    assert choice["is_instruction_tuning"] == is_usual_best
    assert choice["base_score"] == 0.5
    assert choice["base_scores"] == {"unseen": 0.5, "cloze": 2.5}


def test_what_has_no_score_yet_is_said_beside_the_recommendation(uri: str, tmp_path: Path):
    artifacts = plan(tmp_path)
    run = lineage.start_study(STUDY, artifacts.all, uri)
    *others, last = artifacts.all
    for artifact in others:
        make(artifact, uri, run)
    place = ["--set-runtime", f"artifact_root={tmp_path}"]
    for command in ("best", "compare"):
        assert "1 model has no complete select scores" in wit(command, "tiny", *place).stdout
    make(last, uri, run)
    for command in ("best", "compare"):
        assert "no complete select scores" not in wit(command, "tiny", *place).stdout
