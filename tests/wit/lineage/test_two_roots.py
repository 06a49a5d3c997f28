"""Registrations from several artifact roots of a machine see each other's champion."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from contest import hold
from registered import BETTER, GOOD, aliases, versions

from wit.champion import register
from wit.choice import Choice
from wit.lineage.store import open_store


def _register(uri: str, choice: Choice, barrier: Barrier) -> None:
    open_store(uri)
    barrier.wait()
    register("two-roots", choice, uri)


@pytest.mark.parametrize("place", ["uri", "server"])
def test_two_artifact_roots_on_one_store_see_each_others_champion(place, request, tmp_path: Path):
    uri = request.getfixturevalue(place)
    good = hold(tmp_path / "one", uri, "good", {"p0-r1-s0": GOOD})
    better = hold(tmp_path / "other", uri, "better", {"p0.2-r1-s0": BETTER})
    context = multiprocessing.get_context("fork")  # imports nothing anew
    barrier = context.Barrier(2)
    processes = [
        context.Process(target=_register, args=(uri, contest.choose(), barrier))
        for contest in (good, better)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    found = versions(uri, "two-roots")
    compared = [v for v in found.values() if "wit.compared_with" in v.tags]
    assert len(found) == 2
    assert len(compared) == 1, "the second saw the first"
    [champion] = (v for n, v in found.items() if aliases(uri, "two-roots")["champion"] == n)
    assert champion.tags["wit.study"] == "better"
