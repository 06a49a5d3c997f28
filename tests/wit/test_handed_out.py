"""Studies that hand their parts to workers: a real `wit up`, two workers for parts."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest
import yaml
from browser import CHROMIUM, BrowserTab, browser
from prefect_database import put_database
from tiny import make_tiny_base
from wit_up import Up, call, wait_for

from wit.artifacts import read_record
from wit.config import Runtime
from wit.forms import StudyRequest
from wit.loading import load_study
from wit.plan import Plan, make_plan
from wit.settings import Settings

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("up"), "--gpu-workers", "2")
    put_database(up.home / "prefect.db", shared_folder)
    with up.started():
        yield up


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    rows = {"path": "builtin", "held_out_fraction": 0.2}
    content = {
        "name": "one",
        "base": {"path": str(make_tiny_base(folder / "base"))},
        "instructions": {**rows, "max_rows": 48},
        "preferences": {**rows, "max_rows": 32},
        "weights": [{"prompt": 0, "response": 1}, {"prompt": 0.5, "response": 1}],
        "sft": {"learning_rate": 1e-2, "num_epochs": 2, "examples_per_step": 16},
        "dpo": {"learning_rate": 1e-3, "num_epochs": 1, "examples_per_step": 16},
        "benchmarks": [{"name": "wit_choice", "role": "select", "limit": 8}],
    }
    file = folder / "one.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


OTHER = ["name=other", "weights=[{prompt: 0.5, response: 1}]"]


def plan_of(up: Up, study_file: Path, *overrides: str) -> Plan:
    return make_plan(load_study(study_file, overrides), Runtime(artifact_root=up.root))


def parts(up: Up, run: str) -> list[dict]:
    """The runs of parts of a study that it asked for itself."""
    tasks = [task["id"] for task in up.of_run(run, "task_runs")]
    condition = {"flow_runs": {"parent_task_run_id": {"any_": tasks}}}
    return up.api("POST", "/flow_runs/filter", condition)


@pytest.fixture(scope="module")
def both(up: Up, study_file: Path) -> dict[str, dict]:
    """Two studies, one within the other, started together; how they ended, by run."""
    runs = [
        up.run("study", request={"study_file": str(study_file)}),
        up.run("study", request={"study_file": str(study_file), "settings": OTHER}),
    ]
    return {run: up.wait_for_end(run) for run in runs}


def test_two_studies_that_share_cells_make_each_artifact_once(
    up: Up, both: dict[str, dict], study_file: Path
) -> None:
    assert [state["name"] for state in both.values()] == ["Completed"] * 2, (both, up.logs())
    plans = [plan_of(up, study_file), plan_of(up, study_file, *OTHER)]
    artifacts = {a.fingerprint: a for plan in plans for a, _ in plan.artifacts()}
    assert all(artifact.verified().exists() for artifact in artifacts.values())
    condition = {"experiment_ids": ["1"], "max_results": 1000}
    found = call(f"{up.mlflow}/api/2.0/mlflow/runs/search", "POST", condition)["runs"]
    tags = [{t["key"]: t["value"] for t in run["data"]["tags"]} for run in found]
    made = Counter(t["wit.fingerprint"] for t in tags if "wit.fingerprint" in t)
    assert made == dict.fromkeys(artifacts, 1)
    # The shared cell and the base were asked for once, whoever asked.
    names = Counter(part["name"] for run in both for part in parts(up, run))
    assert sum(names.values()) == 3, names
    assert {part["work_pool_name"] for run in both for part in parts(up, run)} == {"wit-gpu"}


def test_a_study_of_parts_is_told_as_one_that_ran_in_one_place(
    up: Up, both: dict[str, dict], study_file: Path
) -> None:
    run = next(iter(both))
    plan = plan_of(up, study_file)
    num_stages = len(list(plan.artifacts()))
    counts = Counter()
    for words in both[run]["message"].split(", "):
        number, status = words.split()
        counts[status] += int(number)
    assert sum(counts.values()) == num_stages
    assert set(counts) <= {"made", "reused"}
    artifacts = {artifact["key"]: artifact for artifact in up.of_run(run, "artifacts")}
    assert "data:image/png;base64," in artifacts["report-one"]["data"]
    assert (up.root / "studies" / "one" / "report.html").is_file()


def test_a_finished_study_asks_nobody(up: Up, both: dict[str, dict], study_file: Path) -> None:
    run = up.run("study", request={"study_file": str(study_file)})
    assert up.wait_for_end(run)["message"] == "14 reused"
    assert parts(up, run) == []
    states = {task["name"]: task["state"]["name"] for task in up.of_run(run, "task_runs")}
    made = {name for name, state in states.items() if state != "Reused"}
    assert made == {"begin", "report"}


def test_a_part_whose_process_is_killed_is_made_all_the_same(
    up: Up, both: dict[str, dict], study_file: Path
) -> None:
    long = ["name=long", "sft.num_epochs=60", "weights=[{prompt: 1, response: 0.5}]"]
    request = {"study_file": str(study_file), "settings": long}
    run = up.run("study", request={**request, "runtime_settings": ["checkpoint_seconds=0.05"]})
    sft = plan_of(up, study_file, *long).cells[0].sft
    wait_for("a checkpoint", lambda: list(sft.scratch.glob("checkpoints/*/complete")), 0.1)
    killed = [
        process
        for number in range(2)
        for process in up.of_program(f"worker-gpu-{number}")
        if "PREFECT__FLOW_RUN_ID" in process.environ()
    ]
    for process in killed:
        process.kill()
    state = up.wait_for_end(run)
    assert state["name"] == "Completed", (state, up.logs())
    states = Counter(part["state"]["name"] for part in parts(up, run))
    assert states["Crashed"] >= 1
    assert sft.verified().exists()
    assert read_record(sft.path)["files"]


def test_fields_that_a_run_leaves_open_are_those_of_the_deployment(
    up: Up, both: dict[str, dict], study_file: Path
) -> None:
    """Prefect would replace the deployment's request whole, and lose where `wit up` keeps runs."""
    run = up.run("report", request={"study": "one"})
    state = up.wait_for_end(run)
    assert state["name"] == "Completed", state
    assert str(up.root) in state["message"]


@pytest.mark.parametrize(
    "request_",
    [{"seeds": [-1]}, {"study": "quikstart"}, {"sft_loss": "mse"}, {"weight": []}, {"seeds": "1"}],
)
def test_the_server_refuses_what_no_field_takes(up: Up, request_: dict[str, Any]) -> None:
    with pytest.raises(HTTPError) as refused:
        up.run("study", request=request_)
    assert refused.value.code in (409, 422)


def titles(schema: dict[str, Any], form: type[Settings]) -> Iterator[str]:
    for name in form.model_fields:
        yield schema["properties"][name]["title"]


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
def test_the_form_in_a_browser(up: Up, tmp_path: Path) -> None:
    pictures = Path(os.environ.get("WIT_PICTURES", tmp_path))  # for the documentation
    with browser() as tab:
        deployment = up.deployment("study")["id"]
        tab.show(f"{up.prefect}/deployments/deployment/{deployment}/run", height=2400)
        for title in titles(StudyRequest.model_json_schema(), StudyRequest):
            shown(tab, title)
        tab.screenshot(pictures / "run-form.png")
        assert {urlsplit(url).hostname for url in tab.requests} <= {"127.0.0.1", None}


def shown(tab: BrowserTab, words: str) -> str:
    """Text of a page, once it has these words."""

    def text() -> str | None:
        found = tab.ask("document.body.innerText")
        return found if words in found else None

    return wait_for(words, text)
