"""The run on top of a study: started, linked to its artifacts, ended; and sent late if need be."""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from wit.alignment_grid import alignment_id
from wit.artifacts import Artifact
from wit.config import Study
from wit.errors import ArtifactError, StoreDownError
from wit.lineage.addresses import shown
from wit.lineage.cells import Begun, cell_tags
from wit.lineage.runs import StudyRun
from wit.lineage.sending import ensure_study_run, link_to, send_all
from wit.lineage.spool import (
    UNSENT,
    Packed,
    UnsentArtifact,
    UnsentStudy,
    is_meant_for,
    keep,
    kept_artifacts,
    kept_studies,
    read_kept,
    read_study,
    study_file,
)
from wit.lineage.store import open_store, translated
from wit.objectives import replicates
from wit.tuning_grid import tuning_id

_log = logging.getLogger(__name__)


def start_study(
    study: Study, artifacts: Sequence[Artifact], uri: str, begun: Begun | None = None
) -> StudyRun:
    """The run on top of a study; the same one when the same study is run again.

    Where MLflow cannot be reached, the study is kept on the disk and runs; ``end_study``, the next
    run or ``sync`` sends it. What was kept before is sent first.

    Args:
        study: As its file says.
        artifacts: All that it will make or reuse, at least one. They, the roles of the benchmarks,
            what several tunings and alignments are called, the main one first, and the weights that
            others stand for decide whether it is the same study still. Another one of the same
            name, say of another base, is another version: both stay, nothing is mixed, and
            ``table`` shows the one that was started last.
        uri: Tracking URI.
        begun: Of a search, which may come to make all of ``artifacts``: how far it is.

    Raises:
        InputError: The store is not MLflow's, or the artifact root cannot be written.
    """
    version, root = _version_of(study, artifacts), artifacts[0].root
    unsent = UnsentStudy(
        uri=uri,
        study=study.stated(),
        packed=Packed.of(artifacts),
        version=version,
        started=datetime.now(UTC).isoformat(),
        begun=begun,
    )
    keep(study_file(root, version), unsent)
    run_id = url = None
    try:
        store = open_store(uri)
        send_all(uri, root, lambda kept: is_meant_for(kept, uri) and kept.status is not None)
        with translated(uri):
            run_id = ensure_study_run(store, study, unsent, root)
        url = store.run_url(run_id)
    except StoreDownError as error:
        _log.warning("nothing is recorded in MLflow yet: %s", error)
    return StudyRun(study.name, run_id, version, url, root)


def _version_of(study: Study, artifacts: Iterable[Artifact]) -> str:
    roles = sorted(f"{b.name}={b.role}" for b in study.benchmarks)
    identity: list[object] = [study.name, sorted({a.fingerprint for a in artifacts}), roles]
    if len(study.aligned_by) > 1:  # a single one is what it is, whatever it is called
        identity.append([f"{name}={alignment_id(k)}" for name, k in study.aligned_by.items()])
    if study.tunings:  # their names are those of cells
        identity.append([f"{name}={tuning_id(k)}" for name, k in study.tunings.items()])
    if study.search is not None:  # of the cells that it may try it tries others
        identity.append(study.search.stated())
    if others := replicates(study):  # else it is a study of the weights that it trains
        identity.append(sorted(others.items()))
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]


def go_on(run: StudyRun, begun: Begun, uri: str) -> None:
    """Says how far a search has come; where MLflow cannot be reached, ``end_study`` says it.

    Raises:
        InputError: The store is not MLflow's.
    """
    try:
        unsent = read_study(run.root, run.version).model_copy(update={"begun": begun})
        keep(study_file(run.root, run.version), unsent)
        store = open_store(uri)
        if run.run_id is not None:
            with translated(uri):
                study = Study.model_validate(unsent.study)
                store.write(run.run_id, tags=cell_tags(study, begun))
    except (StoreDownError, ArtifactError) as error:
        _log.warning("MLflow does not know yet how far the search is: %s", error)


def link(artifacts: Iterable[Artifact], study: StudyRun, uri: str) -> int:
    """Says that the study uses these artifacts; those that do not exist yet are passed over.

    One query when all of them are known members, else more for each new one. Where MLflow cannot
    be reached this is left to ``end_study`` or ``sync``.

    Returns:
        How many were not known to be members.

    Raises:
        InputError: The store is not MLflow's.
    """
    try:
        store = open_store(uri)
        if study.run_id is None:  # it was down, and is up again
            return send_all(uri, study.root, lambda kept: _is_of(kept, study))[0]
        with translated(uri):
            return link_to(store, artifacts, study)
    except StoreDownError as error:
        _log.warning("artifacts are not linked in MLflow yet: %s", error)
        return 0


def end_study(run: StudyRun, uri: str, *, is_failed: bool, files: Iterable[Path] = ()) -> None:
    """Ends the study's run and keeps ``files``, such as the report, with it; or has it sent later.

    Raises:
        InputError: The store is not MLflow's.
    """
    status = "FAILED" if is_failed else "FINISHED"
    paths = tuple(str(path.resolve()) for path in files)
    try:
        unsent = read_study(run.root, run.version)  # another process may have ended it already
        ended = datetime.now(UTC).isoformat()
        more = {"uri": uri, "status": status, "ended": ended, "files": paths}
        keep(study_file(run.root, run.version), unsent.model_copy(update=more))
    except ArtifactError as error:
        _log.warning("MLflow does not know that the study ended; run it again: %s", error)
    try:
        send_all(uri, run.root, lambda kept: is_meant_for(kept, uri) and kept.status is not None)
    except StoreDownError as error:
        _log.warning("the study is not recorded in MLflow yet: %s", error)


def unsent_note(root: Path, uri: str) -> str | None:
    """What to tell people where MLflow does not know how something ended."""
    if not kept_artifacts(root) and not any(map(_has_ended, kept_studies(root))):
        return None
    return (
        f"MLflow at {shown(uri)} could not be reached; what it did not take is kept in "
        f"{root / UNSENT}. 'wit lineage --sync' with the same --runtime or --set-runtime sends it, "
        "and so does the next run"
    )


def _has_ended(file: Path) -> bool:
    try:
        return read_kept(UnsentStudy, file).status is not None
    except ArtifactError:  # 'wit lineage --sync' says what is wrong with it
        return True


def sync(uri: str, root: Path) -> int:
    """Sends all that MLflow did not take, wherever it was meant to go: a server may have moved.

    What has been sent is not sent again; a study that still runs, or was killed, stays kept.

    Args:
        uri: Tracking URI.
        root: Of the artifacts.

    Returns:
        Number of runs, of artifacts and of studies, that MLflow did not know.

    Raises:
        StoreDownError: It cannot be reached still; nothing is lost.
        ArtifactError: Some files cannot be sent, and stay; all others were sent.
        InputError: The store is not MLflow's.
    """
    num_new, problems = send_all(uri, root, lambda _: True)
    if problems:
        raise ArtifactError(
            f"sent {num_new} runs, but not all of what is kept in {root / UNSENT}: "
            + "; ".join(problems)
        )
    return num_new


def _is_of(kept: UnsentStudy | UnsentArtifact, study: StudyRun) -> bool:
    versions = (v for _, v in kept.studies) if isinstance(kept, UnsentArtifact) else (kept.version,)
    return study.version in versions
