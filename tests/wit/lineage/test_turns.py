"""Registrations take turns by the store alone, whatever machine and artifact root they are of."""

import multiprocessing
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from contest import hold
from registered import BETTER, GOOD, aliases, versions

from wit.champion import register
from wit.choice import Choice
from wit.lineage import turns
from wit.lineage.store import open_store
from wit.lineage.turns import PREFIX, Ticket, turn

ROUNDS = 3


def _count(uri: str, file: Path, barrier: Barrier) -> None:
    """Adds to a number, not all at once: what two do at a time is lost."""
    store = open_store(uri)
    barrier.wait()
    for _ in range(ROUNDS):
        with turn(store):
            number = int(file.read_text())
            time.sleep(0.02)
            file.write_text(str(number + 1))


def _register(uri: str, choice: Choice, barrier: Barrier) -> None:
    open_store(uri)
    barrier.wait()
    register("two-roots", choice, uri)


def at_once(work, *each) -> None:
    context = multiprocessing.get_context("fork")  # imports nothing anew
    barrier = context.Barrier(len(each))
    processes = [context.Process(target=work, args=(*one, barrier)) for one in each]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(each)


def tickets(uri: str) -> dict[str, str]:
    store = open_store(uri)
    tags = store.client.get_experiment(store.experiment_id).tags
    return {key: value for key, value in tags.items() if key.startswith(PREFIX)}


@pytest.mark.parametrize("place", ["uri", "server"])
def test_one_process_at_a_time_has_its_turn(place, request, tmp_path: Path):
    uri, file = request.getfixturevalue(place), tmp_path / "number"
    file.write_text("0")
    at_once(_count, *[(uri, file)] * 2)
    assert file.read_text() == str(2 * ROUNDS)
    assert tickets(uri) == {}


def test_two_artifact_roots_on_one_store_see_each_others_champion(uri: str, tmp_path: Path):
    good = hold(tmp_path / "one", uri, "good", {"p0-r1-s0": GOOD})
    better = hold(tmp_path / "other", uri, "better", {"p0.2-r1-s0": BETTER})
    at_once(_register, (uri, good.choose()), (uri, better.choose()))
    found = versions(uri, "two-roots")
    compared = [v for v in found.values() if "wit.compared_with" in v.tags]
    assert len(found) == 2
    assert len(compared) == 1, "the second saw the first"
    [champion] = (v for n, v in found.items() if aliases(uri, "two-roots")["champion"] == n)
    assert champion.tags["wit.study"] == "better"


def test_a_turn_of_a_killed_process_is_over(uri: str):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    put(uri, Ticket(number=1, machine=turns._machine(), pid=dead.pid, at=time.time()))
    with turn(open_store(uri)):
        assert len(tickets(uri)) == 1, "that of the dead is gone"
    assert tickets(uri) == {}


@pytest.mark.parametrize("number", [turns.DRAWING, 1])
def test_a_turn_of_another_machine_is_waited_for_until_its_lease_ends(uri, number, monkeypatch):
    monkeypatch.setattr(turns, "LEASE_SECONDS", 1.0)
    began = time.time()
    put(uri, Ticket(number=number, machine="elsewhere", pid=1, at=began))
    with turn(open_store(uri)):
        assert time.time() - began > 1.0


def test_a_failure_ends_the_turn(uri: str):
    with pytest.raises(RuntimeError), turn(open_store(uri)):
        raise RuntimeError
    assert tickets(uri) == {}


def put(uri: str, ticket: Ticket) -> None:
    store = open_store(uri)
    store.client.set_experiment_tag(store.experiment_id, f"{PREFIX}0", ticket.model_dump_json())
