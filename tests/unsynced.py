"""Nothing here waits for a disk: no test cuts the power, after which alone that would matter.

A killed process loses nothing that it has written. Each of MLflow's many small commits would wait
three times for the disk, as would every file of a checkpoint.
"""

import os
import sqlite3
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine


def do_not_wait(fd: object) -> None:
    """In place of ``os.fsync``."""


@event.listens_for(Engine, "connect")
def do_not_sync(connection: Any, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


os.fsync = do_not_wait
