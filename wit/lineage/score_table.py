"""Every score of a study as one tidy table: from MLflow in three queries, or from artifacts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wit.artifacts import Artifact
from wit.config import Runtime, Study
from wit.errors import ArtifactError, InputError
from wit.lineage.cells import (
    Alignment,
    Begun,
    Model,
    Named,
    cell_of_run,
    cell_tags,
    cells_of,
    model_columns,
    model_of,
    named_by,
    planned_models,
    replicates_of,
)
from wit.lineage.description import cell_of, run_name, run_params, run_tags, study_params
from wit.lineage.known_studies import no_such_study, study_runs
from wit.lineage.outcome import outcome_of
from wit.lineage.place import tracking_uri
from wit.lineage.reader import Condition, RunRow, find_runs, tag, uncollected
from wit.lineage.terms import BASE
from wit.score_names import is_cost, is_diagnostic

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "study",
    "cell",
    "stage",  # base, sft or dpo: which model was measured
    "weights",
    "prompt_weight",
    "response_weight",
    "seed",
    "tuning",  # of a study that names several ways of SFT; nothing of the base
    "alignment",  # of a DPO model: what the study calls it; nothing of the base and of SFT
    "objective",
    "beta",
    "benchmark",  # or nll_<role>, preference_accuracy; nothing where the model was not measured
    "role",  # select, report or diagnostic
    "score",
    "stderr",
    "num_items",  # of the benchmark, or pairs, or tokens; nothing where it is not known
    "higher_is_better",
    "status",  # finished, failed, running, killed, blocked or missing
    "error",
    "fingerprint",  # of the model
    "run_id",  # of the model; for the base, which has none, of its evaluation
    "run_url",
)
# What an aligned model may need, by stage.
BEFORE = {
    "sft": "its SFT model",
    "pairs": "making its pairs",
    "reference": "its reference",
    "dpo": "an earlier round",
}
# What is read of a finished evaluation, of which there may be thousands.
READ = (
    *("model_stage", "alignment", "tuning", "wit.cell", "wit.lower_is_better", "wit.num_items"),
    *("wit.parent.model", "wit.parent_run.model"),
)


def table(study_name: str, uri: str | None = None, *, version: str | None = None) -> "pd.DataFrame":
    """Every score of a study, one row per model and benchmark; three queries in all.

    A model without scores has one row without a benchmark, whose ``status`` and ``error`` say why.
    The columns are those of ``COLUMNS``. ``attrs`` has the ``version`` that is shown,
    ``num_versions`` that the store has under this name (see ``study_versions``), and as
    ``replicates`` the weights without models of their own, each with those trained for them.

    Args:
        study_name: As in its file.
        uri: Tracking URI; unset: that of the environment, else of ``artifacts/`` here.
        version: Of the study, as ``study_versions`` names it; else the one that was started last.

    Raises:
        InputError: No such study is in the store, or the store cannot be reached.
    """
    with uncollected():
        return _table(study_name, uri or tracking_uri(Runtime()), version)


def _table(study_name: str, uri: str, version: str | None) -> "pd.DataFrame":
    known = study_runs(study_name, uri)
    if not known:
        raise InputError(no_such_study(study_name, uri))
    chosen = [run for run in known if version in (None, run.tags["wit.study_version"])]
    if not chosen:
        others = ", ".join(run.tags["wit.study_version"] for run in known)
        raise InputError(f"study {study_name!r} has no version {version!r}; it has {others}")
    version = chosen[0].tags["wit.study_version"]
    member = tag(f"wit.study.{study_name}", f"%{version}%")
    is_finished = Condition("status", "=", "FINISHED")
    # In this order: a run that ends between the two is in both, not in neither.
    unfinished = find_runs(uri, member, is_finished._replace(operator="!="))
    evaluations = find_runs(uri, member, tag("wit.stage", "evaluation"), is_finished, keys=READ)
    frame = _frame(chosen[0], evaluations, unfinished)
    frame.attrs |= {"version": version, "num_versions": len(known)}
    return frame


def table_of_artifacts(
    study: Study, artifacts: Sequence[Artifact], unfinished: Sequence[RunRow]
) -> "pd.DataFrame":
    """What ``table`` gives once MLflow knows the study, read from the artifacts themselves.

    Args:
        study: As it ran.
        artifacts: All of it; those that do not exist have no scores.
        unfinished: What failed, and why.
    """
    tags = {"wit.study_name": study.name, **cell_tags(study, _begun(study, artifacts))}
    study_run = RunRow(None, study.name, "RUNNING", study_params(study), tags, {})
    evaluations = []
    for artifact in artifacts:
        if artifact.stage != "evaluation" or not artifact.exists():
            continue
        try:
            found = outcome_of(artifact)
        except ArtifactError:  # its own stage says so
            continue
        name, tags = run_name(artifact), run_tags(artifact) | found.tags
        row = RunRow(None, name, "FINISHED", run_params(artifact), tags, found.metrics)
        evaluations.append(row)
    return _frame(study_run, evaluations, unfinished)


def _begun(study: Study, artifacts: Iterable[Artifact]) -> Begun | None:
    """How far a search has come that has made, or makes, these."""
    if study.search is None:
        return None
    models = [cell for artifact in artifacts if (cell := cell_of(artifact)) and cell.weights]
    cells = tuple(dict.fromkeys(str(cell) for cell in models))
    tuned = {str(cell) for cell in models if cell.model_stage != "rung"}
    aligned = {str(cell) for cell in models if cell.model_stage not in ("rung", "sft")}
    return Begun(
        cells=cells,
        unaligned=tuple(cell for cell in cells if cell not in aligned),
        untuned=tuple(cell for cell in cells if cell not in tuned),
    )


def _frame(
    study_run: RunRow, evaluations: Iterable[RunRow], unfinished: Iterable[RunRow]
) -> "pd.DataFrame":
    import pandas as pd

    known = named_by(study_run)
    rows = [row for run in evaluations for row in _score_rows(study_run, run, known)]
    unfinished = list(unfinished)
    measured = {model_of(row) for row in rows}
    rows += _rows_of_failed_evaluations(study_run, unfinished, measured, known)
    rows += _rows_without_scores(study_run, unfinished, measured, known)
    places = {cell: place for place, cell in enumerate((BASE, *cells_of(study_run)))}
    names = [None, *(one.name for one in known.alignments)]
    # Not in the order in which they were measured, which is chance.
    rows.sort(key=lambda row: (places.get(row["cell"], len(places)), *_place_in_cell(row, names)))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if others := replicates_of(study_run):
        frame.attrs["replicates"] = others
    numbers = ["prompt_weight", "response_weight", "beta", "score", "stderr", "num_items"]
    return frame.astype({**dict.fromkeys(numbers, float), "seed": "Int64"})


def _place_in_cell(
    row: Mapping[str, Any], names: Sequence[str | None]
) -> tuple[int, int, str, bool, str]:
    """SFT before DPO, the main alignment first; what could not be measured after what was."""
    name, alignment = row.get("benchmark"), row.get("alignment")
    place = names.index(alignment) if alignment in names else len(names)
    stage = ("base", "sft", "dpo").index(row["stage"])
    return stage, place, alignment or "", name is None, name or ""


def _score_rows(study_run: RunRow, run: RunRow, known: Named) -> Iterable[dict[str, Any]]:
    tags, metrics = run.tags, run.metrics
    model = model_columns(study_run.tags["wit.study_name"], run, known)
    lower_is_better = tags.get("wit.lower_is_better", "").splitlines()
    num_items = dict(part.rsplit(":", 1) for part in tags.get("wit.num_items", "").splitlines())
    model_run = tags.get("wit.parent_run.model", run.run_id)
    for name, value in metrics.items():
        benchmark, _, part = name.partition("/")
        role = study_run.params.get(f"benchmarks.{benchmark}.role")
        if name.endswith("_stderr") or (role is None and not is_diagnostic(name)):
            continue  # seconds, standard errors
        yield {
            **model,
            "benchmark": name,
            "role": "diagnostic" if part else role or "diagnostic",
            "score": value,
            "stderr": metrics.get(f"{name}_stderr"),
            "num_items": num_items.get(name),
            "higher_is_better": name not in lower_is_better and not is_cost(part or name),
            "status": "finished",
            "fingerprint": tags["wit.parent.model"],
            "run_id": model_run,
            "run_url": run.url and run.url.replace(str(run.run_id), str(model_run)),
        }


def _rows_without_scores(
    study_run: RunRow, unfinished: Iterable[RunRow], measured: set[Model], known: Named
) -> Iterable[dict[str, Any]]:
    """One row for every model of the plan that has no score, and why it has none."""
    stopped: Mapping[Model, RunRow] = {
        model_of(model_columns(study_run.tags["wit.study_name"], run, known)): run
        for run in unfinished
        if "model_stage" in run.params
    }
    alignments = {one.name: one for one in known.alignments}
    failed: dict[str, list[RunRow]] = {}
    for run in unfinished:
        if run.status == "FAILED" and run.tags.get("wit.stage") in BEFORE:
            failed.setdefault(cell_of_run(run, known), []).append(run)
    for row in planned_models(study_run):
        if model_of(row) in measured:
            continue
        run = stopped.get(model_of(row))
        if run is not None:
            row |= _stopped_columns(run)
        elif row["stage"] == "dpo" and (
            reason := _why_blocked(alignments[row["alignment"]], failed.get(row["cell"], []))
        ):
            row |= {"status": "blocked", "error": reason}
        else:
            row["status"] = "missing"
        yield row


def _why_blocked(alignment: Alignment, failed: Iterable[RunRow]) -> str | None:
    """Which stage before the model's DPO failed, if one of its cell did that it needs."""
    for run in failed:
        stage = run.tags["wit.stage"]
        if stage == "sft" or alignment.reads(run):
            return f"{BEFORE[stage]} failed (run {run.run_id})"
    return None


def _rows_of_failed_evaluations(
    study_run: RunRow, unfinished: Iterable[RunRow], measured: set[Model], known: Named
) -> Iterable[dict[str, Any]]:
    """One row without a benchmark for all that ended badly on a model that has other scores."""
    for run in unfinished:
        if run.tags.get("wit.stage") != "evaluation" or "model_stage" not in run.params:
            continue
        model = model_columns(study_run.tags["wit.study_name"], run, known)
        if model_of(model) not in measured:
            continue
        columns = _stopped_columns(run) | {"fingerprint": run.tags["wit.parent.model"]}
        yield {
            **model,
            "higher_is_better": True,
            **columns,
            "run_id": run.tags.get("wit.parent_run.model", run.run_id),
            "error": f"{run.name}: {columns['error'] or columns['status']}",
        }


def _stopped_columns(run: RunRow) -> dict[str, Any]:
    return {
        "status": run.status.lower(),
        "error": run.tags.get("wit.error"),
        "fingerprint": run.tags["wit.fingerprint"],
        "run_id": run.run_id,
        "run_url": run.url,
    }
