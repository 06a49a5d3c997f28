"""What holds for all tests: nothing is fetched, and a property fails for everyone or for no one."""

import gc
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import unsynced  # noqa: F401
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from forked import Forking

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tiny models gain nothing from threads, and lose much to them on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Else each of a hundred processes compiles all of wit anew, and pytest all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

gc.disable()  # until all tests are collected: of the million objects of an import none is garbage

settings.register_profile("house", deadline=None, derandomize=True, database=None)
settings.load_profile("house")


@pytest.fixture(scope="module", autouse=True)
def same_store() -> Iterator[None]:
    """No file leaves its MLflow behind: mlflow.set_tracking_uri changes the environment too."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    assert os.environ.get("MLFLOW_TRACKING_URI") == before


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a store of objects, as Amazon's, which the environment names."""
    from object_store import served_objects

    with served_objects(tmp_path_factory.mktemp("objects")) as address:
        yield address


@pytest.fixture(scope="session")
def forking() -> "Forking":
    """Starts processes in no time."""
    from forked import start_forking

    return start_forking()


@pytest.fixture(scope="module")
def forked_workers(forking: "Forking") -> Iterator[None]:
    """Workers of stages start in no time."""
    from forked import workers_are_forked

    with workers_are_forked(forking):
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


TESTS = Path(__file__).parent
# One process runs all files of such a row, in this order, for they share servers.
TOGETHER = (
    ("wit/test_handed_out.py", "wit/test_schedules.py", "wit/test_servers.py"),
    ("flows/",),
)
# Of these a file may take a minute: they begin first, lest one worker is left alone with the last.
# With --no-loadscope-reorder, that is: else xdist begins with the files that have most tests.
LONG = (
    *chain(*TOGETHER),
    "wit/training/",
    "wit/test_s",
    "wit/test_workers",
    "wit/test_export",
    "wit/lineage/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(TESTS).as_posix()
        return next((n for n, begin in enumerate(LONG) if file.startswith(begin)), len(LONG))

    items.sort(key=place)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    """As ``--dist=loadfile``, which knows of no files that belong together."""

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            begin = file.removeprefix("tests/")
            return next((row[0] for row in TOGETHER if begin.startswith(row)), file)

    return Scheduling(config, log)


def pytest_collection_finish() -> None:
    """What was imported stays; else trainings, which collect garbage, look at all of it again."""
    gc.collect()
    gc.freeze()
    gc.enable()
