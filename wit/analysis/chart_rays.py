"""Score against the ray, which is the angle of the two weights: what the choice is really over."""

from collections.abc import Collection, Sequence

from wit.analysis.charts import FAR, Figure, axis, worst_of_most
from wit.analysis.digits import decimals_of, number, plus_minus
from wit.analysis.rays import Rays, RayScore

STEP = 14.0  # degrees between rays that have no angle, beyond the last that can have one
MIN_GAP = 11.0  # degrees between two ticks, so that their names do not touch
BESIDE = 1.6  # degrees from the mean to its runs, which it would cover
MARGIN = 5.0  # degrees left and right
MAX_NAME = 16  # letters of a ray's name below the axis
MAX_CELLS = 6  # named in a hover text


def ray_chart(rays: Rays, near: Collection[str], widths: dict[str, float]) -> Figure:
    """Every run, the mean of every ray with its interval, and the noise around the usual ray.

    Args:
        rays: Of one stage.
        near: Names of the rays within the noise of the best.
        widths: By ray, the half-width of its difference from instruction tuning.
    """
    places = _places(rays.rays)
    usual, best = rays.instruction_tuning, rays.best
    floor = _floor(rays)
    low, high = _range(rays, floor, widths)
    less = rays.stage.is_less_better
    shown = [ray for ray in rays.rays if not _is_beyond(ray.score, floor, less)]
    kinds = [
        ("circle-open", "--blue", [r for r in shown if r != best and r.ray not in near]),
        ("circle", "--blue", [r for r in shown if r.ray in near and r != best]),
        ("diamond", "--best", [] if best is None else [best]),
    ]
    decimals = decimals_of([model.score for model in rays.stage.models])
    data = [
        *_halo(rays, usual, widths, places),
        _runs(rays, places, floor, high if less else low),
        *(_means(*kind, places, decimals) for kind in kinds if kind[2]),
    ]
    across = sorted(places.values()) or [0.0]
    ends = [across[0] - MARGIN, across[-1] + MARGIN]
    ticks = _ticks(rays.rays, places, best)
    layout = {
        "xaxis": axis("objective: prompt to response weight")
        | {"range": ends, "tickvals": list(ticks), "ticktext": list(ticks.values())},
        "yaxis": axis("score" + (", less is better" if less else "")) | {"range": [low, high]},
        "margin": {"l": 56, "r": 12, "t": 8, "b": 64},
        "height": 400,
        "showlegend": False,
        "shapes": _noise(rays, usual),
    }
    return {"data": data, "layout": layout}


def _places(rays: Sequence[RayScore]) -> dict[str, float]:
    """Where each ray stands: at its angle, or in a row to the right of all angles."""
    beyond = [ray.ray for ray in rays if ray.degrees is None]
    places = {ray.ray: ray.degrees for ray in rays if ray.degrees is not None}
    at_one_angle: dict[float, int] = {}
    for name, degrees in places.items():
        count = at_one_angle[degrees] = at_one_angle.get(degrees, 0) + 1
        places[name] = degrees + 1.5 * (count - 1)  # one angle, but not one objective
    return places | {name: 90 + STEP * (1 + place) for place, name in enumerate(beyond)}


def _floor(rays: Rays) -> float:
    """The worst score that the chart has room for; a few that are far worse lie on its edge."""
    sign = -1 if rays.stage.is_less_better else 1
    scores = [sign * model.score for model in rays.stage.models]
    return sign * worst_of_most(scores) if scores else 0.0


def _is_beyond(score: float, floor: float, is_less_better: bool) -> bool:
    return score > floor if is_less_better else score < floor


def _range(rays: Rays, floor: float, widths: dict[str, float]) -> tuple[float, float]:
    less = rays.stage.is_less_better
    shown = [m.score for m in rays.stage.models if not _is_beyond(m.score, floor, less)]
    for ray in rays.rays:
        if not _is_beyond(ray.score, floor, less):
            shown += [ray.score - (ray.half_width or 0), ray.score + (ray.half_width or 0)]
    usual = rays.instruction_tuning
    if usual is not None and widths:
        width = min(widths.values())
        shown += [usual.score - width, usual.score + width]
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    space = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - space, high + space


def _halo(
    rays: Rays, usual: RayScore | None, widths: dict[str, float], places: dict[str, float]
) -> list[Figure]:
    """The region in which a mean cannot be told from instruction tuning."""
    if usual is None or not widths:
        return []
    known = sorted((places[ray.ray], widths[ray.ray]) for ray in rays.rays if ray.ray in widths)
    # Drawn to both edges: a band that begins at the first ray would look like a result.
    left, right = min(places.values()) - MARGIN, max(places.values()) + MARGIN
    known = [(left, known[0][1]), *known, (right, known[-1][1])]
    upper = [(x, usual.score + width) for x, width in known]
    lower = [(x, usual.score - width) for x, width in reversed(known)]
    x, y = zip(*upper, *lower, strict=True)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": list(x),
            "y": list(y),
            "fill": "toself",
            "fillcolor": "--halo",
            "line": {"width": 0},
            "hoverinfo": "skip",
        }
    ]


def _noise(rays: Rays, usual: RayScore | None) -> list[Figure]:
    """Instruction tuning's mean as a line, and one standard deviation of a run around it."""
    if usual is None:
        return []
    whole = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "layer": "below"}
    line = {"color": "--soft", "width": 1, "dash": "dot"}
    level = {**whole, "type": "line", "y0": usual.score, "y1": usual.score, "line": line}
    if not rays.noise.deviation:
        return [level]
    ends = {"y0": usual.score - rays.noise.deviation, "y1": usual.score + rays.noise.deviation}
    return [{**whole, **ends, "fillcolor": "--band", "line": {"width": 0}}, level]


def _runs(rays: Rays, places: dict[str, float], floor: float, edge: float) -> Figure:
    """Every run, paler than the means; what is far worse is a triangle on the edge."""
    less = rays.stage.is_less_better
    # A lone run is the mean itself, unless that allows for a seed which others had.
    lone = {(ray.ray, ray.score) for ray in rays.rays if ray.num_runs == 1}
    models = [
        model
        for model in rays.stage.models
        if (model.ray, model.score) not in lone or _is_beyond(model.score, floor, less)
    ]
    beyond = [_is_beyond(model.score, floor, less) for model in models]
    outward = FAR[1 if less else -1]
    decimals = decimals_of([model.score for model in models])
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [places[model.ray] + BESIDE for model in models],
        "y": [edge if out else m.score for m, out in zip(models, beyond, strict=True)],
        "customdata": [
            f"<b>{m.weights}</b>, seed {m.seed}<br>{number(m.score, decimals + 1)}" for m in models
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {
            "size": [10 if out else 7 for out in beyond],
            "symbol": [outward if out else "circle" for out in beyond],
            "color": ["--blue" if out else "--speck" for out in beyond],
            # Plotly would make marks of several sizes paler, and ring them in white.
            "opacity": 1,
            "line": {"width": 0},
        },
        "cliponaxis": False,
    }


def _means(
    symbol: str,
    colour: str,
    rays: Sequence[RayScore],
    places: dict[str, float],
    decimals: int,
) -> Figure:
    """Means of rays with their intervals."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [places[ray.ray] for ray in rays],
        "y": [ray.score for ray in rays],
        "error_y": {
            "type": "data",
            "array": [ray.half_width for ray in rays],
            "visible": any(ray.half_width is not None for ray in rays),
            "thickness": 1.5,
            "width": 3,
            "color": colour,
        },
        "customdata": [_hover_text(ray, decimals) for ray in rays],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {
            "size": 13 if symbol == "diamond" else 8,
            "symbol": symbol.removesuffix("-open"),
            # Filled with paper: else the interval would be seen inside the ring.
            "color": "--paper" if symbol.endswith("-open") else colour,
            "line": {"width": 2, "color": colour},
        },
    }


def _hover_text(ray: RayScore, decimals: int) -> str:
    runs = "1 run" if ray.num_runs == 1 else f"{ray.num_runs} runs"
    more = f" and {len(ray.weights) - MAX_CELLS} more" if len(ray.weights) > MAX_CELLS else ""
    cells = ", ".join(ray.weights[:MAX_CELLS]) + more
    score = plus_minus(ray.score, ray.half_width, decimals)
    return f"<b>{ray.ray}</b><br>{score}<br>{runs}: {cells}"


def _ticks(
    rays: Sequence[RayScore], places: dict[str, float], best: RayScore | None
) -> dict[float, str]:
    """Names below the axis: both ends first, then the best, then simple ratios."""
    ends = {min(places.values(), default=0.0), max(places.values(), default=0.0)}
    ordered = sorted(
        rays, key=lambda ray: (places[ray.ray] not in ends, ray != best, len(ray.ray), ray.ray)
    )
    chosen: dict[float, str] = {}
    for ray in ordered:
        place = places[ray.ray]
        if all(abs(place - other) >= MIN_GAP for other in chosen):
            is_long = len(ray.ray) > MAX_NAME
            chosen[place] = ray.ray[: MAX_NAME - 1] + "…" if is_long else ray.ray
    return dict(sorted(chosen.items()))
