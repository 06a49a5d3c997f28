"""Linking a study to artifacts that it reuses and that are not on this machine."""

from collections.abc import Callable, Iterable

from wit.artifacts import Artifact
from wit.errors import StoreDownError
from wit.lineage.outcome import made_between
from wit.lineage.reader import find_runs, tag
from wit.lineage.runs import StudyRun, complete, ensure_run
from wit.lineage.store import Store, open_store, translated


def link_elsewhere(
    artifacts: Iterable[Artifact],
    study: StudyRun,
    uri: str,
    outline: Callable[[Artifact], Artifact],
) -> None:
    """Says that the study uses these artifacts, which are complete on another machine.

    Where MLflow cannot be reached, the next run says it.

    Args:
        artifacts: Parents first.
        study: That uses them.
        uri: Tracking URI.
        outline: Gives the artifact with its record and its small files; it is asked for only where
            MLflow does not know how the artifact was made.

    Raises:
        InputError: The store is not MLflow's, or an outline cannot be had.
    """
    if study.run_id is None:
        return
    try:
        store = open_store(uri)
        with translated(uri):
            members = find_runs(uri, tag(study.membership, f"%{study.version}%"))
            known = {r.tags["wit.fingerprint"] for r in members if r.status == "FINISHED"}
            for artifact in artifacts:
                if artifact.fingerprint not in known:
                    _link(store, artifact, study, outline)
    except StoreDownError:
        return


def _link(
    store: Store, artifact: Artifact, study: StudyRun, outline: Callable[[Artifact], Artifact]
) -> None:
    with artifact.lock():  # of two studies that find it, one writes
        run = store.find(artifact.fingerprint)
        if run is not None and run.info.status == "FINISHED":
            ensure_run(store, artifact, study)
            return
        there = outline(artifact)
        started, ended = made_between(there.record())
        run = ensure_run(store, artifact, study, started)
        at = max(ended, run.info.start_time / 1000)  # the run may be of a later attempt
        complete(store, there, run, store.logged_points(run), at)
