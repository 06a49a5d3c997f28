"""MLflow is told the same whenever it is told, and never after others may tell it."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from tiny_study import STUDY, Plan, fail, make, plan, runs

from wit import lineage
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.lineage.place import sqlite_file
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
