"""What MLflow is told about an artifact that is finished: what its directory holds.

Pure functions of artifacts and of their files; nothing here knows MLflow.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wit.artifacts import RECORD, Artifact, Source
from wit.evaluation.results import SCORES_FILE, EvaluationResult, Score, share_score
from wit.evaluation_recipes import OverlapRecipe
from wit.lineage.description import flat, run_name
from wit.lineage.terms import TRAINING_DATA
from wit.score_names import EMPTY_RESPONSES, PREFERENCE_ACCURACY, TEXT_DRIFT, TEXT_NLL

if TYPE_CHECKING:
    from wit.data.overlap import Overlap

HISTORY = "history.jsonl"
CARD = "card.json"
RESPONSES = "responses.jsonl"
COPIED = (RECORD, CARD, SCORES_FILE)  # small files that are worth showing in MLflow
MAX_COPIED_BYTES = 1_000_000
LAST_LOSS = "last_loss"  # of the last optimizer step
# Groups of charts stand in MLflow by the alphabet; loss and rewards are looked at first.
GROUPS = {"logits/": "token_logits/", "logps/": "sequence_logps/"}
# Parts whose rows a figure is of, where that is not the instructions.
_MEASURED_ON = {PREFERENCE_ACCURACY: "preferences", TEXT_NLL: "text", TEXT_DRIFT: "text"}
_ROWS = ("prompts", "responses", "preferences")  # parts with the rows of figures that have no other
Point = tuple[str, float, int, float]  # name, value, step, seconds since 1970


class DataSet(NamedTuple):
    """What a model was trained or measured on, known by its content."""

    name: str
    digest: str  # of the content, not of the place
    location: str
    profile: dict[str, Any]  # its figures; empty where it is elsewhere


class Outcome(NamedTuple):
    """What a finished artifact holds that MLflow shall show."""

    metrics: dict[str, float]  # final figures, without a step
    history: list[Point]
    tags: dict[str, str]
    files: list[Path]
    measured_on: dict[str, DataSet]  # by those metrics that say how good a model is
    tables: dict[str, dict[str, list[str]]]  # columns, by the name of the table's file


def made_between(record: Mapping[str, Any]) -> tuple[float, float]:
    """When the attempt that made an artifact began and ended, in seconds since 1970."""
    # The record cuts to whole seconds; no point that was sent meanwhile is later.
    ended = datetime.fromisoformat(record["made"]["at"]).timestamp() + 1
    return ended - float(record["made"]["seconds"]), ended


def outcome_of(artifact: Artifact, at: float = 0.0) -> Outcome:
    """Reads figures, provenance and small files of a finished artifact.

    Args:
        artifact: It exists.
        at: Time of the points of its history, which has none; seconds since 1970.

    Raises:
        ArtifactError: Its record or its scores cannot be read.
    """
    record = artifact.record()
    made = record["made"]
    metrics, tags = {"seconds": float(made["seconds"])}, {}
    measured_on: dict[str, DataSet] = {}
    if (artifact.path / SCORES_FILE).is_file():
        found = EvaluationResult.load(artifact.path)
        metrics |= evaluation_metrics(found)
        tags |= _evaluation_tags(found)
        measured_on = _measured_on(artifact, found)
    card = flat(_card_of(artifact))
    metrics |= {name: float(value) for name, value in card.items() if _is_number(value)}
    files = [artifact.path / name for name in COPIED]
    if isinstance(artifact.recipe, OverlapRecipe):
        from wit.data.overlap import OVERLAP, Overlap  # takes seconds: it imports transformers

        metrics |= overlap_metrics(Overlap.load(artifact.path))
        files.append(artifact.path / OVERLAP)
    tags["wit.versions"] = json.dumps(made["versions"])
    tags["wit.made"] = f"{made['at']} on {made['host']}"
    if "how" in made:
        tags["wit.how"] = json.dumps(made["how"])
    if made["commit"]:
        tags["mlflow.source.git.commit"] = made["commit"]
    digest = model_sha256(record["files"])
    if digest:
        tags["wit.model_sha256"] = digest
    small = [f for f in files if f.is_file() and f.stat().st_size <= MAX_COPIED_BYTES]
    history = list(_history(artifact.path / HISTORY, at))
    losses = [value for name, value, *_ in history if name == "loss"]
    if losses:
        metrics[LAST_LOSS] = losses[-1]
        measured_on[LAST_LOSS] = training_data(artifact)
    tags = {name: value for name, value in tags.items() if value}
    return Outcome(metrics, history, tags, small, measured_on, _tables(artifact))


def _tables(artifact: Artifact) -> dict[str, dict[str, list[str]]]:
    """Prompts and responses, as MLflow shows them beside those of other runs."""
    file = artifact.path / RESPONSES
    if not file.is_file():
        return {}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    columns = {
        "prompt": ["\n".join(row["prompts"]) for row in rows],
        "response": ["\n".join(row["responses"]) for row in rows],
    }
    return {"responses.json": columns}


def evaluation_metrics(result: EvaluationResult) -> dict[str, float]:
    """Every score by MLflow's names: a main one by its benchmark, the others as parts of that."""
    metrics: dict[str, float] = {}
    for score in result.scores:
        metrics |= _with_stderr(_name_of(score), score.value, score.stderr)
    for benchmark, run in result.runs.items():
        if run.empty_response_share is not None:
            name = f"{benchmark}/{EMPTY_RESPONSES}"
            share = share_score(name, "share", run.empty_response_share, run.num_items)
            metrics |= _with_stderr(name, share.value, share.stderr)
    return metrics


def _name_of(score: Score) -> str:
    """Such as ``ifeval``, and ``ifeval/prompt_level_loose_acc``."""
    if score.is_main:
        return score.benchmark
    part = score.metric if score.filter == "none" else f"{score.metric}, {score.filter}"
    return re.sub(r"[^\w\-. :/]", "_", f"{score.benchmark}/{part}")


def _evaluation_tags(found: EvaluationResult) -> dict[str, str]:
    main = [score for score in found.scores if score.is_main]
    names = {_name_of(score): score for score in found.scores}
    counts = {name: score.num_items for name, score in names.items()}
    counts |= {f"{name}/{EMPTY_RESPONSES}": run.num_items for name, run in found.runs.items()}
    return {
        "wit.lower_is_better": "\n".join(n for n, s in names.items() if not s.higher_is_better),
        "wit.limits": " ".join(f"{s.benchmark}:{s.limit}" for s in main if s.limit),
        "wit.num_items": "\n".join(f"{name}:{count}" for name, count in counts.items()),
    }


def _measured_on(evaluation: Artifact, found: EvaluationResult) -> dict[str, DataSet]:
    """The data set of every metric: the benchmark's items as they were put, or held-out rows."""
    sets: dict[str, DataSet] = {}
    for score in found.scores:
        run, parents = found.runs.get(score.benchmark), evaluation.parents
        if not score.is_main:
            continue
        if run is not None:
            file = parents.get(f"benchmark:{score.benchmark}")
            location = file.location if isinstance(file, Source) else score.benchmark
            profile = {"num_rows": run.num_items, "version": run.version}
            profile |= {"few_shot": run.num_fewshot}
            data = DataSet(score.benchmark, run.items_hash, location, profile)
        else:
            parts = (_MEASURED_ON.get(score.benchmark, "instructions"), *_ROWS)
            rows = next(parents[part] for part in parts if part in parents)
            data = _data_set(rows)
        sets |= dict.fromkeys((score.benchmark, f"{score.benchmark}_stderr"), data)
    return sets


def training_data(artifact: Artifact) -> DataSet:
    """What a model is trained on."""
    return _data_set(artifact.parents[TRAINING_DATA[artifact.stage]])


def _data_set(data: Artifact | Source) -> DataSet:
    """Its fingerprint counts recipe and rows by their content, so it is the digest."""
    if isinstance(data, Source):
        return DataSet(data.kind, data.fingerprint, data.location, {})
    return DataSet(run_name(data), data.fingerprint, str(data.path), data_profile(data))


def overlap_metrics(overlap: "Overlap") -> dict[str, float]:
    """Share of the items of every benchmark that stand in the training rows."""
    shares = {name: found.share for name, found in overlap.benchmarks.items()}
    return {f"overlap_share.{name}": share for name, share in shares.items() if share is not None}


def data_profile(data: Artifact) -> dict[str, Any]:
    """The figures of a data set's card, and the number of rows under the name that MLflow knows.

    Text of the rows stays where they are.
    """
    card = _card_of(data)
    num_rows = card.get("rows", {}).get("train")
    figures = {key: value for key, value in card.items() if key != "boilerplate"}
    return figures if num_rows is None else {"num_rows": num_rows} | figures


def _card_of(artifact: Artifact) -> dict[str, Any]:
    """Nothing where there is none; data sets may be known to MLflow before they are made here."""
    file = artifact.path / CARD
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def model_sha256(files: Mapping[str, Mapping[str, Any]]) -> str | None:
    """One sha256 over names and digests of the files below ``model/``, as recorded."""
    lines = [f"{files[name]['sha256']}  {name}\n" for name in sorted(files) if _is_model(name)]
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None


def _is_model(name: str) -> bool:
    return name.startswith("model/")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", text) is not None


def _with_stderr(name: str, value: float, stderr: float | None) -> dict[str, float]:
    return {name: value} if stderr is None else {name: value, f"{name}_stderr": stderr}


def _history(path: Path, at: float) -> Iterator[Point]:
    """Every value of a training's history; a line that was cut off by a kill is no line."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        yield from points(entry, entry.get("step", 0), at)


def points(metrics: Mapping[str, Any], step: int, at: float) -> Iterator[Point]:
    """The numbers among ``metrics``, one point each."""
    for name, value in metrics.items():
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
            for group, shown in GROUPS.items():
                name = shown + name.removeprefix(group) if name.startswith(group) else name
            yield re.sub(r"[^\w\-. :/]", "_", name), float(value), step, at
