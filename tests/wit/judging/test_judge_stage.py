"""While a judge is asked, no model is held: none is brought for it, and none waits for it."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Forking, workers_are_forked
from judge_server import ENVIRON, JudgeServer, Reaction
from tiny import write_tiny_study

from wit.artifacts import Artifact
from wit.config import Runtime
from wit.evaluation.responses import RESPONSES_FILE
from wit.evaluation_recipes import JudgeEvaluation, ResponsesEvaluation
from wit.generation.answers import Answer, write_responses
from wit.loading import load_study
from wit.plan import Plan, make_plan
from wit.sharing import upload
from wit.stages import make_artifact
from wit.workers import workers_for

ANSWER = Answer("81", "writing", ("Write.",), ("A poem.",), (4,), (True,))


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    (tmp_path / "questions.jsonl").write_text(
        '{"question_id": 81, "category": "writing", "turns": ["Write."]}\n'
    )
    judged = {"name": "bench", "kind": "ratings", "role": "report", "path": "questions.jsonl"}
    file = write_tiny_study(tmp_path, "x", judged=[judged])
    file.write_text(f"{file.read_text()}judge: {{model: judge}}\n")
    return file


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """To make the tables of a database takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('lineage')}/mlflow.db"


@pytest.fixture
def on_machine(
    tmp_path: Path, tracking_uri: str, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Runtime]:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)

    def runtime(name: str, **knobs: Any) -> Runtime:
        place: dict[str, Any] = {
            "artifact_root": tmp_path / name,
            "device": "cpu",
            "threads_per_worker": 1,
        }
        place["tracking_uri"] = tracking_uri
        return Runtime.model_validate({**place, "judge": server.endpoint(), **knobs})

    return runtime


def kept(artifact: Artifact, runtime: Runtime, fill: Callable[[Path], object]) -> None:
    """As if the stage had run."""
    with artifact.lock(), artifact.writing() as out:
        fill(out)
    upload(artifact, runtime)


def stage_of(plan: Plan, kind: type) -> Artifact:
    return next(a for a in plan.cells[0].sft_evaluations if isinstance(a.recipe, kind))


def answered(plan: Plan, runtime: Runtime) -> Artifact:
    """The stage that judges the responses of the SFT model, which are there."""
    kept(plan.cells[0].sft, runtime, lambda out: (out / "weights").write_bytes(bytes(1000)))
    responses = stage_of(plan, ResponsesEvaluation)
    kept(responses, runtime, lambda out: write_responses(out / RESPONSES_FILE, [ANSWER]))
    return stage_of(plan, JudgeEvaluation)


def test_a_judge_is_asked_where_the_model_is_not(
    study_file: Path, tmp_path: Path, on_machine: Callable[..., Runtime]
) -> None:
    (tmp_path / "shared").mkdir()
    store = {"artifact_store": f"file://{tmp_path / 'shared'}"}
    one, two = on_machine("one", **store), on_machine("two", **store)
    study = load_study(study_file)
    answered(make_plan(study, one), one)
    there = make_plan(study, two)
    judge, sft = stage_of(there, JudgeEvaluation), there.cells[0].sft
    assert make_artifact(judge, two) == "made"
    assert stage_of(there, ResponsesEvaluation).exists()
    assert not sft.exists()
    assert judge.record()["parents"]["model"]["fingerprint"] == sft.fingerprint


def test_a_damaged_model_says_nothing_against_its_responses(
    study_file: Path, on_machine: Callable[..., Runtime]
) -> None:
    runtime = on_machine("root")
    plan = make_plan(load_study(study_file), runtime)
    judge = answered(plan, runtime)
    (plan.cells[0].sft.path / "weights").write_bytes(b"")
    assert make_artifact(judge, runtime) == "made"


@pytest.fixture
def release(server: JudgeServer) -> Iterator[threading.Event]:
    """The judge says nothing before it is set."""
    said = threading.Event()

    def wait(_: Any, __: int) -> Reaction:
        said.wait(40)
        return Reaction()

    server.behaviour = wait
    yield said
    said.set()


def test_the_only_worker_goes_on_while_a_judge_is_asked(
    study_file: Path,
    on_machine: Callable[..., Runtime],
    server: JudgeServer,
    release: threading.Event,
    forking: Forking,
) -> None:
    slow = server.endpoint(timeout_seconds=120)
    runtime = on_machine("root", num_workers=1, judge=slow)
    plan = make_plan(load_study(study_file), runtime)
    judge = answered(plan, runtime)
    with workers_are_forked(forking), workers_for("x", runtime) as workers:
        asking = threading.Thread(target=workers.make, args=(judge,))
        asking.start()
        while not server.num_open:
            assert asking.is_alive()
            time.sleep(0.01)
        assert workers.make(plan.tokenizer) == "made"
        assert server.num_open == 1
        assert not judge.exists()
        release.set()
        asking.join()
    assert judge.exists()
