"""Which ``wit up`` has an artifact root, and what it runs.

Who has the lock runs; the kernel lets go of it when its process ends, however that ended. The file
beside it says what was started, also of one that was killed, and holds no secret.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from wit.config import Runtime

FILE = "up.json"
LOCK = "up.lock"
CLOCK_SECONDS = 5.0  # by which the start of a process may seem to move when a clock is set


@dataclass(frozen=True)
class Worker:
    """One worker of ``wit up``."""

    program: str  # and the name of its log
    name: str  # in Prefect
    pool: str
    limit: int  # of runs at a time
    gpus: str = ""  # as CUDA_VISIBLE_DEVICES names them; empty: it sees what there is


@dataclass(frozen=True)
class Standing:
    """What a ``wit up`` runs."""

    pid: int
    started: float  # of that process; its number alone may be another's by now
    mark: str  # of all that it started
    prefect: str  # addresses
    mlflow: str
    workers: list[Worker]
    pids: dict[str, int] = field(default_factory=dict)  # of programs
    host: str = field(default_factory=socket.gethostname)

    @property
    def is_here(self) -> bool:
        """Whether it was started on this machine."""
        return self.host == socket.gethostname()

    def lives(self) -> bool:
        """Whether it still runs; of another machine nobody here can tell."""
        if not self.is_here:
            return True
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return False
        return abs(started - self.started) < CLOCK_SECONDS


def server_folder(runtime: Runtime) -> Path:
    """Logs and all else that ``wit up`` keeps."""
    return runtime.artifact_root.resolve() / "servers"


@contextmanager
def claimed(lock_file: Path) -> Iterator[bool]:
    """Whether this process has the lock, which no other has until the end of the block."""
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def write_standing(folder: Path, standing: Standing) -> None:
    """Says what runs; readers find the old text or the new one."""
    aside = folder / f"{FILE}.partial"
    aside.write_text(json.dumps(asdict(standing), indent=1), encoding="utf-8")
    aside.rename(folder / FILE)


def forget_standing(folder: Path) -> None:
    """Says that nothing runs any more."""
    (folder / FILE).unlink(missing_ok=True)


def read_standing(folder: Path) -> Standing | None:
    """What was started last, dead or alive; nothing if it came to its end in good order."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        workers = [Worker(**worker) for worker in content.pop("workers")]
        return Standing(**content, workers=workers)
    except (OSError, ValueError, KeyError, TypeError):  # none, or of another version of wit
        return None
