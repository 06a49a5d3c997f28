"""What surrounds the making of an artifact: parents, its run in MLflow, its copy in the store."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from wit import lineage, sharing
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.space import check_space

Log = Callable[[dict[str, float], int], None]


def share(artifact: Artifact, runtime: Runtime, telling: lineage.Telling, held: ExitStack) -> None:
    """Uploads what was just made; its lock, which is held, goes when MLflow has been told of it."""
    try:
        if runtime.artifact_store is not None:
            # Whoever finds it there may tell of it, too; and what is there may take its place.
            telling.wait()
        sharing.upload(artifact, runtime, is_new=True)
    finally:
        telling.tell(held.pop_all().close)


def bring_parents(artifact: Artifact, runtime: Runtime) -> None:
    """Has here what the stage reads, whole.

    Raises:
        InputError: A parent is damaged, or cannot be had.
    """
    sharing.bring_inputs(artifact, runtime)
    for parent in sharing.read_by(artifact):
        parent.verified()


@contextmanager
def making(
    artifact: Artifact,
    runtime: Runtime,
    study: lineage.StudyRun | None,
    telling: lineage.Telling,
) -> Iterator[tuple[Path, Log]]:
    """Surrounds what fills an artifact's directory: all or nothing, and tracked. Hold its lock.

    Yields:
        The directory, and what takes figures with their step.
    """
    with lineage.tracked(artifact, study, lineage.tracking_uri(runtime), telling) as run:
        check_space(artifact)
        with artifact.writing() as out:
            yield out, run.log
