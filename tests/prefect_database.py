"""Prefect's database with all its tables, made once: a new server would take ten seconds for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

NAME = "prefect.db"  # its name in PREFECT_HOME
MAKE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


def put_database(file: Path, shared: Path) -> Path:
    """Makes the file such a database, for a server that has not been started yet.

    Args:
        file: PREFECT_HOME/prefect.db, unless the server is told another place.
        shared: Where all processes of a test run find what the first of them has made.
    """
    made = shared / "prefect-home"
    with FileLock(shared / "prefect-home.lock"):
        if not made.exists():
            making = made.with_suffix(".partial")
            environment = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT")}
            environment["PREFECT_HOME"] = str(making)
            subprocess.run([sys.executable, "-c", MAKE], env=environment, check=True)
            making.rename(made)
    assert not (made / f"{NAME}-wal").exists(), "then it would not be all of it"
    file.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(made / NAME, file))
