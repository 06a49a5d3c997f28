"""The page of several studies shows their numbers, can be read, and needs no other file."""

import json
import math
import re

import pandas as pd
import pytest
from browser import CHROMIUM, DESKTOP, PHONE, browser
from several_studies import CELLS, studies

from wit.analysis.analyse import analyse
from wit.analysis.digits import number
from wit.analysis.studies_charts import COLOURS
from wit.analysis.studies_gains import angles
from wit.analysis.studies_maps import small_map
from wit.analysis.studies_page import write_studies_page
from wit.analysis.studies_words import answer, unbroken


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
                assert number(value) in table


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
    assert "6 of 9 cells and 3 of 5 objectives before DPO" in text
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


def test_every_minus_on_the_page_is_one(tmp_path):
    table = studies(6, {"1 : 0": -60.0})  # scores below 0 as well
    text = written(table, tmp_path).read_text(encoding="utf-8")
    body = text[text.index("</header>") : text.index("</main>")]
    shown = re.sub(r"<style>.*?</style>|<[^>]*>", " ", body, flags=re.DOTALL)
    assert shown.count("\N{MINUS SIGN}") > 20
    assert re.findall(r"[^\w.]-[\d.]+", shown) == []


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


PAPERS = {"light": (255, 255, 255), "dark": (21, 24, 28)}


def contrast(one, other):
    """As WCAG 2.1 defines it; 3 : 1 is what it asks of graphics."""
    weights = (0.2126, 0.7152, 0.0722)
    parts = [[c / 255 for c in colour] for colour in (one, other)]
    linear = [
        [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in c] for c in parts
    ]
    low, high = sorted(sum(w * p for w, p in zip(weights, c, strict=True)) + 0.05 for c in linear)
    return high / low


def test_colours_are_seen_on_both_papers():
    for colour in COLOURS:
        for paper in PAPERS.values():
            assert contrast(bytes.fromhex(colour[1:]), paper) >= 3


def test_single_runs_are_seen_on_both_papers(tmp_path):
    text = written(studies(1), tmp_path).read_text(encoding="utf-8")
    found = re.findall(r"--paper: #(\w+);.*?--speck: rgba\((\d+), (\d+), (\d+), ([\d.]+)\)", text)
    assert {bytes.fromhex(paper) for paper, *_ in found} == set(map(bytes, PAPERS.values()))
    for paper, *colour, opacity in found:
        share = float(opacity)
        seen = [
            share * int(c) + (1 - share) * p
            for c, p in zip(colour, bytes.fromhex(paper), strict=True)
        ]
        assert contrast(seen, bytes.fromhex(paper)) >= 3


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
    text = "over (0, 1) by +1.2 % [+0.1, +2.3], in all (see there): 12 : 5 is 0.6 ± 0.1"
    spaces = [match.start() for match in re.finditer("\N{NO-BREAK SPACE}", unbroken(text))]
    assert [text[:at].rpartition(" ")[2] for at in spaces] == [
        "(0,",
        "+1.2",
        "[+0.1,",
        "12",
        ":",
        "0.6",
        "±",
    ]
