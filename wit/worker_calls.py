"""What a worker process is asked to do."""

from collections.abc import Sequence

from wit import stages
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.lineage import StudyRun, TellingBeside
from wit.stages import Outcome

_telling: list[TellingBeside] = []  # of a worker: one


def make(artifact: Artifact, runtime: Runtime, study: StudyRun | None) -> Outcome:
    """See ``wit.stages``."""
    return stages.make_artifact(artifact, runtime, study, _telling_beside())


def make_together(group: Sequence[Artifact], runtime: Runtime, study: StudyRun | None) -> list[str]:
    """See ``wit.together``."""
    from wit import together

    return together.make_together(group, runtime, study, _telling_beside())


def import_stages() -> None:
    """What most stages need."""
    import wit.preloaded  # noqa: F401


def _telling_beside() -> TellingBeside:
    """It makes the next artifact while MLflow is told of the last one."""
    if not _telling:
        _telling.append(TellingBeside())
    return _telling[0]
