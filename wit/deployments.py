"""Work pool and deployments on a Prefect server, over its REST API.

Prefect's own command makes a work pool only after it has fetched templates from GitHub, and its
``deploy`` sets schedules back to what ``prefect.yaml`` says; whoever resumed the nightly run in
the UI would lose it at the next start.
"""

import json
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

WORK_POOL = "wit"
TIMEOUT_SECONDS = 60.0
BUSY_SECONDS = 0.5  # between attempts
web = build_opener(ProxyHandler({}))  # a proxy cannot reach the loopback of this machine


class Schedule(NamedTuple):
    """A schedule of a deployment."""

    deployment_id: str
    id: str
    slug: str
    is_active: bool


def make_work_pool(address: str) -> None:
    """Creates the pool of processes on this machine; leaves one that is there as it is."""
    pool = {"name": WORK_POOL, "type": "process", "description": "Runs on this machine."}
    try:
        _call(address, "POST", "/work_pools/", pool)
    except HTTPError as error:
        if error.code != HTTPStatus.CONFLICT:
            raise


def forget_worker(address: str, name: str) -> None:
    """Forgets a worker that has ended, so that its name is seen again only when it is back."""
    try:
        _call(address, "DELETE", f"/work_pools/{WORK_POOL}/workers/{quote(name)}")
    except HTTPError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise


def has_worker(address: str, name: str) -> bool:
    """Whether a worker of that name polls the pool."""
    workers = _call(address, "POST", f"/work_pools/{WORK_POOL}/workers/filter", {})
    return any(worker["name"] == name for worker in workers)


def schedules(address: str) -> Iterator[Schedule]:
    """All schedules of all deployments."""
    for deployment in _call(address, "POST", "/deployments/filter", {}):
        for found in deployment["schedules"]:
            yield Schedule(deployment["id"], found["id"], found["slug"], found["active"])


def restore_schedules(address: str, before: list[Schedule]) -> None:
    """Pauses and resumes schedules as they were before a deployment was applied again."""
    was_active = {(s.deployment_id, s.slug): s.is_active for s in before}
    for schedule in schedules(address):
        wanted = was_active.get((schedule.deployment_id, schedule.slug), schedule.is_active)
        if wanted != schedule.is_active:
            place = f"/deployments/{schedule.deployment_id}/schedules/{schedule.id}"
            _call(address, "PATCH", place, {"active": wanted})


def _call(address: str, method: str, path: str, content: Any = None) -> Any:
    """Asks until the server is not too busy to answer: its SQLite serves one writer at a time."""
    request = Request(
        f"{address}/api{path}",
        method=method,
        data=None if content is None else json.dumps(content).encode(),
        headers={"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            with web.open(request, timeout=TIMEOUT_SECONDS) as response:
                text = response.read()
            return json.loads(text) if text else None
        except HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise
        time.sleep(BUSY_SECONDS)
