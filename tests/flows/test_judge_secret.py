"""The judge's key in a Secret block: the judge gets it, and nothing else has it."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import judge_server
import pytest
from commands import wit
from flow_runs import plan_of, runtime_words
from judge_server import Body, JudgeServer, Reaction, served_judge
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cell import run_cell
from flows.evaluation import run_evaluation
from flows.study import run_study
from tasks.secrets import with_judge_key
from wit.config import Runtime
from wit.errors import InputError
from wit.forms import CellRequest, Choice, EvaluationRequest, StudyRequest
from wit.lineage import table
from wit.loading import load_study
from wit.outcome import StudyOutcome
from wit.plan import make_plan

BLOCK = "test-judge-key"
KEY = f"{judge_server.KEY}{uuid4().hex}"  # that of no other test which runs now
QUESTIONS = [{"question_id": 1, "category": "writing", "turns": ["Write.", "Again."]}]


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with served_judge() as judge:
        yield judge


def save(name: str, value: Any) -> str:
    Secret(value=value).save(name, overwrite=True)
    return name


@pytest.fixture(scope="module")
def block(prefect: None) -> str:
    return save(BLOCK, KEY)


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What makes the tiny study one that is judged."""
    questions = tmp_path_factory.mktemp("judged") / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    bench = {"name": "bench", "kind": "ratings", "role": "report", "path": str(questions)}
    judged = json.dumps([{**bench, "max_new_tokens": 4}])
    one_cell = "weights=[instruction-tuning]"
    return ["name=judged-by-secret", one_cell, "judge.model=judge", f"judged={judged}"]


def words(root: Path, url: str, secret: str) -> list[str]:
    return [*runtime_words(root), f"judge.base_url={url}", f"judge.key_secret={secret}"]


def run(study_file: Path, overrides: list[str], runtime: list[str]) -> State:
    request = StudyRequest(study_file=str(study_file), settings=overrides, runtime_settings=runtime)
    return run_study(request, return_state=True)


def holds_key(content: bytes) -> bool:
    return KEY.encode() in content or json.dumps(KEY)[1:-1].encode() in content


def environments() -> Iterator[Path]:
    for process in Path("/proc").glob("[0-9]*"):
        yield from (process / "environ", process / "cmdline")


def test_the_judge_gets_the_key_of_a_block_and_nothing_else_has_it(
    study_file: Path,
    overrides: list[str],
    block: str,
    server: JudgeServer,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    told: list[Path] = []

    def look_around(_: Body, number: int) -> Reaction:
        for file in environments() if number == 0 else ():
            try:
                told.extend([file] * holds_key(file.read_bytes()))
            except OSError:  # a process that has ended
                continue
        return Reaction("Rating: [[6]]")

    server.behaviour = look_around
    root = tmp_path / "root"
    with caplog.at_level(logging.DEBUG):
        ended = run(study_file, overrides, words(root, server.url, block)).result()
    assert isinstance(ended, StudyOutcome)
    assert not ended.failures
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
    rows = table("judged-by-secret", f"sqlite:///{root}/mlflow.db")
    assert list(rows[rows["benchmark"] == "bench"]["score"]) == [6, 6, 6]

    assert not told
    assert KEY not in os.environ.values()
    said = "".join(capfd.readouterr()) + caplog.text
    assert not holds_key((said + "".join(str(vars(r)) for r in caplog.records)).encode())
    prefect = [*tmp_path_factory.getbasetemp().glob("prefect[0-9]*")]
    searched = [f for folder in (root, *prefect) for f in folder.rglob("*") if f.is_file()]
    assert {"mlflow.db", "prefect-test.db"} <= {file.name for file in searched}
    assert not [file for file in searched if holds_key(file.read_bytes())]
    with get_client(sync_client=True) as client:
        assert block in json.dumps(_parameters(client)), "its name is asked for, and shown"

    # What is judged already needs no key: the block may be gone.
    plan = make_plan(
        load_study(study_file, overrides),
        plan_runtime(root, server.url, "no-such-block"),
    )
    assert with_judge_key(plan, plan_runtime(root, server.url, "no-such-block")).judge is not None


def _parameters(client: object) -> list[object]:
    runs = client.read_flow_runs()  # pyright: ignore[reportAttributeAccessIssue]
    return [run.parameters for run in runs]


def plan_runtime(root: Path, url: str, secret: str) -> Runtime:
    judge = {"base_url": url, "key_secret": secret}
    return Runtime.model_validate({"artifact_root": root, "device": "cpu", "judge": judge})


FLOWS: dict[str, tuple[Any, type[Choice], dict[str, Any]]] = {
    "study": (run_study, StudyRequest, {}),
    "cell": (run_cell, CellRequest, {}),
    "evaluation": (run_evaluation, EvaluationRequest, {"models": ["base"]}),
}


@pytest.mark.parametrize("name", FLOWS)
def test_every_flow_that_judges_misses_a_block_before_anything_is_made(
    study_file: Path, overrides: list[str], prefect: None, tmp_path: Path, name: str
) -> None:
    flow, form, said = FLOWS[name]
    runtime = words(tmp_path / "root", "http://127.0.0.1:9/v1", "no-such-block")
    request = form.model_validate(
        {"study_file": str(study_file), "settings": overrides, "runtime_settings": runtime} | said
    )
    state = flow(request, return_state=True)
    assert isinstance(state.result(raise_on_failure=False), InputError)
    assert "judge.key_secret = no-such-block" in str(state.message)
    assert "has no such block" in str(state.message)
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_command_misses_a_block_and_ends_with_2(
    study_file: Path, overrides: list[str], prefect_url: str, tmp_path: Path, command: str
) -> None:
    runtime = words(tmp_path / "root", "http://127.0.0.1:9/v1", "no-such-block")
    options = [w for setting in runtime for w in ("--set-runtime", setting)]
    options += [w for setting in overrides for w in ("--set", setting)]
    ended = wit(command, study_file, *options, environment={"PREFECT_API_URL": prefect_url})
    assert ended.returncode == 2, ended.stdout
    assert "has no such block" in ended.stderr
    assert not list(tmp_path.rglob("record.json"))


def test_a_block_of_something_else_than_text_is_refused(
    study_file: Path, overrides: list[str], prefect: None, tmp_path: Path
) -> None:
    block = save("test-no-text", {"key": KEY})
    runtime = plan_runtime(tmp_path, "http://127.0.0.1:9/v1", block)
    plan = plan_of(study_file, tmp_path, *overrides)
    with pytest.raises(InputError, match="something else than text") as complaint:
        with_judge_key(plan, runtime)
    assert KEY not in str(complaint.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "PREFECT_API_URL names no Prefect server"),
        ("http://127.0.0.1:9/api", "Is it running"),
    ],
)
def test_without_a_server_there_is_no_block(
    study_file: Path, overrides: list[str], tmp_path: Path, url: str | None, says: str
) -> None:
    runtime = plan_runtime(tmp_path, "http://127.0.0.1:9/v1", "any")
    plan = plan_of(study_file, tmp_path, *overrides)
    elsewhere: dict[Any, str] = {PREFECT_API_URL: url} if url else {}
    with (
        temporary_settings(elsewhere, restore_defaults=set() if url else {PREFECT_API_URL}),
        pytest.raises(InputError, match=says) as complaint,
    ):
        with_judge_key(plan, runtime)
    assert "judge.key_variable" in str(complaint.value), "the remedy"


@contextmanager
def answering(said: str) -> Iterator[str]:
    """Address of a server that says the same to all."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = said.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("said", ["{}", "<html>"])
def test_who_does_not_answer_as_prefect_is_not_said_to_lack_the_block(
    study_file: Path, overrides: list[str], tmp_path: Path, said: str
) -> None:
    runtime = plan_runtime(tmp_path, "http://127.0.0.1:9/v1", "any")
    plan = plan_of(study_file, tmp_path, *overrides)
    with (
        answering(said) as url,
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(InputError, match=r"does not give it: \w+\..*end in /api"),
    ):
        with_judge_key(plan, runtime)
