"""Writing the run of an artifact: found or new, with its parents, completed from its directory."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wit.artifacts import Artifact
from wit.lineage.cells import named_by, names_needed
from wit.lineage.description import cell_of, run_name, run_params, run_tags
from wit.lineage.models import MODEL_ID, MODEL_STAGES, ensure_model, join_study, set_status
from wit.lineage.outcome import DataSet, Point, made_between, outcome_of, training_data
from wit.lineage.reader import as_row
from wit.lineage.store import Store
from wit.lineage.terms import PRINCIPAL
from wit.roles import Role

if TYPE_CHECKING:
    from mlflow.entities import Run

_CURVES = tuple(f"nll_{role.name.lower()}" for role in Role)
ALREADY_THERE = {"seconds", *_CURVES, *(f"{name}_stderr" for name in _CURVES)}


class StudyRun(NamedTuple):
    """The run on top of a study, as the study stood in its file when it was started."""

    name: str  # of the study
    run_id: str | None  # None: MLflow could not be reached when it was started
    version: str  # twelve hex digits over the artifacts and what they are for
    url: str | None  # in MLflow's UI, where a server shows one
    root: Path  # of the artifacts; what MLflow does not take is kept there

    @property
    def membership(self) -> str:
        """The tag that names the versions of this study to which an artifact belongs."""
        return f"wit.study.{self.name}"


def ensure_finished_run(store: Store, artifact: Artifact, study: StudyRun | None) -> "Run":
    """The run of an artifact that exists, written from its directory where it has none."""
    with artifact.lock():  # of two studies that find it, one writes
        started, ended = made_between(artifact.record())
        run = ensure_run(store, artifact, study, started)
        if run.info.status != "FINISHED":
            at = max(ended, run.info.start_time / 1000)  # the run may be of a later attempt
            complete(store, artifact, run, store.logged_points(run), at)
    return run


def ensure_run(
    store: Store, artifact: Artifact, study: StudyRun | None, started: float | None = None
) -> "Run":
    """The one run of the artifact, found or new, with its params and its place in the study.

    A new one began at ``started``, in seconds since 1970; unset: now.
    """
    run = store.find(artifact.fingerprint)
    tags: dict[str, str] = {}
    is_new = run is None
    if run is None:
        run = store.create(
            run_name(artifact, _names_needed(store, artifact, study)),
            run_tags(artifact) | _parent_tags(store, artifact, study) | _study_tags({}, study),
            started,
        )
    else:
        tags |= _study_tags(run.data.tags, study)
        model_id = run.data.tags.get(MODEL_ID)
        if study is not None and study.membership in tags and model_id:
            join_study(store, model_id, study.name)
    if artifact.stage in MODEL_STAGES and MODEL_ID not in run.data.tags:
        tags[MODEL_ID] = ensure_model(
            store, artifact, run, study.name if study else None, is_new=is_new
        )
    if artifact.stage in MODEL_STAGES and not (run.inputs and run.inputs.dataset_inputs):
        policy = run.data.tags.get("wit.parent_model.policy")
        store.log_inputs(run.info.run_id, [training_data(artifact)], "training", policy)
    # A param cannot change, and a kill may have come between the run and its params.
    params = {k: v for k, v in run_params(artifact).items() if k not in run.data.params}
    if params or tags:
        store.write(run.info.run_id, params=params, tags=tags)
        run.data.tags.update(tags)
    return run


def _names_needed(store: Store, artifact: Artifact, study: StudyRun | None) -> dict[str, str]:
    """What its first study calls tunings, and alignments that look alike, by identity."""
    cell = cell_of(artifact)
    if cell is None or cell.weights is None or study is None or study.run_id is None:
        return {}
    if study.run_id not in store.names:
        found = as_row(store.client.get_run(study.run_id))
        store.names[study.run_id] = names_needed(named_by(found))
    return store.names[study.run_id]


def _study_tags(known: dict[str, str], study: StudyRun | None) -> dict[str, str]:
    """What the run's tags lack of its place in the study; the first study is its parent."""
    if study is None:
        return {}
    tags = {}
    versions = known.get(study.membership, "").split()
    if study.version not in versions:
        tags[study.membership] = " ".join([*versions, study.version])
    if study.run_id is not None and "mlflow.parentRunId" not in known:
        tags["mlflow.parentRunId"] = study.run_id
    return tags


def _parent_tags(store: Store, artifact: Artifact, study: StudyRun | None) -> dict[str, str]:
    """Run ids of the parents; ``parent_run_id`` is the one that the artifact continues."""
    tags = {}
    for part, parent in artifact.parents.items():
        if not isinstance(parent, Artifact):
            continue
        run = store.finished.get(parent.fingerprint) or store.find(parent.fingerprint)
        is_told = run is not None and run.info.status == "FINISHED"
        if not is_told and parent.exists():
            # Made under another store; or told by a process that was killed, or is not done yet.
            run = ensure_finished_run(store, parent, study)
        if run is None:
            continue
        if run.info.status == "FINISHED":
            store.finished[parent.fingerprint] = run
        tags[f"wit.parent_run.{part}"] = run.info.run_id
        if part == PRINCIPAL.get(artifact.stage):
            tags["parent_run_id"] = run.info.run_id
        if MODEL_ID in run.data.tags:  # MLflow's own link says so too, but not in a filter
            tags[f"wit.parent_model.{part}"] = run.data.tags[MODEL_ID]
    return tags


def complete(
    store: Store, artifact: Artifact, run: "Run", logged: set[tuple[str, int]], at: float
) -> None:
    """Writes what the directory holds and the run lacks, then ends the run.

    Args:
        store: Where.
        artifact: It exists.
        run: Its run.
        logged: Name and step of the points that the run has.
        at: When it was finished, in seconds since 1970.
    """
    run_id, outcome, tags = run.info.run_id, outcome_of(artifact, at), run.data.tags
    final: list[Point] = [(name, value, 0, at) for name, value in outcome.metrics.items()]
    missing = [point for point in outcome.history + final if (point[0], point[2]) not in logged]
    measured = tags.get("wit.parent_model.model")
    store.write(
        run_id,
        metrics=missing,
        tags=outcome.tags,
        model_id=tags.get(MODEL_ID, measured),
        data_of=outcome.measured_on,
    )
    if artifact.stage == "evaluation":
        store.log_inputs(run_id, _distinct(outcome.measured_on.values()), "evaluation", measured)
    for file in outcome.files:
        store.client.log_artifact(run_id, str(file))
    if "mlflow.loggedArtifacts" not in tags:  # or a second attempt would add the rows again
        for name, columns in outcome.tables.items():
            store.client.log_table(run_id, columns, name)
    _tell_parent_model(store, artifact, run, final)
    if "wit.error" in tags:
        store.client.delete_tag(run_id, "wit.error")
    if MODEL_ID in tags:
        set_status(store, tags[MODEL_ID], "READY")
    store.end(run_id, "FINISHED", at)


def _distinct(data_sets: Iterable[DataSet]) -> list[DataSet]:
    return list({data.digest: data for data in data_sets}.values())


def _tell_parent_model(store: Store, artifact: Artifact, run: "Run", final: list[Point]) -> None:
    """The run of a model names what came of it, and has its scores, so that one can chart them.

    Models alone: what came of a data set is as much as all studies on it, and a filter finds it.
    """
    parent_run = run.data.tags.get(
        "wit.parent_run.model", run.data.tags.get("wit.parent_run.policy")
    )
    if parent_run is None:
        return
    scores: list[Point] = []
    if artifact.stage == "evaluation":
        # Its likelihoods by role are there already, as curves over steps.
        scores = [p for p in final if p[0] not in ALREADY_THERE]
    child = {f"wit.child.{artifact.fingerprint}": run.info.run_id}
    store.write(parent_run, metrics=scores, tags=child)


def end_badly(
    store: Store,
    run: "Run",
    status: str,
    error: str | None,
    points: Iterable[Point],
    ended: float | None = None,
) -> None:
    """Ends the run of an artifact that was not made, and says why; unless ``ended`` is given, now.

    Not a run that is FINISHED: under another root the artifact was made, and that stays true.
    """
    if store.client.get_run(run.info.run_id).info.status == "FINISHED":
        return
    tags = {"wit.error": error} if error else {}
    store.write(run.info.run_id, metrics=points, tags=tags)
    if status == "FAILED" and MODEL_ID in run.data.tags:
        set_status(store, run.data.tags[MODEL_ID], "FAILED")
    store.end(run.info.run_id, status, ended)
