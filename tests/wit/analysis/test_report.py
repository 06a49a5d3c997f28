"""The report is one offline file whose numbers are those of the table."""

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from pages import Page
from reported import STUDY, failed, make_table, row

from wit.analysis import charts
from wit.analysis.grid import summarise
from wit.analysis.report import Extras, write_report
from wit.analysis.report_tables import problems, runs_of
from wit.errors import InputError


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    out = tmp_path_factory.mktemp("report") / "new" / "report.html"
    extras = Extras(tracking_uri="sqlite:////a b/mlflow.db", versions={"torch": "2.13.0"})
    assert write_report(make_table(), STUDY, extras, out) == out
    assert [file.name for file in out.parent.iterdir()] == ["report.html"]  # nothing left aside
    return Page(out)


def test_nothing_is_loaded_from_anywhere(page):
    assert page.loaded == ["data:,"]  # an empty icon, lest the browser asks for one
    assert page.links == []
    assert not re.search(r"url\(|@import", page.styles)


def test_plotly_is_there_exactly_once(page):
    bundle = (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
    assert [len(text) > 1_000_000 for _, text in page.scripts].count(True) == 1
    assert sum(text.strip() == bundle.strip() for _, text in page.scripts) == 1


def test_it_begins_with_the_recommendation(page):
    assert page.text.index("After DPO, the objective 1 : 5 of prompt to response weight") < 300


def test_both_heat_maps_share_one_scale_and_show_the_scores(page):
    figures = {a["id"]: json.loads(t) for a, t in page.scripts if a.get("type")}
    before, after = (figures[f"figure-{stage}"]["data"][0] for stage in ("sft", "dpo"))
    assert (before["zmin"], before["zmax"]) == (after["zmin"], after["zmax"])
    assert (after["x"], after["y"]) == (["0", "0.2", "0.5", "1"], ["0.4", "1"])
    assert after["z"][0] == [None, pytest.approx(0.535), None, None]
    # The last one lacks seed 1, which adds 0.01 to all others.
    assert after["z"][1] == pytest.approx([0.595, 0.625, 0.595, 0.565])
    labels = [a["text"] for a in figures["figure-dpo"]["layout"]["annotations"]]
    assert sum("2 seeds" in label for label in labels) == 4
    assert sum("1 seed" in label and "seeds" not in label for label in labels) == 1


def test_what_failed_is_named_with_its_reason_and_cannot_break_the_page(page):
    assert "loss <is> not finite </script>" in page.text
    assert len(page.scripts) == 7  # five figures, plotly, ours


def test_a_name_from_a_file_of_scores_cannot_break_the_figures(tmp_path):
    hostile = make_table().replace({"weights": {"p0.2-r0.4": "</script><b>"}})
    page = Page(write_report(hostile, None, Extras(), tmp_path / "r.html"))
    figures = [json.loads(text) for attributes, text in page.scripts if attributes.get("type")]
    assert any("</script><b>" in figure["data"][0].get("text", []) for figure in figures)


def test_the_way_to_mlflow_is_given(page):
    assert "mlflow server --backend-store-uri 'sqlite:////a b/mlflow.db'" in page.text


def test_runs_on_a_server_are_links(tmp_path):
    table = make_table().assign(run_url="http://127.0.0.1:5000/#/experiments/1/runs/2")
    out = write_report(
        table, STUDY, Extras(tracking_uri="http://127.0.0.1:5000"), tmp_path / "r.html"
    )
    assert set(Page(out).links) == {"http://127.0.0.1:5000/#/experiments/1/runs/2"}


def test_models_are_counted_and_not_their_evaluations() -> None:
    """The base has no run of its own: each of its evaluations has one."""
    table = make_table()
    again = table.assign(benchmark="other")
    base = again["stage"] == "base"
    again.loc[base, "run_id"] = "another evaluation"
    found = runs_of(pd.concat([table, again]))
    assert len(found) == len(table[table["benchmark"] != "nll_prompt"])
    first, *others = found
    assert (first.cell, first.stage, len(first.runs)) == ("base", "base", 2)
    assert {len(model.runs) for model in others} == {1}


def test_scores_that_did_not_come_from_here_make_a_report_too(tmp_path):
    columns = ["stage", "prompt_weight", "response_weight", "seed", "benchmark", "score"]
    table = make_table()[columns].dropna(subset="benchmark")
    page = Page(write_report(table, None, Extras(), tmp_path / "r.html"))
    assert "After DPO, the objective 1 : 5" in page.text


def test_a_study_without_any_score_makes_a_report_that_says_so(tmp_path):
    table = pd.DataFrame([failed("sft", (0, 1), "no space left on the device")])
    page = Page(write_report(table, STUDY, Extras(), tmp_path / "r.html"))
    assert "Nothing can be recommended yet" in page.text
    assert "no space left on the device" in page.text


def test_problems_name_failed_models_and_scores_that_are_no_number():
    table = make_table()
    table.loc[0, "score"] = math.nan
    found = problems(table)
    assert [(p.cell, p.stage, p.status) for p in found] == [
        ("base", "base", "not a number"),
        ("p1-r1-s1", "sft", "failed"),
        ("p1-r1-s1", "dpo", "failed"),
    ]


def test_a_few_scores_far_below_do_not_take_the_colours_of_the_others():
    rows = [row("dpo", (p / 10, 1), 0, 0.5 + p / 100) for p in range(10)]
    grid = summarise(pd.DataFrame([*rows, row("dpo", (1, 0.4), 0, 0.01)]))
    scale = charts.colour_range(grid)
    assert (scale.worst, scale.is_clipped) == (0.5, True)
    without = charts.colour_range(summarise(pd.DataFrame(rows)))
    assert (without.worst, without.is_clipped) == (0.5, False)


def test_a_page_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another file"):
        write_report(make_table(), STUDY, Extras(), tmp_path / "file" / "r.html")


def test_writers_of_one_page_do_not_disturb_each_other(tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write_report, make_table(), STUDY, Extras(), out) for _ in range(24)]
    assert {write.result() for write in writes} == {out}
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_text(encoding="utf-8").endswith("</html>")


def test_a_page_that_fails_leaves_nothing_aside(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_report(make_table(), STUDY, Extras(), tmp_path / "folder.html")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_the_cell_named_best_before_dpo_is_the_one_whose_cost_is_told(tmp_path: Path) -> None:
    """(0.2, 0.4) = (0.5, 1) before DPO; the best of all, (1, 1), was never aligned."""
    before = {(0.5, 1): 0.6, (0.2, 0.4): 0.6, (0, 1): 0.5, (1, 1): 0.9}
    after = {(0.5, 1): 0.7, (0.2, 0.4): 0.4, (0, 1): 0.5}
    rows = [row("sft", weights, 0, score) for weights, score in before.items()]
    rows += [row("dpo", weights, 0, score) for weights, score in after.items()]
    page = Page(write_report(pd.DataFrame(rows), None, Extras(), tmp_path / "r.html"))
    assert (
        "Of the pairs of weights with both scores, before DPO p0.2-r0.4 is best, after it p0.5-r1: "
        "choosing by the SFT score would cost 0.300 ± 7.636, which is within the noise."
        in page.text
    )


def test_where_less_is_better_maps_show_plain_scores_and_the_lowest_has_the_best_colour(tmp_path):
    table = make_table().assign(higher_is_better=False)
    table.score = 12 + table.score
    out = write_report(table, None, Extras(), tmp_path / "r.html")
    page = Page(out)
    [maps, *_] = (json.loads(text) for a, text in page.scripts if a.get("id") == "figure-dpo")
    [heat] = maps["data"]
    assert heat["reversescale"] is True
    assert all(12 < z <= heat["zmax"] for row in heat["z"] for z in row if z is not None)
    assert "unseen, less is better" in page.text
    assert "-12." not in page.text
