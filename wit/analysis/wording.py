"""Results as sentences: what a person reads first, with its uncertainty in the same breath."""

from collections.abc import Sequence

from wit.analysis.digits import decimals_of, number, plus_minus
from wit.analysis.grid import CellScore, StageScores
from wit.analysis.rays import Rays, RayScore
from wit.analysis.scores import INSTRUCTION_TUNING

MAX_NAMED = 6  # objectives in one sentence
WHEN = {"sft": "Before DPO", "dpo": "After DPO"}
USUAL = "instruction tuning (0 : 1)"
NOTHING_YET = "Nothing can be recommended yet: no cell has its select scores after DPO."
NO_DPO = (
    "Nothing can be recommended yet: there are no scores after DPO, so how weights fare through it "
    "is unknown."
)
UNKNOWN = (
    "Too few runs that could differ by noise alone, and no standard errors: whether that is more "
    "than noise is unknown."
)


def left_out(num_excluded: int) -> str:
    """What is said beside a recommendation where models of the study have no score."""
    models = "1 model has" if num_excluded == 1 else f"{num_excluded} models have"
    return f"{models} no complete select scores after DPO, and no part in this"


def seeds_in_words(learned: int, kept: int | None) -> str:
    """How many seeds what was learned and what was kept are means of; None: nothing of it is."""
    counts = [f"{number} seed{'s' * (number != 1)}" for number in (learned, kept or learned)]
    return counts[0] if kept in (learned, None) else f"learned: {counts[0]}, kept: {counts[1]}"


def in_words(cell: CellScore) -> str:
    """The pair of weights as a person calls it."""
    if cell.weights == INSTRUCTION_TUNING:
        return "instruction tuning (0, 1)"
    return cell.weights


def ray_in_words(ray: RayScore, best: CellScore) -> str:
    """The objective, and which cells are it."""
    num_cells = len(ray.weights)
    if INSTRUCTION_TUNING in ray.weights:
        return USUAL if num_cells == 1 else f"{USUAL}, which {num_cells} pairs of weights are,"
    if ray.degrees is None:
        return f"the objective {ray.ray}"
    cells = (
        f"weights {best.weights}"
        if num_cells == 1
        else f"{num_cells} pairs of weights, such as {best.weights}"
    )
    return f"the objective {ray.ray} of prompt to response weight ({cells})"


def sentence(rays: Rays, best: CellScore | None, width: float | None, near: list[RayScore]) -> str:
    """What is recommended, and how sure that is.

    Args:
        rays: Of one stage.
        best: The best cell of the best ray; None: nothing was measured.
        width: Half-width of the interval of its lead over instruction tuning; None: unknown.
        near: Rays within the noise of the best.
    """
    is_known = rays.is_noise_known
    ray, usual, stage = rays.best, rays.instruction_tuning, rays.stage
    if best is None or ray is None:
        return NOTHING_YET
    tied = [other for other in rays.rays if other != ray and other.score == ray.score]
    lead = _lead(rays, ray, best, tied)
    if len(rays.rays) == 1:
        return (
            f"{lead}. It is the only objective with scores, so there is nothing to compare it with."
        )
    if len(tied) == len(rays.rays) - 1:
        return f"{lead}. All {len(rays.rays)} score the same, so no difference can be told."
    if usual is None:
        return f"{lead}. I{USUAL[1:]} has no score to compare it with."
    hedge = _hedge(stage)
    if usual == ray:
        if not is_known:
            return f"{lead}. {UNKNOWN}"
        if near:
            worse = [other for other in rays.rays if other != ray and other not in near]
            rest = f" Worse beyond the noise: {_names(worse)}." if worse else ""
            return (
                f"{lead}. Within the noise of it, so that no difference can be told: "
                f"{_names(near)}.{rest}{hedge}"
            )
        return (
            f"{lead}. Putting loss on the prompt does not help here: all else scores worse.{hedge}"
        )
    decimals = _decimals(rays)
    side = "below" if stage.is_less_better else "above"
    subject = f"the {stage.measure} is " if stage.is_mixed else ""
    gap = f"{lead}, {subject}{number(rays.lead(ray, usual), decimals)} {side} {USUAL}"
    if width is None:
        return f"{gap}. {UNKNOWN}"
    if rays.lead(ray, usual) > width:
        return f"{gap}. That is more than the noise of ± {width:.{decimals}f}: it is better.{hedge}"
    return f"{gap}. The noise is ± {width:.{decimals}f}, so no difference can be told.{hedge}"


def _lead(rays: Rays, ray: RayScore, best: CellScore, tied: Sequence[RayScore]) -> str:
    stage = rays.stage
    count = len(rays.rays)
    also = f" (as do {_names(tied)})" if tied and len(tied) < count - 1 else ""
    return (
        f"{WHEN[stage.stage]}, {ray_in_words(ray, best)} scores best of {count} "
        f"objective{'s' * (count != 1)}{also}: {_scores_in_words(rays, ray, best)}"
    )


def _hedge(stage: StageScores) -> str:
    """What a single seed leaves open."""
    if len({model.seed for model in stage.models}) > 1:
        return ""
    return " There is one seed: how much seeds vary is not in that."


def _names(rays: Sequence[RayScore]) -> str:
    """Not more than one can read."""
    names = [ray.ray for ray in rays]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _decimals(rays: Rays) -> int:
    return decimals_of(ray.score for ray in rays.rays)


def _scores_in_words(rays: Rays, ray: RayScore, best: CellScore) -> str:
    """A score with its interval and number of runs; each of them, where no mean has a meaning."""
    if ray.num_runs == best.num_seeds:
        runs = "one seed" if best.num_seeds == 1 else f"mean of {best.num_seeds} seeds"
    else:
        runs = f"mean of {ray.num_runs} runs"
    if rays.stage.is_mixed:
        scores = ", ".join(
            f"{name} {number(best.values[name], 3)}" for name in rays.stage.benchmarks
        )
        return f"{scores} ({runs})"
    return f"{plus_minus(ray.score, ray.half_width, _decimals(rays))} ({runs})"
