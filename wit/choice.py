"""The weights that a study recommends, with the evidence, and the model to take.

Of the seeds of the best cell that one is taken whose mean select score is best, of equal ones the
smallest: somebody has to be. The cell itself is judged by the mean of its seeds.
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wit.analysis.grid import stage_scores
from wit.analysis.intervals import half_width, item_stderr
from wit.analysis.scores import (
    INSTRUCTION_TUNING,
    alignment_columns,
    alignments_in,
    of_alignment,
    of_tuning,
    tunings_in,
)
from wit.analysis.selection import Recommendation, recommend
from wit.errors import InputError
from wit.lineage.registry import folder_in_mlflow
from wit.records import MODEL
from wit.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]  # of the table, by column
BENCHMARKS = ("select", "report", "forgetting")  # roles of what is a benchmark's score


class ChosenScore(Settings):
    """Score of the chosen model alone on one benchmark."""

    benchmark: str
    role: str  # select, report or forgetting
    score: float
    half_width: float | None  # of its 95 % interval, of the items alone; None: not known
    higher_is_better: bool

    def __str__(self) -> str:
        return f"{self.score:.3f}" + (
            "" if self.half_width is None else f" ± {self.half_width:.3f}"
        )


class ChosenModel(Settings):
    """The DPO model of the best cell that is taken."""

    fingerprint: str
    seed: int
    alignment: str | None  # what the study calls it
    objective: str | None  # of alignment
    beta: float | None
    scores: tuple[ChosenScore, ...]
    folder: str  # of its weights
    is_here: bool  # the folder is on this machine
    run_id: str
    run_url: str | None


class Choice(Settings):
    """What a study recommends, and the evidence."""

    study: str
    version: str | None  # of the study
    sentence: str
    weights: str
    prompt_weight: float | None
    response_weight: float | None
    score: float  # mean over the select benchmarks and seeds
    half_width: float | None
    num_seeds: int
    select_benchmarks: tuple[str, ...]
    within_noise: tuple[str, ...]  # other weights that cannot be told from these
    report_scores: tuple[dict[str, Any], ...]  # of the cell
    base_score: float | None  # of the base, on the same; None: it was not measured
    base_scores: dict[str, float]  # of the base, by benchmark that selects or reports
    num_excluded: int  # models of the study without complete scores after DPO
    num_alignments: int  # of the study; the choice is of one
    tuning: str | None  # the way of SFT; None: the study names none
    num_tunings: int  # of the study; the choice is of one
    is_instruction_tuning: bool  # the weights are those of (0, 1): nothing stands beside them
    model: ChosenModel


def choose(
    scores: "pd.DataFrame",
    study: str,
    root: Path,
    uri: str,
    alignment: str | None = None,
    tuning: str | None = None,
) -> Choice:
    """The recommended weights and the model to take.

    Args:
        scores: Of the study, as ``wit.lineage.table`` gives it.
        study: Its name.
        root: Where artifacts are; else where MLflow says they were made.
        uri: Tracking URI.
        alignment: After which the weights shall be best; unset: the main one of the study.
        tuning: The way of SFT, likewise.

    Raises:
        InputError: The study has no such alignment or tuning. Or nothing can be recommended yet;
            says what is missing.
    """
    known, tunings = alignments_in(scores), tunings_in(scores)
    _check_known(study, "alignment", alignment, known)
    _check_known(study, "tuning", tuning, tunings)
    version = scores.attrs.get("version")
    scores = of_alignment(of_tuning(scores, tuning), alignment)
    found = recommend(scores)
    rows: list[Row] = scores.to_dict("records")
    dpo = [row for row in rows if row["stage"] == "dpo"]
    names = tuple(sorted({row["benchmark"] for row in rows if row["role"] == "select"}))
    best, base = found.best, stage_scores(scores, "base").cells
    if best is None:
        raise InputError(_what_is_missing(study, found, dpo))
    return Choice(
        study=study,
        version=version,
        sentence=found.sentence,
        weights=best.weights,
        prompt_weight=best.prompt_weight,
        response_weight=best.response_weight,
        score=best.score,
        half_width=best.half_width,
        num_seeds=best.num_seeds,
        select_benchmarks=names,
        within_noise=found.within_noise,
        report_scores=tuple(score.model_dump(mode="json") for score in found.report_scores),
        base_score=base[0].score if base else None,
        base_scores={
            row["benchmark"]: row["score"]
            for row in rows
            if row["stage"] == "base" and row["role"] in BENCHMARKS
        },
        num_excluded=found.num_excluded,
        num_alignments=max(1, len(known)),
        tuning=tuning or next(iter(tunings), None),
        num_tunings=max(1, len(tunings)),
        is_instruction_tuning=best.weights == INSTRUCTION_TUNING,
        model=_chosen_model([r for r in dpo if r["weights"] == best.weights], names, root, uri),
    )


def _check_known(study: str, what: str, given: str | None, known: Sequence[str]) -> None:
    if given is not None and given not in known:
        names = ", ".join(known) or "none that it names"
        raise InputError(f"study {study!r} has no {what} {given!r}; it has {names}")


def _what_is_missing(study: str, found: Recommendation, dpo: list[Row]) -> str:
    states = Counter({row["cell"]: row["status"] for row in dpo}.values())
    told = ", ".join(f"{count} {status}" for status, count in states.items())
    return (
        f"study {study!r}: {found.sentence} Its DPO models: {told or 'none'}. 'wit run' it to its "
        f"end; 'wit compare {study}' shows which cells lack what"
    )


def _chosen_model(cell: list[Row], names: Sequence[str], root: Path, uri: str) -> ChosenModel:
    """Of the models of a cell the one with the best select scores, then the smallest seed."""
    models: dict[str, list[Row]] = {}
    for row in cell:
        if row["status"] == "finished" and row["role"] in BENCHMARKS:
            models.setdefault(row["fingerprint"], []).append(row)
    complete = [rows for rows in models.values() if set(names) <= _measured(rows)]
    rows = min(complete, key=lambda rows: (-_mean_select_score(rows), rows[0]["seed"]))
    fingerprint, run_id = str(rows[0]["fingerprint"]), str(rows[0]["run_id"])
    folder = root / "dpo" / fingerprint
    if not folder.is_dir():
        folder = folder_in_mlflow(run_id, uri) or folder
    url = rows[0]["run_url"]
    return ChosenModel(
        fingerprint=fingerprint,
        seed=int(rows[0]["seed"]),
        **alignment_columns(rows[0]),
        scores=tuple(map(_chosen_score, sorted(rows, key=lambda row: row["benchmark"]))),
        folder=str(folder / MODEL),
        is_here=(folder / MODEL).is_dir(),
        run_id=run_id,
        run_url=url if isinstance(url, str) else None,
    )


def _measured(rows: list[Row]) -> set[str]:
    return {row["benchmark"] for row in rows if math.isfinite(row["score"])}


def _mean_select_score(rows: list[Row]) -> float:
    """Higher is better."""
    scores = [
        row["score"] if row["higher_is_better"] else -row["score"]
        for row in rows
        if row["role"] == "select"
    ]
    return math.fsum(scores) / len(scores)


def _chosen_score(row: Row) -> ChosenScore:
    stderr = item_stderr(row["score"], row["stderr"], row["num_items"])
    return ChosenScore(
        benchmark=row["benchmark"],
        role=row["role"],
        score=row["score"],
        half_width=None if math.isnan(stderr) else half_width(None, stderr, 0),
        higher_is_better=bool(row["higher_is_better"]),
    )
