"""Writing the run of an artifact: found or new, with its parents, completed from its directory."""

import time
from typing import TYPE_CHECKING, NamedTuple

from wit._lineage_description import (
    PRINCIPAL,
    TRAINING_DATA,
    Point,
    data_profile,
    outcome_of,
    run_name,
    run_params,
    run_tags,
)
from wit._lineage_store import Store
from wit.artifacts import Artifact

if TYPE_CHECKING:
    from mlflow.entities import Run


class StudyRun(NamedTuple):
    """The run on top of a study, as the study stood in its file when it was started."""

    name: str  # of the study
    run_id: str
    version: str  # twelve hex digits over the artifacts and what they are for
    url: str | None  # in MLflow's UI, where a server shows one

    @property
    def membership(self) -> str:
        """The tag that names the versions of this study to which an artifact belongs."""
        return f"wit.study.{self.name}"


def ensure_finished_run(store: Store, artifact: Artifact, study: StudyRun | None) -> "Run":
    """The run of an artifact that exists, written from its directory where it has none."""
    run = ensure_run(store, artifact, study)
    if run.info.status != "FINISHED":
        complete(store, artifact, run, store.logged_points(run))
    return run


def ensure_run(store: Store, artifact: Artifact, study: StudyRun | None) -> "Run":
    """The one run of the artifact, found or new, with its params and its place in the study."""
    run = store.find(artifact.fingerprint)
    tags: dict[str, str] = {}
    if run is None:
        new = run_tags(artifact) | _parent_runs(store, artifact, study)
        if study is not None:
            new |= {"mlflow.parentRunId": study.run_id, study.membership: study.version}
        run = store.create(run_name(artifact), new)
    elif study is not None:
        versions = run.data.tags.get(study.membership, "").split()
        if study.version not in versions:
            tags[study.membership] = " ".join([*versions, study.version])
    # A param cannot change, and a kill may have come between the run and its params.
    params = {k: v for k, v in run_params(artifact).items() if k not in run.data.params}
    if params or tags:
        store.write(run.info.run_id, params=params, tags=tags)
    has_data = run.inputs is not None and run.inputs.dataset_inputs
    if artifact.stage in TRAINING_DATA and not has_data:
        data = artifact.parents[TRAINING_DATA[artifact.stage]]
        location = data.path if isinstance(data, Artifact) else data.location
        name = run_name(data) if isinstance(data, Artifact) else data.kind
        profile = data_profile(data) if isinstance(data, Artifact) else {}
        store.log_dataset(run.info.run_id, name, data.fingerprint, str(location), profile)
    return run


def _parent_runs(store: Store, artifact: Artifact, study: StudyRun | None) -> dict[str, str]:
    """Run ids of the parents; ``parent_run_id`` is the one that the artifact continues."""
    tags = {}
    for part, parent in artifact.parents.items():
        if not isinstance(parent, Artifact):
            continue
        run = store.find(parent.fingerprint)
        if run is None and parent.exists():  # made under another store
            run = ensure_finished_run(store, parent, study)
        if run is not None:
            tags[f"wit.parent_run.{part}"] = run.info.run_id
            if part == PRINCIPAL.get(artifact.stage):
                tags["parent_run_id"] = run.info.run_id
    return tags


def complete(store: Store, artifact: Artifact, run: "Run", logged: set[tuple[str, int]]) -> None:
    """Writes what the directory holds and the run lacks, then ends the run."""
    run_id, outcome = run.info.run_id, outcome_of(artifact)
    final: list[Point] = [(name, value, 0, time.time()) for name, value in outcome.metrics.items()]
    missing = [point for point in outcome.history + final if (point[0], point[2]) not in logged]
    store.write(run_id, metrics=missing, tags=outcome.tags)
    for file in outcome.files:
        store.client.log_artifact(run_id, str(file))
    model_run = run.data.tags.get("wit.parent_run.model")
    if model_run is not None:  # so that one can chart models by their scores
        # Its likelihoods are there already, as curves over steps.
        scores = [p for p in final if p[0] != "seconds" and not p[0].startswith("nll_")]
        store.write(model_run, metrics=scores)
    if "wit.error" in run.data.tags:
        store.client.delete_tag(run_id, "wit.error")
    store.client.set_terminated(run_id, "FINISHED")
