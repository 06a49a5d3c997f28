"""What the report says of the data is what the cards and the overlap say."""

import json
import math
from pathlib import Path

import pytest
from known_data import INSTRUCTIONS, overlap, summary
from pages import Page, SpacedPage
from reported import STUDY, make_table
from samples import ROOT

from wit.analysis.data_section import COLOURS, data_section
from wit.analysis.data_summary import DATA, DataSummary
from wit.analysis.report import Extras, write_report
from wit.config import Runtime
from wit.data.card import write_card
from wit.data.overlap import OVERLAP
from wit.loading import load_study
from wit.plan import Plan, make_plan
from wit.roles import Role


def page_of(folder: Path, data: DataSummary | None) -> Page:
    page = SpacedPage(write_report(make_table(), STUDY, Extras(data=data), folder / "r.html"))
    page.text = " ".join(page.text.split())
    return page


def test_the_page_shows_the_cards(tmp_path: Path) -> None:
    text = page_of(tmp_path, summary()).text
    for sentence in (
        "1,233 rows to train on and 77 held out, of 1,444. None truncated; 134 dropped "
        "(120 duplicate, 14 overlaps a benchmark).",
        "For each prompt token there are 0.67 response tokens (mean of rows: 0.75).",
        "12.5 % of the prompt tokens are boilerplate.",
        "prompt 6,000 (60.0 %) response 3,000 (30.0 %) stop 1,000 (10.0 %)",
        "Solve <this>:",
        "source rows in dropped train held out truncated math 44 9 33 2 1",
        "33 rows to train on and 2 held out, of 44. 1 truncated; 9 dropped (9 duplicate).",
        "instructions: row 3 5 25 1,050 1,075 1,095 2,000",
        "preferences: rejected 3 5 25",
    ):
        assert sentence in text


def test_the_page_shows_which_items_stand_in_which_rows(tmp_path: Path) -> None:
    text = page_of(tmp_path, summary()).text
    for sentence in (
        "Beware: test items in the training text: 26 of 1,319 items of gsm8k; see below.",
        "if 13 of its words stand together in a row that is trained on (1,266 were searched)",
        "gsm8k 1,319 12 7 1,300 26 2.0 %",
        "gsm8k: 26 found, the first 2",
        "7 instructions, row 1234 of math six < seven of",
        "9 preferences, row 5 eight nine",
    ):
        assert sentence in text


def test_no_overlap_is_no_warning(tmp_path: Path) -> None:
    text = page_of(tmp_path, summary(overlap=overlap(0))).text
    assert "gsm8k 1,319 12 7 1,300 0 0.0 %" in text
    assert "Beware" not in text


def test_an_overlap_that_is_not_known_is_said_to_be_so(tmp_path: Path) -> None:
    text = page_of(tmp_path, summary(overlap=None)).text
    assert "Not known: the stage that looks for them did not come to its end." in text


@pytest.mark.parametrize("data", [None, DataSummary()])
def test_where_nothing_is_known_there_is_no_section(
    tmp_path: Path, data: DataSummary | None
) -> None:
    page = page_of(tmp_path, data)
    assert "Test items in the training text" not in page.text
    assert "figure-lengths" not in str([attributes for attributes, _ in page.scripts])


def test_the_chart_has_a_box_for_every_part(tmp_path: Path) -> None:
    page = page_of(tmp_path, summary())
    [chart] = (json.loads(t) for a, t in page.scripts if a.get("id") == "figure-lengths")
    [boxes] = chart["data"]
    assert boxes["y"] == [
        "instructions: row",
        "instructions: response",
        *(f"preferences: {side}" for side in ("prompt", "chosen", "rejected")),
    ]
    assert boxes["median"] == [1050, 7, 1050, 1050, 1050]
    assert (boxes["lowerfence"][0], boxes["q1"][0]) == (5, 25)
    assert (boxes["q3"][0], boxes["upperfence"][0]) == (1075, 1095)


def test_the_bar_has_every_role_in_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(Role)
    assert len(set(COLOURS.values())) == len(Role)
    section = data_section(summary())
    assert section is not None
    instructions, preferences = section.sets
    assert [role.name for role in instructions.roles] == ["prompt", "response", "stop"]
    assert math.isclose(sum(role.percent for role in instructions.roles), 100)
    assert preferences.roles == []


def plan_in(root: Path) -> Plan:
    study = load_study(ROOT / "configs/studies/quickstart.yaml")
    return make_plan(study, Runtime(artifact_root=root))


def test_a_summary_holds_what_is_made_and_leaves_out_what_is_damaged(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    assert DataSummary.of_plan(plan) == DataSummary()
    for artifact in (plan.instructions, plan.preferences, plan.overlap):
        artifact.path.mkdir(parents=True)
    write_card(plan.instructions.path, INSTRUCTIONS)
    (plan.preferences.path / "card.json").write_text("{")
    (plan.overlap.path / OVERLAP).write_text("{")
    assert DataSummary.of_plan(plan) == DataSummary(cards={"instructions": INSTRUCTIONS})
    (plan.overlap.path / OVERLAP).write_text(overlap(2).model_dump_json())
    assert DataSummary.of_plan(plan).overlap == overlap(2)


def test_a_kept_summary_is_read_again(tmp_path: Path) -> None:
    assert DataSummary.load(tmp_path) is None
    summary().save(tmp_path)
    assert DataSummary.load(tmp_path) == summary()
    (tmp_path / DATA).write_text('{"cards": 3}')
    assert DataSummary.load(tmp_path) is None
