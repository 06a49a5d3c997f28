"""A real browser shows the report whole: on a screen, in the dark, on a phone and on paper."""

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from browser import CHROMIUM, DESKTOP, PHONE, BrowserTab, browser
from known_data import summary
from reported import STUDY, make_table, row

from wit.analysis.report import Extras, write_report

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

LOOKS = {
    "light": {"width": DESKTOP},
    "dark": {"width": DESKTOP, "is_dark": True},
    "phone": {"width": PHONE},
}
# Charts that are drawn, with something in them.
DRAWN = """[...document.querySelectorAll('.chart')]
    .filter(chart => chart.querySelector('.hm image, .scatterlayer path, .boxlayer path'))
    .map(chart => chart.dataset.figure)"""
# What a reader is sent to, inside the page.
TARGETS = """[...document.querySelectorAll('[aria-describedby]')]
    .map(element => element.getAttribute('aria-describedby'))
    .concat([...document.querySelectorAll('a[href^="#"]')].map(link => link.hash.slice(1)))"""
LABELS = """[...document.querySelectorAll('.textpoint text')]
    .filter(label => label.style.visibility !== 'hidden')
    .map(label => label.getBoundingClientRect())
    .map(box => [box.left, box.right, box.top, box.bottom])"""
ALL_CHARTS = {"sft", "dpo", "rays-sft", "rays-dpo", "scatter", "parts", "lengths"}


@pytest.fixture(scope="module")
def tab() -> Iterator[BrowserTab]:
    with browser() as shown:
        yield shown


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two benchmarks that select, ties, a failed cell, and all that is said of data."""
    table = make_table()
    other = table[table["benchmark"] == "unseen"].assign(benchmark="other")
    other["score"] = other["score"] ** 2
    tied = [
        row(stage, (0.4, 0.8), 0, 0.4, benchmark=name)
        for stage in ("sft", "dpo")
        for name in ("unseen", "other")
    ]
    more = [
        {**row, "prompt_weight": 0.3, "response_weight": 0.6, "weights": "p0.3-r0.6"}
        for row in tied
    ]
    extras = Extras(tracking_uri="sqlite:////a/mlflow.db", data=summary())
    whole = pd.concat([table, other, pd.DataFrame(tied + more)], ignore_index=True)
    return write_report(whole, STUDY, extras, tmp_path_factory.mktemp("report") / "r.html")


@pytest.mark.parametrize("look", LOOKS)
def test_all_is_drawn_without_a_complaint_or_a_request(
    tab: BrowserTab, page: Path, look: str
) -> None:
    tab.show(page, **LOOKS[look])
    assert set(tab.ask(DRAWN)) == ALL_CHARTS
    assert (tab.complaints, tab.requests) == ([], [])
    assert tab.ask("document.documentElement.scrollWidth") == LOOKS[look]["width"]
    background = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is (look != "dark")


def test_of_labels_that_would_meet_the_first_one_is_shown(tab: BrowserTab, tmp_path: Path) -> None:
    rows = [
        row(stage, (p / 10, 1), 0, 0.5 + p / 1000 * (p == 9 or 0.2))
        for p in range(10)
        for stage in ("sft", "dpo")
    ]
    page = write_report(pd.DataFrame(rows), None, Extras(), tmp_path / "r.html")
    tab.show(page, width=PHONE)
    boxes = tab.ask(LABELS)
    assert not [(a, b) for a in boxes for b in boxes if a < b and _meet(a, b)]
    num_labels = tab.ask("document.querySelectorAll('.textpoint text').length")
    assert 0 < len(boxes) < num_labels


def _meet(one: list[float], other: list[float]) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def test_every_reference_inside_the_page_leads_somewhere(tab: BrowserTab, page: Path) -> None:
    tab.show(page)
    targets = tab.ask(TARGETS)
    assert len(targets) == len(ALL_CHARTS)
    assert tab.ask(f"{targets}.filter(name => !document.getElementById(name))") == []


def test_without_javascript_all_numbers_are_there(tab: BrowserTab, page: Path) -> None:
    tab.show(page, has_scripts=False)
    tables = "[...document.querySelectorAll('#numbers-cells td')].map(cell => cell.textContent)"
    assert "0.486 ± 0.028" in tab.ask(tables)


def test_on_paper_all_is_open_light_and_as_wide_as_the_sheet(tab: BrowserTab, page: Path) -> None:
    tab.show(page, is_dark=True)
    tab.ask("dispatchEvent(new Event('beforeprint'))")
    assert tab.ask("document.querySelectorAll('details:not([open])').length") == 0
    width = tab.ask("document.querySelector('main').clientWidth")
    widest = (
        "Math.max(...[...document.querySelectorAll('table, .chart svg')]"
        ".map(element => element.getBoundingClientRect().width))"
    )
    assert tab.ask(widest) <= width + 1 < 720
    assert tab.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.ask("document.querySelector('.xtick text').style.fill") == "rgb(28, 30, 33)"
    tab.ask("dispatchEvent(new Event('afterprint'))")
    assert tab.ask("document.querySelectorAll('details[open]').length") == 0
    assert tab.ask("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"


def test_what_a_page_asks_for_and_complains_of_is_noticed(tab: BrowserTab, tmp_path: Path) -> None:
    """Else the tests above would find nothing wrong with anything."""
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://127.0.0.1:9/a.png'><script>console.error('no'); x()</script>")
    tab.show(page)
    assert tab.requests == ["http://127.0.0.1:9/a.png"]
    assert any("no" in said for said in tab.complaints)
    assert any("Uncaught" in said for said in tab.complaints)


def test_one_page_after_the_other_is_drawn_whatever_is_missing(
    tab: BrowserTab, tmp_path: Path
) -> None:
    table = make_table()
    for name, part in {
        "failed": table[table["status"] == "failed"],
        "one-cell": table[(table["weights"] == "p0-r1") & (table["seed"] == 0)],
        "no-dpo": table[table["stage"] != "dpo"],
        "tied": table.assign(score=0.5, stderr=math.nan),
    }.items():
        tab.show(write_report(part, None, Extras(), tmp_path / f"{name}.html"))
        charts = "[...document.querySelectorAll('.chart')].map(chart => chart.dataset.figure)"
        assert tab.ask(DRAWN) == tab.ask(charts), name
        assert (tab.complaints, tab.requests) == ([], []), name
