"""Which weights are one objective, and why; or why not, although they lie on one ray."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from wit.places import Places
from wit.recipes import InstructionsRecipe, SFTKnobs
from wit.settings import Settings
from wit.weights import TokenWeights, up_to_a_factor

if TYPE_CHECKING:
    from wit.config import Study

# Weights that are c times as large are an epsilon of AdamW that is c times as small. On the
# embedded base (40 steps, epsilon 1e-8, all weights 1), an epsilon of 1e-7 changes the update of
# the model by 0.4 %, of 1e-6 by 3 %, of 1e-5 by 12 %.
MAX_EPSILON = 1e-6
APART = "of one ratio, but not one objective"


class Objective(Settings):
    """Weights that lead to one model: what is measured to differ between them is noise."""

    weights: tuple[str, ...]  # names of pairs of weights
    reason: str  # why they are one, or why not with others of their ray; "": alone on its ray


class _Point(NamedTuple):
    """A pair of weights as the loss sees it."""

    name: str
    table: tuple[float, ...]  # weight of every role in every source

    @property
    def scale(self) -> float:
        return max(self.table) or 1.0

    @property
    def ray(self) -> tuple[float, ...]:
        return up_to_a_factor(self.table)


def objectives(study: "Study", tuning: str | None = None) -> list[Objective]:
    """The distinct objectives of a study, in the order of its weights.

    Points whose weights differ by a common factor lie on one ray. Whether that factor matters is
    up to the normaliser of the loss, to clipping and to AdamW's epsilon.

    Args:
        study: Whose.
        tuning: By its name; unset: the main one of the study.
    """
    ways = study.tuned_by
    knobs = ways[tuning] if tuning in ways else next(iter(ways.values()))
    return objectives_among(study.weights, knobs, study.instructions)


def objectives_among(
    weights: Sequence[TokenWeights], knobs: SFTKnobs, rows: InstructionsRecipe
) -> list[Objective]:
    """The distinct objectives among pairs of weights, in their order; see ``objectives``."""
    points = [_point(one, rows) for one in weights]
    by_ray: dict[tuple[float, ...], list[_Point]] = {}
    for point in points:
        by_ray.setdefault(point.ray, []).append(point)
    found = [objective for ray in by_ray.values() for objective in _on_one_ray(ray, knobs)]
    places = {point.name: place for place, point in enumerate(points)}
    return sorted(found, key=lambda objective: places[objective.weights[0]])


def replicates(study: "Study") -> dict[str, str]:
    """Weights that are not trained, each with those of its objective that are; by name."""
    if study.dedupe == "none":
        return {}
    found = (one.weights for one in objectives(study))
    return {other: first for first, *others in found for other in others}


def trained(study: "Study") -> list[TokenWeights]:
    """The weights of a study but for its replicates."""
    others = replicates(study)
    return [weights for weights in study.weights if str(weights) not in others]


def check_rays(study: Mapping[str, Any], places: Places) -> None:
    """Passes if one training can stand for all weights of a ray.

    Args:
        study: Its checked fields; one that is wrong itself is not there, and nothing is said.
        places: By which key a tuning is set.

    Raises:
        ValueError: The recipe sees the scale of the weights; with the knob and the remedy.
    """
    if not {"weights", "sft", "tunings", "instructions"} <= study.keys():
        return
    for name, knobs in study["tunings"].items() or [("", study["sft"])]:
        key = places.as_written(("tunings", name)) if name else ("sft",)
        _check_rays(study, knobs, ".".join(map(str, key)))


def _check_rays(study: Mapping[str, Any], knobs: SFTKnobs, key: str) -> None:
    if knobs.max_grad_norm > 0 and knobs.normaliser != "weight_sum":
        raise ValueError(
            f"{_why_scale_counts(knobs)}; set {key}.max_grad_norm=0, "
            f"{key}.normaliser=weight_sum, or 'dedupe: none'"
        )
    found = objectives_among(study["weights"], knobs, study["instructions"])
    apart = [name for one in found if one.reason.startswith(APART) for name in one.weights]
    if apart:
        raise ValueError(
            f"{_why_scale_counts(knobs)}, of {', '.join(apart)}; leave them out, lower "
            f"{key}.adam_epsilon, or set 'dedupe: none'"
        )


def sentences(found: list[Objective]) -> list[str]:
    """What is to be said of a study's objectives: every reason once, and whom it is about."""
    by_reason: dict[str, list[str]] = {}
    for objective in found:
        by_reason.setdefault(objective.reason, []).append(" = ".join(objective.weights))
    num_points = sum(len(objective.weights) for objective in found)
    count = f"{num_points} pairs of weights are {len(found)} objectives"
    reasons = [f"{reason}: {', '.join(names)}" for reason, names in by_reason.items() if reason]
    return [count, *reasons] if num_points > len(found) else reasons


def _point(weights: TokenWeights, rows: InstructionsRecipe) -> _Point:
    # Of the tables that rows are weighted with: where every source has its own, the general one
    # is none of them.
    tables = (weights.table(source) for source in rows.by_source())
    return _Point(str(weights), tuple(weight for table in tables for weight in table.values()))


def _on_one_ray(points: list[_Point], knobs: SFTKnobs) -> list[Objective]:
    """The objectives among points of one ray: one, but for those whose scale counts."""
    by_scale: dict[float | None, list[_Point]] = {}
    for point in points:
        scale = round(point.scale, 9) if _scale_counts(point, knobs) else None
        by_scale.setdefault(scale, []).append(point)
    return [
        Objective(
            weights=tuple(point.name for point in same),
            reason=_why_one(same, knobs) if len(same) > 1 else _why_not(knobs, len(by_scale)),
        )
        for same in by_scale.values()
    ]


def _scale_counts(point: _Point, knobs: SFTKnobs) -> bool:
    if knobs.normaliser == "weight_sum":  # the loss itself does not change with the scale
        return False
    is_small = knobs.adam_epsilon / point.scale > MAX_EPSILON
    return knobs.max_grad_norm > 0 or is_small


def _why_one(points: list[_Point], knobs: SFTKnobs) -> str:
    if len({point.table for point in points}) == 1:
        return "one objective, since every role has the same weight in them"
    if knobs.normaliser == "weight_sum":
        return "one objective, since a loss divided by the sum of the weights has no scale"
    # Along a ray zeros stay at the same roles, so the divisor counts the same tokens.
    return (
        "one objective, since AdamW without clipping sees ratios of weights and not their scale "
        f"(but for adam_epsilon = {knobs.adam_epsilon:g})"
    )


def _why_not(knobs: SFTKnobs, num_on_ray: int) -> str:
    return "" if num_on_ray == 1 else f"{APART}, since {_why_scale_counts(knobs)}"


def _why_scale_counts(knobs: SFTKnobs) -> str:
    if knobs.max_grad_norm > 0:
        return (
            f"max_grad_norm = {knobs.max_grad_norm:g} clips at an absolute norm of the gradient, "
            "so the scale of the weights counts; with 0 it would not"
        )
    return (
        "with weights so small gradients are no longer large beside "
        f"adam_epsilon = {knobs.adam_epsilon:g}, so their scale counts"
    )
