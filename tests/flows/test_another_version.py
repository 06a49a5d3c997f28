"""A worker whose wit is not the one that planned the study."""

import json
from pathlib import Path

import pytest

from flows.cell import run_cell
from tasks.handing_out import _request
from tasks.parts import parts_of
from tasks.requests import handed_on
from wit.config import Runtime
from wit.forms import CellRequest, StudyRequest
from wit.lineage import StudyRun
from wit.loading import load_study
from wit.plan import make_plan
from wit.provenance import commit
from wit.recipes import SFTRecipe


def test_it_refuses_its_part_and_names_both_commits(
    prefect: None, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = commit()
    assert here
    plan = make_plan(load_study(study_file), Runtime(artifact_root=tmp_path))
    runtime = [f"artifact_root={tmp_path}", "device=cpu"]
    request = StudyRequest(study_file=str(study_file), runtime_settings=runtime)
    run = StudyRun(plan.study.name, None, "0" * 12, None, tmp_path)
    handed = CellRequest(**_request(parts_of(plan)[1], plan, run, handed_on(request)))
    assert handed.handed
    assert handed.handed.commit == here

    there = "0123456789" * 4
    handed = handed.model_copy(
        update={"handed": handed.handed.model_copy(update={"commit": there})}
    )
    monkeypatch.setattr(SFTRecipe, "stage", "sft@1000")  # what another version has changed
    state = run_cell(handed, return_state=True)
    assert state.is_failed()
    assert handed.handed
    for said in (str(plan.cells[0].cell), handed.handed.fingerprint, there, here):
        assert said in (state.message or "")
    assert list(tmp_path.iterdir()) == [], "it made nothing"

    assert handed.handed
    study = json.dumps({**json.loads(handed.handed.study), "key_of_tomorrow": 1})
    handed = handed.model_copy(update={"handed": handed.handed.model_copy(update={"study": study})})
    assert handed.label == f"{plan.study.name} {plan.cells[0].cell}"
    state = run_cell(handed, return_state=True)
    for said in ("does not know", there, here):
        assert said in (state.message or "")
    assert list(tmp_path.iterdir()) == []
