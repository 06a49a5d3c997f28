"""Answers from a tracking store of 10,000 runs: seconds, and how many statements they take."""

import logging
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from wit import lineage
from wit.alignment_recipes import DPORecipe
from wit.artifacts import Artifact, Source
from wit.config import Cell, Study
from wit.evaluation_recipes import BenchmarkEvaluation, BenchmarkRecipe, LikelihoodEvaluation
from wit.lineage.cells import cell_tags
from wit.lineage.description import cell_of, run_name, run_params, run_tags, study_params
from wit.lineage.place import EXPERIMENT
from wit.lineage.reader import RunRow
from wit.recipes import InstructionsRecipe, PreferencesRecipe, SFTRecipe, TokenizerRecipe

BENCHMARKS = ("gsm8k", "arc_challenge", "ifeval", "truthfulqa", "mmlu")
VERSION = "123456789abc"  # of every study; the name tells them apart
CELLS_OF_OTHERS = 100
READER = "wit.lineage.reader"


class Answer(BaseModel):
    """What one question costs."""

    question: str
    num_runs: int  # in the store
    num_rows: int  # of the answer
    seconds: float  # of the query, nothing cached by us
    num_statements: int
    command_seconds: float | None  # of the whole command line program, its start included


def measure(num_runs: int) -> list[Answer]:
    """Asks a store of a few runs, and one of as many as are given, in a temporary folder."""
    answers = []
    for size in (10, num_runs):
        with tempfile.TemporaryDirectory() as folder:
            uri = f"sqlite:///{folder}/mlflow.db"
            study, artifacts, stored = fill(uri, size)
            model = next(a for a in reversed(artifacts) if a.stage == "sft")
            data = artifacts[1]
            asks: dict[str, tuple[Callable[[], int], list[str]]] = {
                "table": (lambda s=study, u=uri: len(lineage.table(s.name, u)), ["compare"]),
                "lineage of a model": (lambda m=model, u=uri: _size(m, u), ["lineage"]),
                "lineage of a data set": (lambda d=data, u=uri: _size(d, u), ["lineage"]),
            }
            subjects = [study.name, model.fingerprint, data.fingerprint]
            for (question, (ask, words)), subject in zip(asks.items(), subjects, strict=True):
                with counted() as statements:
                    started = time.perf_counter()
                    num_rows = ask()
                    seconds = time.perf_counter() - started
                command = _command_seconds([*words, subject], uri) if size == num_runs else None
                answer = Answer(
                    question=question,
                    num_runs=stored,
                    num_rows=num_rows,
                    seconds=seconds,
                    num_statements=len(statements),
                    command_seconds=command,
                )
                answers.append(answer)
    return answers


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collects the statements that are sent to the store meanwhile."""
    statements: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            statements.append(record.getMessage())

    log, handler = logging.getLogger(READER), Collect()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield statements
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _size(artifact: Artifact, uri: str) -> int:
    def count(node: lineage.Node) -> int:
        return 1 + sum(map(count, (*node.parents.values(), *node.children)))

    return count(lineage.lineage(artifact.fingerprint, uri))


def _command_seconds(words: list[str], uri: str) -> float:
    command = [sys.executable, "-m", "wit.cli", *words, "--json"]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--set-runtime", f"tracking_uri={uri}"], check=True, capture_output=True
    )
    return time.perf_counter() - started


def fill(uri: str, num_runs: int) -> tuple[Study, list[Artifact], int]:
    """Writes studies into a new store: a large one of a fifth of the runs, and others.

    Straight into the tables, for MLflow's own way takes minutes. Nothing is trained or scored:
    the numbers are made up, the shape of what is stored is that of real studies.

    Returns:
        The large study, its artifacts, and the number of runs in the store.
    """
    lineage.prepare(uri)
    runs: list[RunRow] = []
    large, artifacts = _study("large", max(1, num_runs // 70), base="ba5e00000000")
    runs += _runs(large, artifacts)
    while len(runs) < num_runs:
        number = len(runs)
        num_cells = min(CELLS_OF_OTHERS, max(1, (num_runs - number) // 14))
        runs += _runs(*_study(f"other-{number}", num_cells, base=f"{number:012x}"))
    _insert(Path(uri.removeprefix("sqlite:///")), runs)
    return large, artifacts, len(runs)


def _study(name: str, num_cells: int, base: str) -> tuple[Study, list[Artifact]]:
    study = Study.model_validate(
        {
            "name": name,
            "base": {"path": "builtin"},
            "instructions": {"path": "rows.jsonl"},
            "preferences": {"path": "pairs.jsonl"},
            "weights": [{"prompt": i / 1000, "response": 1} for i in range(num_cells)],
            "benchmarks": [{"name": b, "role": "select"} for b in BENCHMARKS],
        }
    )
    source, root = Source(kind="model", fingerprint=base, location="/models/base"), Path("/runs")
    tokenizer = Artifact(root=root, recipe=TokenizerRecipe(), parents={"base": source})
    shared = {"tokenizer": tokenizer}
    rows = Artifact(root=root, recipe=InstructionsRecipe(path="rows.jsonl"), parents={**shared})
    pairs = Artifact(root=root, recipe=PreferencesRecipe(path="pairs.jsonl"), parents={**shared})
    asked = [BenchmarkRecipe(name=name, num_fewshot=0, limit=None) for name in BENCHMARKS]
    measures = [*(BenchmarkEvaluation(benchmark=one) for one in asked), LikelihoodEvaluation()]

    def evaluations(model: Artifact | Source) -> list[Artifact]:
        parents = {"model": model, "tokenizer": tokenizer, "instructions": rows}
        return [
            Artifact(root=root, recipe=recipe, parents={**parents, "preferences": pairs})
            for recipe in measures
        ]

    def cell(cell: Cell) -> list[Artifact]:
        tuned = SFTRecipe(weights=cell.weights, seed=cell.seed)
        sft = Artifact(root=root, recipe=tuned, parents={"base": source, "instructions": rows})
        parents = {"policy": sft, "preferences": pairs}
        dpo = Artifact(root=root, recipe=DPORecipe(seed=cell.seed), parents={**parents})
        return [sft, *evaluations(sft), dpo, *evaluations(dpo)]

    cells = [artifact for one in study.cells for artifact in cell(one)]
    return study, [tokenizer, rows, pairs, *evaluations(source), *cells]


def _runs(study: Study, artifacts: list[Artifact]) -> list[RunRow]:
    on_top = {"wit.stage": "study", "wit.study_name": study.name, "wit.study_version": VERSION}
    top = RunRow(
        uuid4().hex, study.name, "FINISHED", study_params(study), on_top | cell_tags(study), {}
    )
    runs, run_ids = [top], {artifact.fingerprint: uuid4().hex for artifact in artifacts}
    for number, artifact in enumerate(artifacts):
        tags = run_tags(artifact) | {
            f"wit.parent_run.{part}": run_ids[parent.fingerprint]
            for part, parent in artifact.parents.items()
            if parent.fingerprint in run_ids
        }
        tags |= {f"wit.study.{study.name}": VERSION, "mlflow.parentRunId": str(top.run_id)}
        tags |= {"mlflow.user": "somebody", "wit.versions": "x" * 200, "wit.made": "x" * 40}
        run_id, cell = run_ids[artifact.fingerprint], cell_of(artifact)
        is_evaluation = artifact.stage == "evaluation"
        metrics = dict.fromkeys((f"figure_{i}" for i in range(1 if is_evaluation else 15)), 1 / 7)
        if isinstance(artifact.recipe, BenchmarkEvaluation) and cell is not None:
            name = artifact.recipe.measures
            metrics |= {name: number % 97 / 97, f"{name}_stderr": 0.01}
        elif isinstance(artifact.recipe, LikelihoodEvaluation) and cell is not None:
            metrics |= {"preference_accuracy": number % 97 / 97, "preference_accuracy_stderr": 0.01}
            metrics |= {"nll_prompt": 2.0, "nll_response": 1.0}
        params = run_params(artifact)
        runs.append(RunRow(run_id, run_name(artifact), "FINISHED", params, tags, metrics))
    return runs


def _insert(file: Path, runs: list[RunRow]) -> None:
    def insert(table: str, columns: str, rows: Iterator[tuple[Any, ...]]) -> None:
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


def show_measurement(console: Console, answers: list[Answer]) -> None:
    """Prints a line for each question and size of store."""
    table = Table(title="Answers from a tracking store (SQLite)")
    table.add_column("question")
    for column in ("runs", "rows", "query, s", "statements", "command, s"):
        table.add_column(column, justify="right")
    for answer in answers:
        table.add_row(
            answer.question,
            f"{answer.num_runs:,}",
            f"{answer.num_rows:,}",
            f"{answer.seconds:.2f}",
            str(answer.num_statements),
            "" if answer.command_seconds is None else f"{answer.command_seconds:.2f}",
        )
    console.print(table)
