"""One at a time, by the tracking store itself: for processes that share nothing else.

Lamport's bakery: each draws a number and waits for those with smaller ones. Of a store it asks only
that a tag which was written can be read, as in a file, in a database and on a server.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from wit.errors import InputError
from wit.lineage.store import Store, translated
from wit.settings import Settings

PREFIX = "wit.turn."  # how the experiment's tags begin, one for each that waits or has its turn
DRAWING = 0  # in the place of a number while one is drawn: others wait for it
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 5.0  # before it is said that somebody is waited for
LEASE_SECONDS = 600.0  # of those on other machines, of which one cannot see whether they live
_log = logging.getLogger(__name__)


class Ticket(Settings):
    """Who waits, and since when."""

    number: int
    machine: str
    pid: int
    at: float  # seconds since 1970

    @property
    def is_void(self) -> bool:
        """Its process was killed."""
        if self.machine != _machine():
            return time.time() - self.at > LEASE_SECONDS
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's, alive
            return False
        return False


def _machine() -> str:
    """The same only where process ids mean the same: containers may share a host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


@contextmanager
def turn(store: Store) -> Iterator[None]:
    """Held by one process or thread at a time, of all that use the store.

    Raises:
        InputError: The store cannot be written or read.
    """
    mine = f"{PREFIX}{uuid4().hex}"
    try:
        _write(store, mine, DRAWING)
        number = 1 + max((ticket.number for ticket in _others(store, mine).values()), default=0)
        _write(store, mine, number)
        _wait(store, mine, number)
        yield
    finally:
        _remove(store, mine)


def _wait(store: Store, mine: str, number: int) -> None:
    began = renewed = time.monotonic()
    is_said = False
    while True:
        before = [
            ticket
            for key, ticket in _others(store, mine).items()
            if ticket.number == DRAWING or (ticket.number, key) < (number, mine)
        ]
        if not before:
            return
        if time.monotonic() - began > PATIENCE_SECONDS and not is_said:
            _log.warning("waiting for another registration (process %s)", before[0].pid)
            is_said = True
        if time.monotonic() - renewed > LEASE_SECONDS / 10:
            _write(store, mine, number)
            renewed = time.monotonic()
        time.sleep(POLL_SECONDS)


def _others(store: Store, mine: str) -> dict[str, Ticket]:
    """The tickets of those that live; others are taken away."""
    with translated(store.uri):
        tags = store.client.get_experiment(store.experiment_id).tags
    found: dict[str, Ticket] = {}
    for key, value in tags.items():
        if not key.startswith(PREFIX) or key == mine:
            continue
        try:
            ticket = Ticket.model_validate_json(value)
        except ValidationError:  # somebody else's tag
            continue
        if ticket.is_void:
            _remove(store, key)
        else:
            found[key] = ticket
    return found


def _write(store: Store, key: str, number: int) -> None:
    ticket = Ticket(number=number, machine=_machine(), pid=os.getpid(), at=time.time())
    with translated(store.uri):
        store.client.set_experiment_tag(store.experiment_id, key, ticket.model_dump_json())


def _remove(store: Store, key: str) -> None:
    try:
        with translated(store.uri):
            if key in store.client.get_experiment(store.experiment_id).tags:
                store.client.delete_experiment_tag(store.experiment_id, key)
    except InputError as error:
        _log.warning("tag %s of the experiment may stay: %s", key, error)
