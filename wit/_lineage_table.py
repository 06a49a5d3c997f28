"""Every score of a study as one tidy table, in three queries."""

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from wit._lineage_description import BASE
from wit._lineage_store import Store, open_store, translated
from wit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

COLUMNS = (
    "study",
    "cell",
    "stage",  # base, sft or dpo: which model was measured
    "weights",
    "prompt_weight",
    "response_weight",
    "seed",
    "benchmark",  # or nll_<role>, preference_accuracy; nothing where the model was not measured
    "role",  # select, report or diagnostic
    "score",
    "stderr",
    "higher_is_better",
    "status",  # finished, failed, running, killed, blocked or missing
    "error",
    "fingerprint",  # of the model
    "run_id",  # of the model; for the base, which has none, of its evaluation
    "run_url",
)
NUMBER = r"\d[\d.]*(?:e[+-]\d+)?"
CELL = re.compile(
    rf"^(?P<weights>p(?P<prompt>{NUMBER})-r(?P<response>{NUMBER})(-.+)?)-s(?P<seed>\d+)$"
)
NAME = re.compile(r"^[A-Za-z0-9_.-]+$")


def newest_study_run(store: Store, study_name: str, version: str | None = None) -> "Run | None":
    """The run of the study's version, or of the one that was started last."""
    condition = f"tags.`wit.stage` = 'study' AND tags.`wit.study_name` = '{study_name}'"
    if version is not None:
        condition += f" AND tags.`wit.study_version` = '{version}'"
    found = store.search(condition)
    return max(found, key=lambda run: run.data.tags.get("wit.started", ""), default=None)


def table(study_name: str, uri: str, *, version: str | None = None) -> "pd.DataFrame":
    """Every score of a study, one row per model and benchmark; three queries in all.

    A model without scores has one row without a benchmark, whose ``status`` and ``error`` say why.
    The columns are those of ``COLUMNS``.

    Args:
        study_name: As in its file.
        uri: Tracking URI.
        version: Of the study, as ``StudyRun`` names it; else the one that was started last.

    Raises:
        InputError: No such study is in the store, or the store cannot be reached.
    """
    import pandas as pd

    store = open_store(uri)
    with translated(uri):
        is_name = NAME.match(study_name)
        study_run = newest_study_run(store, study_name, version) if is_name else None
        if study_run is None:
            raise InputError(_no_such_study(store, study_name))
        version = study_run.data.tags["wit.study_version"]
        member = f"tags.`wit.study.{study_name}` LIKE '%{version}%'"
        evaluations = store.search(
            f"{member} AND tags.`wit.stage` = 'evaluation' AND attributes.status = 'FINISHED'"
        )
        unfinished = store.search(f"{member} AND attributes.status != 'FINISHED'")
    rows = [row for run in evaluations for row in _score_rows(store, study_run, run)]
    measured = {(row["cell"], row["stage"]) for row in rows}
    rows += _rows_without_scores(store, study_run, unfinished, measured)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = ["prompt_weight", "response_weight", "score", "stderr"]
    frame[numbers] = frame[numbers].astype(float)
    return frame.astype({"seed": "Int64"})


def _no_such_study(store: Store, study_name: str) -> str:
    runs = store.search("tags.`wit.stage` = 'study'")
    known = sorted({run.data.tags["wit.study_name"] for run in runs})
    near = difflib.get_close_matches(study_name, known, cutoff=0.4) or known[:5]
    hint = f"Did you mean {', '.join(near)}?" if near else "It holds no study yet; 'wit run' one."
    return f"study {study_name!r} is not in MLflow at {store.uri}. {hint}"


def _score_rows(store: Store, study_run: "Run", run: "Run") -> Iterable[dict[str, Any]]:
    params, tags, metrics = run.data.params, run.data.tags, run.data.metrics
    lower_is_better = tags.get("wit.lower_is_better", "").split()
    model_run = tags.get("wit.parent_run.model", run.info.run_id)
    for name, value in metrics.items():
        role = study_run.data.params.get(f"benchmarks.{name}.role")
        is_diagnostic = name.startswith("nll_") or name == "preference_accuracy"
        if role is None and not is_diagnostic:
            continue  # seconds, standard errors
        yield {
            "study": study_run.data.tags["wit.study_name"],
            **_cell_columns(tags["wit.cell"]),
            "stage": params["model_stage"],
            "benchmark": name,
            "role": role or "diagnostic",
            "score": value,
            "stderr": metrics.get(f"{name}_stderr"),
            "higher_is_better": name not in lower_is_better and not name.startswith("nll_"),
            "status": "finished",
            "fingerprint": tags["wit.parent.model"],
            "run_id": model_run,
            "run_url": store.run_url(model_run),
        }


def _cell_columns(cell: str) -> dict[str, Any]:
    found = CELL.match(cell)
    if found is None:
        return {"cell": cell, "weights": BASE}
    return {
        "cell": cell,
        "weights": found["weights"],
        "prompt_weight": float(found["prompt"]),
        "response_weight": float(found["response"]),
        "seed": int(found["seed"]),
    }


def _rows_without_scores(
    store: Store, study_run: "Run", unfinished: list["Run"], measured: set[tuple[str, str]]
) -> Iterable[dict[str, Any]]:
    """One row for every model of the plan that has no score, and why it has none."""
    stopped: dict[tuple[str, str], Run] = {}
    for run in unfinished:
        if "model_stage" in run.data.params:
            stopped[run.data.tags["wit.cell"], run.data.params["model_stage"]] = run
    cells = study_run.data.tags["wit.cells"].split()
    planned = [(BASE, BASE), *((cell, stage) for stage in ("sft", "dpo") for cell in cells)]
    for cell, stage in planned:
        if (cell, stage) in measured:
            continue
        row = {
            "study": study_run.data.tags["wit.study_name"],
            **_cell_columns(cell),
            "stage": stage,
            "higher_is_better": True,
        }
        run = stopped.get((cell, stage))
        sft = stopped.get((cell, "sft"))
        if run is not None:
            row |= _stopped_columns(store, run)
        elif stage == "dpo" and sft is not None and sft.info.status == "FAILED":
            row |= {"status": "blocked", "error": f"its SFT model failed (run {sft.info.run_id})"}
        else:
            row["status"] = "missing"
        yield row


def _stopped_columns(store: Store, run: "Run") -> dict[str, Any]:
    return {
        "status": run.info.status.lower(),
        "error": run.data.tags.get("wit.error"),
        "fingerprint": run.data.tags["wit.fingerprint"],
        "run_id": run.info.run_id,
        "run_url": store.run_url(run.info.run_id),
    }
