"""Flows run in this process, and what their studies are made of."""

from pathlib import Path

from prefect import Flow

from flows.study import run_study
from wit.config import Runtime
from wit.errors import StudyFailedError
from wit.forms import StudyRequest
from wit.loading import load_study
from wit.outcome import StudyOutcome
from wit.plan import Plan, make_plan
from wit.settings import Settings


def runtime_words(root: Path) -> list[str]:
    return [f"artifact_root={root}", "device=cpu", "threads_per_worker=1"]


def plan_of(study_file: Path, root: Path, *overrides: str) -> Plan:
    return make_plan(load_study(study_file, overrides), Runtime(artifact_root=root))


def ended(flow: Flow, request: Settings) -> StudyOutcome:
    """How that run of the flow ended."""
    state = flow(request, return_state=True)
    ended = state.result(raise_on_failure=False)
    assert isinstance(ended, StudyOutcome | StudyFailedError), (state.message, ended)
    outcome = ended if isinstance(ended, StudyOutcome) else ended.outcome
    assert state.is_completed() == (not outcome.failures), "a scheduler sees the state alone"
    return outcome


def run(study_file: Path, root: Path, *overrides: str) -> StudyOutcome:
    """The whole study."""
    settings = {"settings": list(overrides), "runtime_settings": runtime_words(root)}
    return ended(run_study, StudyRequest(study_file=str(study_file), **settings))


def statuses(outcome: StudyOutcome) -> dict[str, str]:
    """By fingerprint."""
    return {stage.fingerprint: stage.status for stage in outcome.stages}
