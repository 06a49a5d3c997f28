"""A tracking store with as many runs as wanted, of one study, without any training.

The study is planned as any other, so stages, fingerprints, params and tags are those of a real one.
Scores are made up, and straight into the tables they go: MLflow's own way takes minutes.
"""

import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from wit import lineage
from wit.artifacts import Artifact
from wit.config import Runtime, Study
from wit.evaluation_recipes import (
    AlignmentEvaluation,
    BenchmarkEvaluation,
    LikelihoodEvaluation,
)
from wit.lineage.cells import cell_tags
from wit.lineage.description import cell_of, run_name, run_params, run_tags, study_params
from wit.lineage.place import EXPERIMENT
from wit.lineage.reader import RunRow
from wit.outcome import save_study, study_folder
from wit.plan import Plan, make_plan

NAME = "scale"
VERSION = "123456789abc"  # of the study
BENCHMARKS = {"wit_choice": "select", "wit_seen": "select", "wit_unseen": "report"}
SEEDS = (0, 1)
NUM_SIDE = 100  # prompt weights of a row of the grid
SEED = 0  # of the made-up scores


class Filled(NamedTuple):
    """What a store was filled with."""

    study: Study
    plan: Plan
    runtime: Runtime
    uri: str
    num_runs: int  # with that of the study; a plan of so many stages may have some more


def study_of(num_cells: int) -> Study:
    """A study of so many cells, of which two have the same weights."""
    num_weights = max(1, math.ceil(num_cells / len(SEEDS)))
    return Study.model_validate(
        {
            "name": NAME,
            "base": {"path": "builtin"},
            "instructions": {"path": "builtin"},
            "preferences": {"path": "builtin"},
            "weights": [
                {"prompt": (i % NUM_SIDE) / NUM_SIDE, "response": 1 + i // NUM_SIDE}
                for i in range(num_weights)
            ],
            "seeds": SEEDS[: min(num_cells, len(SEEDS))],
            "benchmarks": [{"name": name, "role": role} for name, role in BENCHMARKS.items()],
        }
    )


def fill(folder: Path, num_runs: int) -> Filled:
    """Writes the runs of one study into a new store, and the study into its artifact root.

    Args:
        folder: Of both; it is empty.
        num_runs: So many, the oldest of the study; at least 1.
    """
    runtime = Runtime(artifact_root=folder / "root", tracking_uri=f"sqlite:///{folder}/mlflow.db")
    uri = lineage.tracking_uri(runtime)
    lineage.prepare(uri)
    plan = make_plan(study_of(_num_cells(runtime, num_runs)), runtime)
    save_study(plan.study, study_folder(runtime, NAME), VERSION)
    runs = list(_runs(plan))[:num_runs]
    _insert(folder / "mlflow.db", runs)
    return Filled(plan.study, plan, runtime, uri, len(runs))


def _num_cells(runtime: Runtime, num_runs: int) -> int:
    """Of the smallest study that has so many runs, with its own."""
    plan = make_plan(study_of(1), runtime)
    of_cell = len(plan.cells[0].artifacts)
    return max(1, math.ceil((num_runs - 1 - len(plan.shared)) / of_cell))


def _runs(plan: Plan) -> Iterable[RunRow]:
    study, artifacts = plan.study, [artifact for artifact, _ in plan.artifacts()]
    tags = {"wit.stage": "study", "wit.study_name": NAME, "wit.study_version": VERSION}
    top = uuid4().hex
    yield RunRow(top, NAME, "FINISHED", study_params(study), tags | cell_tags(study), {})
    generator = np.random.default_rng(SEED)
    run_ids = {artifact.fingerprint: uuid4().hex for artifact in artifacts}
    for artifact in artifacts:
        tags = run_tags(artifact) | {
            f"wit.parent_run.{part}": run_ids[parent.fingerprint]
            for part, parent in artifact.parents.items()
            if parent.fingerprint in run_ids
        }
        tags |= {f"wit.study.{NAME}": VERSION, "mlflow.parentRunId": top}
        tags |= {"mlflow.user": "somebody", "wit.versions": "x" * 200, "wit.made": "x" * 40}
        yield RunRow(
            run_ids[artifact.fingerprint],
            run_name(artifact),
            "FINISHED",
            run_params(artifact),
            tags,
            _figures(artifact, generator),
        )


def _figures(artifact: Artifact, generator: np.random.Generator) -> dict[str, float]:
    """Metrics of a run: those that its stage leaves, with made-up values."""
    found = {"seconds": 1.0}
    if cell_of(artifact) is None:
        return found
    if isinstance(artifact.recipe, BenchmarkEvaluation):
        name = artifact.recipe.measures
        return found | {name: generator.uniform(), f"{name}_stderr": 0.01}
    if isinstance(artifact.recipe, LikelihoodEvaluation):
        return found | {"nll_prompt": generator.uniform(1, 2), "nll_response": generator.uniform()}
    if isinstance(artifact.recipe, AlignmentEvaluation):
        return found | {"preference_accuracy": generator.uniform()}
    return found | dict.fromkeys((f"figure_{number}" for number in range(15)), 1 / 7)


def _insert(file: Path, runs: list[RunRow]) -> None:
    def insert(table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" for _ in columns.split(","))
        database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)

    with closing(sqlite3.connect(file)) as database:
        ask = "SELECT experiment_id FROM experiments WHERE name = ?"
        [experiment] = database.execute(ask, [EXPERIMENT]).fetchone()
        insert(
            "runs",
            "run_uuid, name, status, start_time, lifecycle_stage, experiment_id",
            ((r.run_id, r.name, r.status, i, "active", experiment) for i, r in enumerate(runs)),
        )
        for table, kind in (("params", "params"), ("tags", "tags")):
            rows = ((k, v, r.run_id) for r in runs for k, v in getattr(r, kind).items())
            insert(table, "key, value, run_uuid", rows)
        for table in ("metrics", "latest_metrics"):
            rows = ((k, v, 0, 0, False, r.run_id) for r in runs for k, v in r.metrics.items())
            insert(table, "key, value, timestamp, step, is_nan, run_uuid", rows)
        database.commit()
