"""What the charts of the report mark is what the numbers say."""

import math
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from reported import GRID, make_table, row, scores

from wit.analysis.chart_parts import parts_chart
from wit.analysis.chart_rays import ray_chart
from wit.analysis.chart_scatter import scatter
from wit.analysis.digits import decimals_of, plus_minus
from wit.analysis.grid import stage_scores, summarise
from wit.analysis.parts import parts_of
from wit.analysis.rays import rays_of
from wit.analysis.report_findings import parts_sentence
from wit.analysis.selection import recommend, within_noise


def traces(figure: dict[str, Any], symbol: str) -> dict[str, Any]:
    """The trace of means with that symbol and fill, by its hover texts."""
    fills = {"circle": "--blue", "ring": "--paper", "diamond": "--best"}
    for trace in figure["data"]:
        marker = trace.get("marker", {})
        if marker.get("color") == fills[symbol] and "error_y" in trace:
            return trace
    return {"x": [], "y": [], "customdata": []}


def chart_of(table: pd.DataFrame, stage: str = "dpo") -> dict[str, Any]:
    rays = rays_of(stage_scores(table, stage))
    usual = rays.instruction_tuning
    widths = {} if usual is None else rays.noise_of(usual) or {}
    return ray_chart(rays, [ray.ray for ray in within_noise(rays)], widths)


def test_every_ray_stands_at_its_angle_with_its_mean() -> None:
    figure = chart_of(scores())
    found = {
        x: y
        for symbol in ("circle", "ring", "diamond")
        for x, y in zip(*(traces(figure, symbol)[key] for key in "xy"), strict=True)
    }
    angles = [math.degrees(math.atan2(p, r)) for p, r in GRID]
    assert sorted(found) == pytest.approx(sorted({round(a, 9) for a in angles}))
    both = scores().query("stage == 'dpo' and weights in ('p0.5-r1', 'p0.2-r0.4')")["score"]
    assert found[math.degrees(math.atan2(0.5, 1))] == pytest.approx(both.mean())


def test_the_best_ray_and_those_within_its_noise_have_marks_of_their_own() -> None:
    table = scores()
    choice = recommend(table)
    figure = chart_of(table)
    [best] = traces(figure, "diamond")["customdata"]
    assert choice.ray is not None
    assert best.startswith(f"<b>{choice.ray.ray}</b>")
    near = [text.split("</b>")[0][3:] for text in traces(figure, "circle")["customdata"]]
    assert near == list(choice.within_noise)
    assert traces(figure, "ring")["x"]  # and some are worse


def test_the_band_is_the_noise_floor_around_instruction_tuning() -> None:
    table = scores()
    rays = rays_of(stage_scores(table, "dpo"))
    assert rays.instruction_tuning is not None
    band, level = chart_of(table)["layout"]["shapes"]
    assert level["y0"] == rays.instruction_tuning.score
    assert band["y1"] - level["y0"] == pytest.approx(rays.noise.deviation)
    assert level["y0"] - band["y0"] == pytest.approx(rays.noise.deviation)


def test_no_noise_is_drawn_where_none_is_known() -> None:
    figure = chart_of(scores(cells=GRID[:3], seeds=(0,), stderr=math.nan))
    assert [shape["type"] for shape in figure["layout"]["shapes"]] == ["line"]
    assert not any(trace.get("fill") for trace in figure["data"])


@pytest.mark.parametrize(("is_less_better", "edge"), [(False, 0), (True, 1)])
def test_what_is_far_worse_lies_on_the_edge_and_takes_no_room(
    is_less_better: bool, edge: int
) -> None:
    rows = [row("dpo", (p / 10, 1), s, 0.5 + p / 100 + s / 500) for p in range(8) for s in (0, 1)]
    far = 0.99 if is_less_better else 0.01
    rows += [row("dpo", (1, 0), s, far) for s in (0, 1)]
    figure = chart_of(pd.DataFrame(rows).assign(higher_is_better=not is_less_better))
    limits = figure["layout"]["yaxis"]["range"]
    assert 0.4 < limits[0] < limits[1] < 0.7
    [runs] = [t for t in figure["data"] if isinstance(t.get("marker", {}).get("symbol"), list)]
    beyond = [y for y, s in zip(runs["y"], runs["marker"]["symbol"], strict=True) if s != "circle"]
    assert beyond == [limits[edge]] * 2


def test_few_cells_are_all_inside_the_chart() -> None:
    """Two of them nearly alike make quartiles so narrow that another one would be far out."""
    found = {0: 0.331, 0.2: 0.314, 0.4: 0.304, 0.5: 0.302, 1: 0.245}
    rows = [row(stage, (p, 1), 0, s) for stage in ("sft", "dpo") for p, s in found.items()]
    [trace] = scatter(summarise(pd.DataFrame(rows)))["data"]
    assert sorted(trace["x"]) == sorted(found.values())


def test_names_below_the_axis_never_touch() -> None:
    steps = [step / 5 for step in range(6)]
    figure = chart_of(scores(cells=[(p, r) for p in steps for r in steps if p or r]))
    places = figure["layout"]["xaxis"]["tickvals"]
    assert all(b - a >= 11 for a, b in pairwise(places))
    names = figure["layout"]["xaxis"]["ticktext"]
    assert (names[0], names[-1]) == ("0 : 1", "1 : 0")


def test_cells_that_score_alike_are_one_point_with_all_their_names() -> None:
    table = make_table()
    tied = {"p0-r1": 0.4, "p0.2-r1": 0.4, "p0.5-r1": 0.4, "p1-r1": 0.9, "p0.2-r0.4": 0.3}
    table["score"] = table["weights"].map(tied).fillna(0.1)
    [trace] = scatter(summarise(table))["data"]
    assert sorted(trace["text"]) == ["p0-r1, p0.2-r1, p0.5-r1", "p0.2-r0.4", "p1-r1"]
    table["score"] = table["score"].replace(0.3, 0.4)
    [trace] = scatter(summarise(table))["data"]
    assert sorted(trace["text"]) == ["4 pairs", "p1-r1"]


def test_the_best_before_dpo_and_after_it_are_marked_apart() -> None:
    table = scores(cells=[(0, 1), (0.2, 1), (1, 1)])
    swapped = table["stage"].eq("sft") & table["weights"].eq("p0-r1")
    table.loc[swapped, "score"] = 0.9
    [trace] = scatter(summarise(table))["data"]
    marks = dict(zip(trace["text"], trace["marker"]["symbol"], strict=True))
    assert marks == {"p1-r1": "diamond", "p0-r1": "square-open", "p0.2-r1": "circle"}


def driven_by_one() -> pd.DataFrame:
    """Benchmark a gains 0.2, b loses 0.05."""
    rows = []
    for stage in ("sft", "dpo"):
        for weights, a, b in (((0, 1), 0.4, 0.5), ((1, 1), 0.6, 0.45)):
            rows += [row(stage, weights, 0, a, benchmark="a")]
            rows += [row(stage, weights, 0, b, benchmark="b")]
    return pd.DataFrame(rows)


def test_which_benchmark_drives_the_gain_is_drawn_and_said() -> None:
    parts = parts_of(driven_by_one(), "dpo")
    assert parts is not None
    figure = parts_chart(parts)
    assert figure is not None
    bars, diamonds = figure["data"]
    assert bars["y"] == diamonds["y"] == ["a", "b"]
    assert bars["x"] == pytest.approx([0.2, -0.05])
    assert diamonds["x"] == pytest.approx([-0.05, 0.2])
    assert figure["layout"]["shapes"][0]["x0"] == pytest.approx(0.075)
    said = "Without a, which matters most, nothing of the gain of p1-r1 is left."
    assert parts_sentence(parts) == said


@pytest.mark.parametrize(
    ("scores", "decimals"),
    [
        ([0.823, 0.5], 3),
        ([1.0, 0.5], 3),
        ([31.925, 27.7], 1),
        ([31.92, 31.95], 3),
        ([7.1, 3.0], 2),
        ([0.0, 0.0], 3),
        ([512.0, 100.0], 0),
        ([math.nan], 3),
        ([], 3),
    ],
)
def test_decimals_are_those_that_a_score_is_worth(scores: list[float], decimals: int) -> None:
    assert decimals_of(scores) == decimals


def test_a_number_has_its_interval_beside_it() -> None:
    assert plus_minus(31.925, 0.404, 1) == "31.9 ± 0.4"
    assert plus_minus(0.5, None, 3) == "0.500"


def test_single_runs_are_as_strong_as_their_colour() -> None:
    """Plotly makes marks of several sizes paler, unless it is told not to."""
    [runs] = [
        trace
        for trace in chart_of(scores())["data"]
        if "--speck" in trace.get("marker", {}).get("color", "")
    ]
    assert (runs["marker"]["opacity"], runs["marker"]["line"]["width"]) == (1, 0)
