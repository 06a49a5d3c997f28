"""MLflow is told the same whenever it is told, and never after others may tell it."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event

import pytest
from filelock import FileLock, Timeout
from tiny_study import STUDY, Plan, fail, make, make_without_lineage, plan, runs, write

from wit import lineage
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.errors import TrainingError
from wit.lineage.description import run_name, run_tags
from wit.lineage.place import sqlite_file
from wit.lineage.store import open_store
from wit.lineage.telling import TellingBeside
from wit.loading import load_study
from wit.plan import make_plan
from wit.stages import make_artifact

SMALL = """
name: small
base: {path: builtin}
instructions: {path: builtin, max_rows: 16}
preferences: {path: builtin, max_rows: 8}
weights: [instruction-tuning]
benchmarks: [{name: wit_cloze, role: select}]
"""


@pytest.fixture
def beside() -> Iterator[TellingBeside]:
    telling = TellingBeside()
    yield telling
    telling.wait()


@contextmanager
def taken(uri: str) -> Iterator[None]:
    """Nobody else writes into the store meanwhile."""
    file = sqlite_file(uri)
    assert file is not None
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def is_held(artifact: Artifact) -> bool:
    lock = FileLock(artifact.path.with_name(f".{artifact.fingerprint}.lock"))
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def what_is_known(uri: str) -> dict[str, tuple]:
    return {
        fingerprint: (
            run.info.status,
            run.info.run_name,
            run.data.params,
            {key: value for key, value in run.data.metrics.items() if key != "seconds"},
            sorted(run.data.tags),
            sorted(data.dataset.digest for data in run.inputs.dataset_inputs),
        )
        for fingerprint, run in runs(uri).items()
    }


def test_the_same_is_known_of_a_study_whenever_it_is_told(
    finished: tuple[Plan, str], beside: TellingBeside, uri: str, tmp_path: Path
) -> None:
    artifacts = plan(tmp_path)
    study = lineage.start_study(STUDY, artifacts.all, uri)
    for artifact in artifacts.all:
        make(artifact, uri, study, beside)
    beside.wait()
    lineage.end_study(study, uri, is_failed=False)
    assert what_is_known(uri) == what_is_known(finished[1])


def test_who_makes_an_artifact_goes_on_while_a_busy_store_is_told(
    uri: str, tmp_path: Path, beside: TellingBeside
) -> None:
    runtime = Runtime(artifact_root=tmp_path / "root", tracking_uri=uri, device="cpu")
    study = tmp_path / "study.yaml"
    study.write_text(SMALL)
    made = make_plan(load_study(study), runtime)
    make_artifact(made.tokenizer, runtime)  # imports what the next one needs: SQLite waits 5 s
    with taken(uri):
        assert make_artifact(made.instructions, runtime, None, beside) == "made"
        assert list(runs(uri)) == [made.tokenizer.fingerprint]
        assert is_held(made.instructions)  # or another process could tell of it too
    beside.wait()
    assert not is_held(made.instructions)
    assert [run.info.status for run in runs(uri).values()] == ["FINISHED"] * 2


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_history_goes_on_where_the_training_did_however_late_it_is_told(
    uri: str, tmp_path: Path, beside: TellingBeside, is_resumed: bool
) -> None:
    """And not where its directory is there by the time at which MLflow is told."""
    artifact = plan(tmp_path).sft[0]

    def attempt() -> None:
        with lineage.tracked(artifact, None, uri, beside) as tracker:
            tracker.log({"loss": 9.0}, 1)
            raise TrainingError("it failed")

    with pytest.raises(TrainingError):
        attempt()
    if is_resumed:
        artifact.scratch.mkdir(parents=True)  # with its checkpoint
    told = Event()
    beside.tell(told.wait)
    with lineage.tracked(artifact, None, uri, beside) as tracker, artifact.writing() as directory:
        if not is_resumed:
            told.set()  # so MLflow is told while the directory is there
            beside.wait()
        tracker.log({"loss": 1.0}, 1)
        write(artifact, directory)
    told.set()  # so MLflow is told when the directory has its last name
    beside.wait()
    [run] = runs(uri).values()
    points = open_store(uri).client.get_metric_history(run.info.run_id, "loss")
    firsts = [point.value for point in points if point.step == 1]
    assert firsts == ([9.0] if is_resumed else [9.0, 1.0])


def test_times_are_those_of_the_work_and_not_of_the_telling(
    uri: str, tmp_path: Path, beside: TellingBeside
) -> None:
    artifact = plan(tmp_path).sft[0]
    beside.tell(lambda: time.sleep(0.5))
    began = time.time()
    make(artifact, uri, telling=beside)
    ended = time.time()
    beside.wait()
    [run] = runs(uri).values()
    assert began - 0.001 <= run.info.start_time / 1000 <= ended
    assert run.info.end_time is not None
    assert run.info.start_time <= run.info.end_time <= 1000 * ended + 1


def test_what_other_machines_can_find_is_told(
    uri: str, tmp_path: Path, beside: TellingBeside
) -> None:
    (tmp_path / "store").mkdir()
    runtime = Runtime(
        artifact_root=tmp_path / "root",
        artifact_store=f"file://{tmp_path}/store",
        tracking_uri=uri,
        device="cpu",
    )
    study = tmp_path / "study.yaml"
    study.write_text(SMALL)
    tokenizer = make_plan(load_study(study), runtime).tokenizer
    beside.tell(lambda: time.sleep(0.5))
    make_artifact(tokenizer, runtime, None, beside)
    assert list((tmp_path / "store").rglob(f"{tokenizer.fingerprint}*"))
    assert [run.info.status for run in runs(uri).values()] == ["FINISHED"]


def test_what_is_made_of_an_artifact_is_told_after_it(uri: str, tmp_path: Path) -> None:
    """Another worker may not be done yet with telling of it, or was killed meanwhile."""
    artifacts = plan(tmp_path)
    model, evaluation = artifacts.sft[0], artifacts.evaluations[1]
    make_without_lineage([*artifacts.data, model])
    open_store(uri).create(run_name(model), run_tags(model))  # all that it has told
    make(evaluation, uri)
    known = runs(uri)
    of_model = known[model.fingerprint]
    assert of_model.info.status == "FINISHED"
    tags = known[evaluation.fingerprint].data.tags
    assert tags["wit.parent_model.model"] == of_model.data.tags["wit.model_id"]


def test_what_was_not_made_is_told_before_anybody_hears_of_it(
    uri: str, tmp_path: Path, beside: TellingBeside
) -> None:
    beside.tell(lambda: time.sleep(0.5))
    fail(plan(tmp_path).sft[0], uri, "loss is not finite", telling=beside)
    [run] = runs(uri).values()
    assert (run.info.status, run.data.tags["wit.error"]) == ("FAILED", "loss is not finite")


def test_what_cannot_be_told_is_said_and_the_rest_is_told(
    beside: TellingBeside, caplog: pytest.LogCaptureFixture
) -> None:
    told = []
    beside.tell(lambda: told.append(1))
    beside.tell(lambda: {}["missing"])
    beside.tell(lambda: told.append(2))
    beside.wait()
    assert told == [1, 2]
    assert "missing" in caplog.text


def test_a_process_ends_when_all_is_told(uri: str, tmp_path: Path) -> None:
    said = (
        "import sys, time\nfrom pathlib import Path\nfrom tiny_study import make, plan\n"
        "from wit.lineage import TellingBeside\n"
        "beside = TellingBeside()\nbeside.tell(lambda: time.sleep(0.5))\n"
        "make(plan(Path(sys.argv[1])).data[0], sys.argv[2], telling=beside)\n"
        "print(time.time())\n"
    )
    found = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {found}\n{said}", tmp_path, uri],
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.time() - float(done.stdout) > 0.4
    assert [run.info.status for run in runs(uri).values()] == ["FINISHED"]
