"""What `wit best` says of the weights that a study chose."""

import json
from pathlib import Path

import pytest
from commands import wit
from contest import hold
from registered import BETTER, GOOD, WORSE

from wit.reasons import reasons_of
from wit.records import Kept


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


def test_registering_keeps_why_beside_the_artifacts(uri: str, tmp_path: Path):
    first = hold(tmp_path, uri, "first", {"p0-r1-s0": GOOD})
    model = Kept.at(first.plan.dpo[0].path)
    assert reasons_of(model) == ()
    first.register()
    assert reasons_of(model) == (f"Study first: {first.choose().sentence}",)
    first.register()
    assert len(reasons_of(model)) == 1
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER})
    made = second.register()
    assert made.comparison is not None
    why = reasons_of(Kept.at(second.plan.dpo[0].path))
    assert why[-1] == f"Beside champion version 1: {made.comparison.sentence}"
    second.register()  # nothing is compared any more, and what was said stays
    assert reasons_of(Kept.at(second.plan.dpo[0].path)) == why
