"""Work pools, deployments and automations on a Prefect server, over its REST API.

Prefect's own command makes a work pool only after it has fetched templates from GitHub, and its
``deploy`` sets schedules back to what ``prefect.yaml`` says; whoever resumed the nightly run in
the UI would lose it at the next start.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote

from wit.serving.web import TIMEOUT_SECONDS, ask

WORK_POOL = "wit"
GPU_POOL = "wit-gpu"
POOLS = {  # two, for a parent that waits for its children in one pool can take their last place
    WORK_POOL: "Studies and reports: what waits for other runs.",
    GPU_POOL: "Cells and evaluations: each takes a GPU, or the CPU of this machine.",
}
CRASH_AUTOMATION = "Mark runs as crashed whose process is gone"
# What a run that has a process says last, when the process is about to have nothing more to say.
LAST_WORDS = (
    *("Completed", "Failed", "TimedOut", "Crashed", "Cancelled"),
    *("AwaitingRetry", "AwaitingConcurrencySlot", "Scheduled", "Late", "Paused", "Suspended"),
)


class Schedule(NamedTuple):
    """A schedule of a deployment."""

    deployment_id: str
    id: str
    slug: str
    is_active: bool


class PrefectServer:
    """A Prefect server that is asked over HTTP."""

    def __init__(self, address: str, credentials: str | None = None) -> None:
        """Asks nothing yet.

        Args:
            address: Such as ``http://127.0.0.1:4200``.
            credentials: ``USER:PASSWORD`` of its basic auth, where that is on.
        """
        self.address = address
        self._credentials = credentials

    def make_work_pools(self) -> None:
        """Creates both pools of processes; leaves those that are there as they are."""
        for name, description in POOLS.items():
            pool = {"name": name, "type": "process", "description": description}
            try:
                self._call("POST", "/work_pools/", pool)
            except HTTPError as error:
                if error.code != HTTPStatus.CONFLICT:
                    raise

    def forget_worker(self, pool: str, name: str) -> None:
        """Forgets a worker that has ended, so that its name is seen only when it is back."""
        try:
            self._call("DELETE", f"/work_pools/{pool}/workers/{quote(name)}")
        except HTTPError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise

    def polling_workers(self, pool: str, timeout: float = TIMEOUT_SECONDS) -> set[str]:
        """Names of the workers that poll a pool."""
        place = f"/work_pools/{pool}/workers/filter"
        workers = self._call("POST", place, {}, timeout=timeout)
        return {worker["name"] for worker in workers if worker["status"] == "ONLINE"}

    def deployments(self, timeout: float = TIMEOUT_SECONDS) -> list[str]:
        """Names of all deployments."""
        found = self._call("POST", "/deployments/filter", {}, timeout=timeout)
        return sorted(deployment["name"] for deployment in found)

    def schedules(self) -> Iterator[Schedule]:
        """All schedules of all deployments."""
        for deployment in self._call("POST", "/deployments/filter", {}):
            for found in deployment["schedules"]:
                yield Schedule(deployment["id"], found["id"], found["slug"], found["active"])

    def restore_schedules(self, before: list[Schedule]) -> None:
        """Pauses and resumes schedules as they were before a deployment was applied again."""
        was_active = {(s.deployment_id, s.slug): s.is_active for s in before}
        for schedule in self.schedules():
            wanted = was_active.get((schedule.deployment_id, schedule.slug), schedule.is_active)
            if wanted != schedule.is_active:
                place = f"/deployments/{schedule.deployment_id}/schedules/{schedule.id}"
                self._call("PATCH", place, {"active": wanted})

    def make_crash_automation(self, crashed_after: float) -> None:
        """Creates what marks dead runs; leaves one that is there as it is.

        A worker says of a run whose process was killed that it crashed. If the worker is killed
        too, nobody would, and the run would be Running for ever and hold its place.

        Args:
            crashed_after: Seconds without a sign of life of a run; more than its signs are apart.
        """
        named = {"automations": {"name": {"any_": [CRASH_AUTOMATION]}}}
        if not self._call("POST", "/automations/filter", named):
            self._call("POST", "/automations/", _crash_automation(crashed_after))

    def _call(
        self, method: str, path: str, content: Any = None, timeout: float = TIMEOUT_SECONDS
    ) -> Any:
        place = f"{self.address}/api{path}"
        return ask(place, method, content, credentials=self._credentials, timeout=timeout)


def _crash_automation(crashed_after: float) -> dict[str, Any]:
    """Prefect's documented way to find zombies."""
    sign_of_life = "prefect.flow-run.heartbeat"
    return {
        "name": CRASH_AUTOMATION,
        "description": f"No sign of life for {crashed_after:g} seconds. Made by wit up.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Proactive",
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "for_each": ["prefect.resource.id"],
            "after": [sign_of_life],
            "expect": [sign_of_life, *(f"prefect.flow-run.{name}" for name in LAST_WORDS)],
            "threshold": 1,
            "within": crashed_after,
        },
        "actions": [
            {
                "type": "change-flow-run-state",
                "state": "CRASHED",
                "message": (
                    f"No sign of life for {crashed_after:g} seconds: its process and its worker "
                    "were killed, or their machine is gone. Run it again; complete stages are "
                    "reused."
                ),
            }
        ],
    }
