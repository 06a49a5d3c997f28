"""The page of several studies shows their numbers, can be read, and needs no other file."""

import json
import math
import re

import pandas as pd
import pytest
from browser import CHROMIUM, DESKTOP, PHONE, browser
from several_studies import CELLS, studies

from wit.analysis.analyse import analyse
from wit.analysis.studies_charts import COLOURS
from wit.analysis.studies_findings import answer, number, unbroken
from wit.analysis.studies_gains import angles
from wit.analysis.studies_maps import small_map
from wit.analysis.studies_page import write_studies_page


def written(table, folder):
    return write_studies_page(analyse(table), "scores.csv", folder / "page.html")


def rows_of_chart(page, name):
    text = page.read_text(encoding="utf-8")
    place = text.index(f'data-figure="{name}"')
    return text[place : text.index("</table>", place)]


def test_the_table_below_a_chart_has_its_numbers(tmp_path):
    page = written(studies(3), tmp_path)
    text = page.read_text(encoding="utf-8")
    figures = re.findall(r'<script type="application/json" id="figure-(\w+)">(.+?)</script>', text)
    assert len(figures) >= 6
    for name, content in figures:
        table = rows_of_chart(page, name)
        for trace in json.loads(content)["data"]:
            values = trace["y" if name == "angles" else "x"]
            assert values
            for value in values:
                assert f"{value:.2f}" in table


def test_one_study_is_its_recommendation(tmp_path):
    table = studies(1, {"1 : 2": 8.0})
    found = analyse(table)
    assert answer(found) == found.studies["model 0/data"].recommendation.sentence
    text = written(table, tmp_path).read_text(encoding="utf-8")
    assert "How much of the gain is the choice" not in text
    assert '<details class="study" open>' in text


def without_usual():
    return studies(3, cells=[cell for cell in CELLS if cell[0]])


def with_gaps():
    table = studies(3).reset_index(drop=True)
    table.loc[::5, "score"] = math.nan
    return table


def ties():
    return studies(3).assign(score=1.0)


POOR = {
    "two studies": lambda: studies(2),
    "SFT only": lambda: studies(3, stages=("sft",)),
    "DPO only": lambda: studies(3, stages=("dpo",)),
    "no (0, 1)": without_usual,
    "one cell": lambda: studies(2, cells=[(0, 1)]),
    "gaps": with_gaps,
    "ties": ties,
    "zeros": lambda: studies(3).assign(score=0.0),
    "several seeds": lambda: studies(2, seeds=3),
    "other cells": lambda: pd.concat([studies(1), studies(1, cells=CELLS[4:6]).assign(study="b")]),
}


@pytest.mark.parametrize("table", POOR.values(), ids=POOR)
def test_a_poor_table_still_makes_a_page(table, tmp_path):
    text = written(table(), tmp_path).read_text(encoding="utf-8")
    body = text[text.index("<main>") : text.index("</main>")]
    assert not re.search(r"\b(nan|inf|None|Undefined)\b", body)


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_left_out_is_said_once_in_a_sentence(count, tmp_path):
    table = studies(count).reset_index(drop=True)
    table.loc[[3, 12], "score"] = math.nan  # one model of each stage of the first study
    text = written(table, tmp_path).read_text(encoding="utf-8")
    head = text[text.index('aria-label="Result"') : text.index("</section>")]
    assert head.count("left out") == 1
    assert "2 models without complete scores are left out." in head
    paragraphs = re.findall(r"<p>(.+?)</p>", head)
    assert all(not words[0].islower() and words.endswith(".") for words in paragraphs)


def test_studies_with_different_weights_say_how_many_all_have(tmp_path):
    table = pd.concat([studies(2), studies(1, cells=CELLS[:6]).assign(study="smaller")])
    text = written(table, tmp_path).read_text(encoding="utf-8")
    assert "6 of 9 cells and 3 of 5 rays before DPO" in text
    whole = written(studies(2), tmp_path).read_text(encoding="utf-8")
    assert "different weights" not in whole


def test_names_of_studies_are_no_markup(tmp_path):
    name = "<img src=x onerror=alert(1)>/data"
    table = pd.concat([studies(2), studies(1).assign(study=name)])
    text = written(table, tmp_path).read_text(encoding="utf-8")
    assert "<img" not in text.partition("Plotly")[0].replace("&lt;img", "")
    assert "\\u003cimg" not in text  # a tick is markup to plotly: there it is escaped, too


def test_small_maps_go_from_dark_to_bright():
    grid = analyse(studies(1)).studies["model 0/data"].grid
    found = small_map(grid.sft, grid)
    score = {cell.weights: cell.score for cell in grid.sft.cells}
    ordered = sorted(found.cells, key=lambda cell: score[cell.text.partition(":")[0]])
    greens = [int(cell.colour[3:5], 16) for cell in ordered]
    assert greens == sorted(greens)
    assert [cell.is_best for cell in ordered] == [False] * (len(CELLS) - 1) + [True]


def test_minus_is_a_minus():
    assert number(-1.239) == "\N{MINUS SIGN}1.24"
    assert number(1.239, 1, is_signed=True) == "+1.2"
    assert number(-0.001) == "0.00"


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_a_browser_shows_the_page(tmp_path):
    page = written(studies(4, {"1 : 0": -20.0}), tmp_path)
    with browser() as tab:
        for width, is_dark in ((DESKTOP, False), (DESKTOP, True), (PHONE, False)):
            tab.show(page, width=width, is_dark=is_dark)
            assert tab.complaints == []
            assert tab.requests == []
            assert tab.ask("document.documentElement.scrollWidth") == width
            charts = tab.ask("document.querySelectorAll('.chart').length")
            assert charts >= 6
            drawn = (
                "[...document.querySelectorAll('.chart')].filter(c => c.querySelector('.point'))"
            )
            assert tab.ask(f"{drawn}.length") == charts
            hidden = tab.ask("[...document.querySelectorAll('details')].filter(d => d.open).length")
            assert hidden == 0
        tab.print_to(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 20_000


def test_colours_are_seen_on_both_papers():
    """Contrast of 3 : 1 at least, as WCAG 2.1 asks of graphics."""

    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    for colour in COLOURS:
        assert light("#ffffff") / light(colour) >= 3
        assert light(colour) / light("#15181c") >= 3


def test_rays_of_one_study_have_its_own_intervals(tmp_path):
    found = analyse(studies(1))
    chart = angles(found).chart
    usual = next(ray for ray in found.studies["model 0/data"].dpo.rays if ray.degrees == 0)
    for line in chart.lines:
        point = line.points[1]
        if line.name == usual.ray:
            assert (point.value, point.low) == (0, None)
        else:
            width = found.studies["model 0/data"].dpo.from_usual[line.name]
            assert (point.high - point.low) / 2 == pytest.approx(100 * width / usual.score)


def test_pairs_intervals_and_units_are_not_broken():
    text = "over (0, 1) by +1.2 % [+0.1, +2.3], in all (see there)"
    spaces = [match.start() for match in re.finditer("\N{NO-BREAK SPACE}", unbroken(text))]
    assert [text[:at].rpartition(" ")[2] for at in spaces] == ["(0,", "+1.2", "[+0.1,"]
