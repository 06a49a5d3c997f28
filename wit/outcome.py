"""What became of every stage of a study, and where its report and table are."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import yaml
from filelock import FileLock

from wit.config import Runtime, Settings, Study
from wit.errors import ArtifactError
from wit.files import replace_durably

REPORT = "report.html"
STUDY = "study.yaml"
VERSION = "study_version"  # file beside it
LOCK = ".study.lock"  # of these files and of the report, held for milliseconds


class StageOutcome(Settings):
    """What became of one stage."""

    stage: str
    cell: str | None
    fingerprint: str
    status: Literal["made", "reused", "failed", "blocked"]
    message: str = ""  # the cause, where it failed
    is_input_error: bool = False  # the cause is the user's input
    alignment: str | None = None  # of a study that has several

    @property
    def label(self) -> str:
        """For people, such as ``dpo p0-r1-s0``."""
        return " ".join(filter(None, (self.stage, self.cell, self.alignment)))


class StudyOutcome(Settings):
    """What became of a study."""

    study: str
    version: str  # of the study, by which MLflow knows what belongs to it
    stages: tuple[StageOutcome, ...]
    report: str | None  # path of the HTML page
    tracking_uri: str  # without secrets: to be shown, not to be opened
    mlflow_url: str | None  # of the study's run, where a server shows it
    notes: tuple[str, ...] = ()  # what a person should know of, although nothing failed

    @property
    def counts(self) -> dict[str, int]:
        """Number of stages by status."""
        return dict(Counter(stage.status for stage in self.stages))

    @property
    def failures(self) -> list[StageOutcome]:
        """The stages that failed, without those that they blocked."""
        return [stage for stage in self.stages if stage.status == "failed"]

    @property
    def exit_code(self) -> int:
        """0 done, 1 a stage failed, 2 the user's input is wrong."""
        if not self.failures:
            return 0
        return 2 if all(stage.is_input_error for stage in self.failures) else 1

    def __str__(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in sorted(self.counts.items()))


def save_study(study: Study, folder: Path, version: str) -> None:
    """Keeps the study with its report, as it was run: overrides applied, paths absolute.

    Args:
        study: It replaces one that was kept of another version.
        folder: As ``study_folder`` gives it.
        version: As MLflow knows it.

    Raises:
        ArtifactError: The artifact root cannot be written.
    """
    content = study.stated()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            # Whoever reads between these steps finds no version, and takes it for no study's.
            (folder / VERSION).unlink(missing_ok=True)
            replace_durably(folder / STUDY, yaml.safe_dump(content, sort_keys=False).encode())
            replace_durably(folder / VERSION, version.encode())
    except OSError as error:
        raise ArtifactError(
            f"{folder}: the artifact root cannot be written ({error.strerror}); "
            "choose another with --set-runtime artifact_root=DIR"
        ) from None


def study_folder(runtime: Runtime, study_name: str) -> Path:
    """Where a study's report and the logs of its workers are."""
    return runtime.artifact_root.resolve() / "studies" / study_name


@contextmanager
def started_last(folder: Path, version: str) -> Iterator[bool]:
    """Says whether no other version of the study has been started since; none is, within.

    Two runs of one name share a folder. It is that of the run that was started last, whichever
    ends first.
    """
    with FileLock(folder / LOCK):
        yield kept_version(folder) == version


def report_name(version: str) -> str:
    """The page of a version that is not the last one."""
    return f"report-{version}.html"


def kept_version(folder: Path) -> str | None:
    """Version of the study that is kept there; None: none is, or it has not begun to run."""
    try:
        return (folder / VERSION).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
