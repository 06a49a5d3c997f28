"""What the run on top of a study says at a glance: its best scores, and what they recommend."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from wit.config import Study
from wit.lineage.place import UI_MODE
from wit.lineage.store import Store

if TYPE_CHECKING:
    import pandas as pd

CELLS = "cells.json"
RECOMMENDATION = "wit.recommendation"  # tag of the study's run
STAGES = ("sft", "dpo")
STOPPED = ("failed", "killed", "blocked")


class StudyResult(NamedTuple):
    """What came of a study."""

    figures: dict[str, float]  # by MLflow's names of metrics
    recommendation: str  # the weights to take, in one sentence with its uncertainty


def result_of(scores: "pd.DataFrame", study: Study) -> StudyResult:
    """Figures and recommendation of a study.

    Args:
        scores: Of the study, as ``table`` gives it; best is what is best after its main
            tuning and alignment.
        study: Decides which cells are one objective.
    """
    from wit.analysis.scores import of_alignment, of_tuning, with_objectives
    from wit.analysis.selection import recommend

    main = with_objectives(of_alignment(of_tuning(scores)), study)
    return StudyResult(figures_of(main) | count_cells(scores), recommend(main).sentence)


def figures_of(scores: "pd.DataFrame") -> dict[str, float]:
    """The best scores of a study, by MLflow's names; what is not known is left out.

    ``best_dpo_score`` is that of the best objective on the select benchmarks, ``best_dpo_gain`` how
    much better it is than instruction tuning (0, 1), each with the ends ``_low`` and ``_high`` of
    its 95 % interval; that of the gain allows for the choice of the best of all. For SFT likewise.

    Args:
        scores: Of one alignment of the study, as ``table`` gives it, with its objectives.
    """
    from wit.analysis.grid import stage_scores
    from wit.analysis.rays import rays_of

    figures: dict[str, float] = {}
    for stage in STAGES:
        rays = rays_of(stage_scores(scores, stage))
        best, usual = rays.best, rays.instruction_tuning
        if best is None:
            continue
        figures |= _with_ends(f"best_{stage}_score", best.score, best.half_width)
        if usual is not None:
            noise = rays.noise_of(usual) or {}  # None: unknown
            gain = rays.lead(best, usual)
            figures |= _with_ends(f"best_{stage}_gain", gain, noise.get(best.ray))
    return figures


def count_cells(scores: "pd.DataFrame") -> dict[str, float]:
    """How many cells there are, by MLflow's names.

    ``cells_finished`` have all scores after every alignment; of ``cells_failed`` some are lacking,
    and some stage failed, was killed or could not begin.

    Args:
        scores: Of the study, as ``table`` gives it, with all its alignments.
    """
    rows: list[dict[str, Any]] = scores.to_dict("records")
    aligned = {row["cell"] for row in rows if row["stage"] == "dpo"}
    lacking = {r["cell"] for r in rows if r["stage"] == "dpo" and r["status"] != "finished"}
    stopped = {r["cell"] for r in rows if r["stage"] != "base" and r["status"] in STOPPED}
    return {
        "cells_planned": len(aligned),
        "cells_finished": len(aligned - lacking),
        "cells_failed": len(stopped & lacking),
    }


def _with_ends(name: str, value: float, half_width: float | None) -> dict[str, float]:
    if half_width is None:
        return {name: value}
    return {name: value, f"{name}_low": value - half_width, f"{name}_high": value + half_width}


def note(store: Store, study: Study, recommendation: str | None) -> str:
    """Markdown that MLflow's UI shows with the study's run; without a sentence while it runs."""
    from wit.analysis.summary import plain

    metric = next(b.name for b in study.benchmarks if b.role == "select")
    said = f"{plain(recommendation)}\n\n" if recommendation else ""
    return (
        f"{said}Charts of {' and '.join(_links(store, study, metric))}. In the list of runs, sort "
        f"by a score to see all. {CELLS} below names the runs and models of every cell."
    )


def _links(store: Store, study: Study, metric: str) -> Iterable[str]:
    """Places in the UI, after the server's address, of charts over the models of each stage.

    Sorted by a metric: else the UI folds runs into that of their study and draws nothing.
    """
    for stage in STAGES:
        query = {
            "searchFilter": f"tags.`wit.study.{study.name}` LIKE '%' AND "
            f"tags.`wit.stage` = '{stage}'",
            "orderByKey": f"metrics.`{metric}`",
            "orderByAsc": "false",
            "compareRunsMode": "CHART",
        }
        place = f"#/experiments/{store.experiment_id}/runs?{UI_MODE}"
        yield f"[{stage.upper()} models]({place}&{urlencode(query, quote_via=quote)})"
