"""A study against bare scripts: both leave the same, and one that does less is found out."""

import json
from pathlib import Path

import pytest
from smallest_study import TINY

from wit.bench.result import same_work
from wit.bench.study import (
    HISTORY,
    WEIGHTS,
    Arm,
    bare_runtime,
    check_same,
    counts_of,
    measure,
    plan_below,
    ratio_of,
    scripts_of,
)
from wit.bench.study_script import make_all
from wit.errors import StageError
from wit.plan import Plan
from wit.records import MODEL


def make_below(folder: Path) -> Plan:
    plan = plan_below(folder, TINY)
    for script in scripts_of(plan):
        make_all(script, bare_runtime())
    return plan


def test_every_artifact_is_made_by_one_script_after_its_parents(tmp_path: Path) -> None:
    plan = plan_below(tmp_path, TINY)
    made = [artifact.fingerprint for script in scripts_of(plan) for artifact in script]
    assert sorted(made) == sorted(artifact.fingerprint for artifact, _ in plan.artifacts())
    for artifact, _ in plan.artifacts():
        for parent in artifact.parents.values():
            if parent.fingerprint in made:
                assert made.index(parent.fingerprint) < made.index(artifact.fingerprint)


def test_an_arm_that_does_less_or_something_else_is_refused(tmp_path: Path) -> None:
    here, there = (make_below(tmp_path / name) for name in ("here", "there"))
    counts = counts_of(here)
    same_work({"here": counts, "there": counts_of(there)})
    check_same(here, there)
    assert (counts["trainings"], counts["evaluations"]) == (2, len(list(here.artifacts())) - 8)
    lines = [a.path / HISTORY for a in (here.cells[0].sft, here.cells[0].dpo)]
    steps = [json.loads(file.read_text().splitlines()[-1])["step"] for file in lines]
    assert counts["optimizer steps"] == sum(steps) > 2

    dpo = there.cells[0].dpo.path
    history = (dpo / HISTORY).read_text()
    (dpo / HISTORY).write_text(json.dumps({"step": 1}) + "\n")
    with pytest.raises(StageError, match="optimizer steps"):
        same_work({"here": counts, "there": counts_of(there)})
    (dpo / HISTORY).write_text(history)
    weights = dpo / MODEL / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(StageError, match="differ"):
        check_same(here, there)


def test_the_figure_is_of_what_was_measured() -> None:
    arms = [Arm(60.0, {}), Arm(90.0, {})], [Arm(240.0, {}, 120.0), Arm(180.0, {}, 60.0)]
    figure = ratio_of(*arms, num_workers=2)
    assert figure.values == (4.0, 2.0)
    assert figure.limit == 4.0  # two workers, of scripts that work for half of their time
    assert figure.is_reached


@pytest.mark.slow  # seven scripts and a study: a minute and a half
@pytest.mark.timeout(1200)
def test_a_study_leaves_what_scripts_leave() -> None:
    found = measure(1, cut=TINY)
    assert found.same_work["trainings"] == 2
    assert found.figures[0].value > 0
