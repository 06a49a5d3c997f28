"""A scheduled study under a `wit up`, whose MLflow server is away for a while in mid-training."""

import itertools
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from scheduled_study import EVERY, Scheduled, plan_of
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol
from wit_up import Up, call, counts_in

pytestmark = pytest.mark.timeout(900)


def test_a_schedule_creates_its_runs_and_the_first_is_made_by_a_worker(
    up: Up, scheduled: Scheduled
) -> None:
    assert scheduled.first["name"] == "Completed", up.logs()
    first, *later = scheduled.runs
    assert first["work_pool_name"] == "wit"
    times = [datetime.fromisoformat(run["expected_start_time"]) for run in scheduled.runs]
    assert {later - sooner for sooner, later in itertools.pairwise(times)} == {EVERY}
    assert {run["state"]["name"] for run in later} == {"Scheduled"}


def test_a_study_in_one_place_is_found_in_prefect(
    up: Up, scheduled: Scheduled, small_study: Path
) -> None:
    counts = counts_in(scheduled.first["message"])
    assert sum(counts.values()) == 5 + 2 + 11
    assert counts.keys() <= {"made", "reused"}
    assert counts["made"] >= 8, "the cell's"
    run, [plan] = scheduled.runs[0]["id"], plan_of(up, small_study).cells
    names = {task["name"] for task in up.of_run(run, "task_runs")}
    cell = "p0.5-r1-s0"
    trained = {f"sft {cell}", f"reference {cell}", f"dpo {cell}"}
    measured = {f"{name} of base" for name in ("wit_choice", "likelihood")} | {
        f"{name} of {stage} {cell}"
        for name in ("wit_choice", "likelihood", "alignment", "forgetting")
        for stage in ("sft", "dpo")
    }
    data = {"tokenizer", "items", "instructions", "preferences", "overlap"}
    assert names == {"begin", *data, *trained, *measured, "report"}
    artifacts = {artifact["key"]: artifact for artifact in up.of_run(run, "artifacts")}
    summary = artifacts["report-small"]
    assert f"| {cell} |" in summary["data"]
    assert up.mlflow in summary["data"], "the worker logs to the server"
    bars = {key: a["data"] for key, a in artifacts.items() if a["type"] == "progress"}
    assert f"sft-{plan.sft.fingerprint}" in bars
    assert set(bars.values()) == {100}


def test_a_study_whose_mlflow_was_away_is_complete_and_mlflow_has_all_of_it(
    up: Up, scheduled: Scheduled, small_study: Path
) -> None:
    stopped_at, num_steps, *_ = scheduled.stopped_at
    assert 0 < stopped_at < num_steps
    plan = plan_of(up, small_study)
    fingerprints = {artifact.fingerprint for artifact, _ in plan.artifacts()}
    condition = {"experiment_ids": ["1"], "max_results": 1000}
    found = call(f"{up.mlflow}/api/2.0/mlflow/runs/search", "POST", condition)["runs"]
    runs: dict[str, list[dict[str, Any]]] = {}
    for run in found:
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        runs.setdefault(tags.get("wit.fingerprint") or run["info"]["run_name"], []).append(run)
    ours = [run for key in (*fingerprints, "study small") for run in runs[key]]
    assert len(ours) == len(fingerprints) + 1
    assert {run["info"]["status"] for run in ours} == {"FINISHED"}
    assert {"sft p0.5-r1-s0", "dpo p0.5-r1-s0"} <= {run["info"]["run_name"] for run in ours}
    [training] = runs[plan.cells[0].sft.fingerprint]
    asked = f"run_id={training['info']['run_id']}&metric_key=loss"
    losses = call(f"{up.mlflow}/api/2.0/mlflow/metrics/get-history?{asked}")["metrics"]
    assert sorted(loss["step"] for loss in losses) == list(range(1, num_steps + 1))


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}])  # sent without leave
def test_a_page_of_another_address_cannot_ask_prefect(up: Up, headers: dict[str, str]) -> None:
    """Its API can have programs run here. Who else is not answered: test_guarded_server.py."""
    place, content = f"{up.prefect}/api/flows/", b'{"name": "evil"}'
    theirs = {**headers, "Origin": "http://evil.example"}
    with pytest.raises(HTTPError) as refused, urlopen(Request(place, content, theirs)):
        pass
    with refused.value as answer:
        assert answer.code == 403
    named = {"flows": {"name": {"any_": ["evil"]}}}
    assert up.api("POST", "/flows/filter", named) == []


def test_nor_can_it_listen_to_events(up: Up) -> None:
    place = f"{up.prefect.replace('http', 'ws')}/api/events/out"
    for origin in (None, Origin(up.prefect)):
        with connect(place, origin=origin, subprotocols=[Subprotocol("prefect")]):
            pass
    theirs = Origin("http://evil.example")
    with pytest.raises(InvalidStatus, match="403"), connect(place, origin=theirs):
        pass
