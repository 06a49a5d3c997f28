"""What MLflow is told about an artifact: a name, params, tags, and what its directory holds.

Pure functions of artifacts and of their files; nothing here knows MLflow.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wit.artifacts import RECORD, Artifact, Source
from wit.config import Study, TokenWeights
from wit.data.overlap import OVERLAP, Overlap
from wit.evaluation.results import SCORES_FILE, EvaluationResult
from wit.recipes import SFTRecipe

# The parent that an artifact continues; the others only feed it. Walking it leads from a score
# over DPO and SFT to the data.
PRINCIPAL = {
    "instructions": "tokenizer",
    "preferences": "tokenizer",
    "overlap": "instructions",
    "sft": "instructions",
    "dpo": "policy",
    "evaluation": "model",
}
TRAINING_DATA = {"sft": "instructions", "dpo": "preferences"}  # the part that is the data set
HISTORY = "history.jsonl"
CARD = "card.json"
COPIED = (RECORD, CARD, SCORES_FILE, OVERLAP)  # small files that are worth showing in MLflow
MAX_COPIED_BYTES = 1_000_000
BASE = "base"
Point = tuple[str, float, int, float]  # name, value, step, seconds since 1970


class CellIdentity(NamedTuple):
    """Which model of a study an artifact is, or was measured on."""

    model_stage: str  # base, sft or dpo
    weights: TokenWeights | None  # None: the base
    seed: int | None

    def __str__(self) -> str:
        return BASE if self.weights is None else f"{self.weights}-s{self.seed}"


def cell_of(artifact: Artifact | Source) -> CellIdentity | None:
    """The cell of a model or of an evaluation; None for data, which all cells share."""
    if isinstance(artifact, Source):
        return CellIdentity(BASE, None, None)
    if isinstance(artifact.recipe, SFTRecipe):
        return CellIdentity("sft", artifact.recipe.weights, artifact.recipe.seed)
    if artifact.stage not in ("dpo", "evaluation"):
        return None
    principal = artifact.parents.get(PRINCIPAL[artifact.stage])
    cell = None if principal is None else cell_of(principal)
    if cell is None or artifact.stage == "evaluation":
        return cell
    return cell._replace(model_stage="dpo")


def run_name(artifact: Artifact) -> str:
    """What the run is called, such as ``evaluation dpo p0.2-r1-s0``."""
    cell = cell_of(artifact)
    if cell is None:
        return f"{artifact.stage} {artifact.fingerprint[:6]}"
    if artifact.stage != "evaluation":
        return f"{artifact.stage} {cell}"
    return f"evaluation {cell.model_stage} {cell}" if cell.weights else "evaluation base"


def run_params(artifact: Artifact) -> dict[str, str]:
    """The recipe, flat, and the cell: enough for one query to compare models without joins."""
    params = flat(artifact.recipe.model_dump(mode="json", exclude_none=True))
    cell = cell_of(artifact)
    if cell is None:
        return params
    params["model_stage"] = cell.model_stage
    if cell.weights is not None:
        params["prompt_weight"] = f"{cell.weights.prompt:g}"
        params["response_weight"] = f"{cell.weights.response:g}"
        params["weights"] = str(cell.weights)
        params["seed"] = str(cell.seed)
    return params


def run_tags(artifact: Artifact) -> dict[str, str]:
    """Identity, and the parents by the part that each plays."""
    tags = {
        "wit.fingerprint": artifact.fingerprint,
        "wit.stage": artifact.stage,
        "wit.path": str(artifact.path),
        "wit.ancestors": " ".join(sorted(ancestors(artifact))),
    }
    cell = cell_of(artifact)
    if cell is not None:
        tags["wit.cell"] = str(cell)
    for part, parent in artifact.parents.items():
        tags[f"wit.parent.{part}"] = parent.fingerprint
        if isinstance(parent, Source):
            tags[f"wit.source.{part}"] = f"{parent.kind} {parent.location}"
    return tags


def ancestors(artifact: Artifact) -> set[str]:
    """Fingerprints of all that it was made of, so that one query finds all that came of a thing."""
    found = {parent.fingerprint for parent in artifact.parents.values()}
    for parent in artifact.parents.values():
        if isinstance(parent, Artifact):
            found |= ancestors(parent)
    return found


def study_params(study: Study) -> dict[str, str]:
    """The study, flat; the benchmarks by their names, so that their role can be looked up."""
    values = study.model_dump(mode="json", exclude_none=True, exclude={"benchmarks"})
    benchmarks = {b.name: b.model_dump(mode="json", exclude={"name"}) for b in study.benchmarks}
    return flat(values | {"benchmarks": benchmarks})


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values under dotted names; a list stays together, as JSON."""
    result: dict[str, str] = {}
    for key, value in values.items():
        name = re.sub(r"[^\w\-. :/]", "_", f"{prefix}{key}")  # MLflow refuses other signs
        if isinstance(value, Mapping):
            result |= flat(value, f"{name}.")
        else:
            result[name] = value if isinstance(value, str) else json.dumps(value)
    return result


class Outcome(NamedTuple):
    """What a finished artifact holds that MLflow shall show."""

    metrics: dict[str, float]  # final figures, without a step
    history: list[Point]
    tags: dict[str, str]
    files: list[Path]


def outcome_of(artifact: Artifact) -> Outcome:
    """Reads figures, provenance and small files of a finished artifact.

    Raises:
        ArtifactError: Its record or its scores cannot be read.
    """
    record = artifact.record()
    made = record["made"]
    metrics, tags = {"seconds": float(made["seconds"])}, {}
    if (artifact.path / SCORES_FILE).is_file():
        found = EvaluationResult.load(artifact.path)
        metrics |= evaluation_metrics(found)
        lower = [s.benchmark for s in found.scores if s.is_main and not s.higher_is_better]
        tags["wit.lower_is_better"] = " ".join(lower)
        limited = [f"{s.benchmark}:{s.limit}" for s in found.scores if s.is_main and s.limit]
        tags["wit.limits"] = " ".join(limited)
    card = flat(_card_of(artifact))
    metrics |= {name: float(value) for name, value in card.items() if _is_number(value)}
    if (artifact.path / OVERLAP).is_file():
        metrics |= overlap_metrics(Overlap.load(artifact.path))
    tags["wit.versions"] = json.dumps(made["versions"])
    tags["wit.made"] = f"{made['at']} on {made['host']}"
    if made["commit"]:
        tags["mlflow.source.git.commit"] = made["commit"]
    digest = model_sha256(record["files"])
    if digest:
        tags["wit.model_sha256"] = digest
    files = [artifact.path / name for name in COPIED]
    small = [f for f in files if f.is_file() and f.stat().st_size <= MAX_COPIED_BYTES]
    at = artifact.path.stat().st_mtime
    history = list(_history(artifact.path / HISTORY, at))
    return Outcome(metrics, history, {k: v for k, v in tags.items() if v}, small)


def evaluation_metrics(result: EvaluationResult) -> dict[str, float]:
    """Main score of every benchmark, likelihoods and preference accuracy, by MLflow's names."""
    metrics = {f"nll_{role}": found.nll for role, found in result.held_out_nll.items()}
    for score in result.scores:
        if score.is_main:
            metrics |= _with_stderr(score.benchmark, score.value, score.stderr)
    preferred = result.preference_accuracy
    if preferred is not None:
        metrics |= _with_stderr("preference_accuracy", preferred.value, preferred.stderr)
    return metrics


def overlap_metrics(overlap: Overlap) -> dict[str, float]:
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
            yield re.sub(r"[^\w\-. :/]", "_", name), float(value), step, at
