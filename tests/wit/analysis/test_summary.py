"""The summary for the Prefect UI shows what failed as it is, and nothing can break its tables."""

import base64
import json
import math
import re
from io import BytesIO
from pathlib import Path

from PIL import Image
from reported import STUDY, make_table

from wit.analysis.summary import cells_table, markdown_summary, plain

REPORT = Path("/a/r.html")
HOSTILE = "loss | is `not` <b>finite</b>\n# and [more](http://x) *here*"


def test_it_has_the_recommendation_the_objectives_the_cells_and_the_ways_on() -> None:
    text = markdown_summary(make_table(), REPORT, "http://127.0.0.1:5000/#/runs/1", STUDY)
    assert text.startswith("After DPO, the objective 1 : 5 of prompt to response weight")
    assert "| 1 : 5 (best) | 0.565 ± " in text
    assert "| p0.2-r1-s0 | 0.560 | 0.620 |" in text
    assert "[MLflow](http://127.0.0.1:5000/#/runs/1)" in text
    assert "`/a/r.html`" in text
    assert "`/a/worker-*.log`" in text


def test_it_shows_both_heat_maps_as_a_picture(tmp_path: Path) -> None:
    text = markdown_summary(make_table(), REPORT, "sqlite:///m.db", STUDY)
    [picture] = re.findall(r"!\[Scores before and after DPO\]\(data:image/png;base64,(.*)\)", text)
    with Image.open(BytesIO(base64.b64decode(picture))) as image:
        colours = image.convert("RGB").getcolors(1_000_000) or []
        assert image.width > 300
    shades = {colour for count, colour in colours if count > 1000}
    assert len(shades) > 3, "cells of several scores, on paper"


def test_a_message_of_an_error_cannot_break_the_table_nor_be_markup() -> None:
    [line, _] = [
        line
        for line in markdown_summary(make_table(HOSTILE), REPORT, "sqlite:///m.db").splitlines()
        if "and" in line and "finite" in line
    ]
    assert line.replace("\\|", "").count("|") == 5
    for markup in ("<b>", "`not`", "[more]", " *here*", " # and"):
        assert markup not in line


def test_plain_text_stays_as_it_is() -> None:
    assert (
        plain("0.625 ± 0.050 (mean of 2 seeds), p0.2-r1")
        == "0.625 ± 0.050 (mean of 2 seeds), p0.2-r1"
    )


def test_the_table_of_cells_has_the_same_columns_everywhere_and_is_json() -> None:
    table = make_table()
    table.loc[table["weights"] == "p0-r1", "score"] = math.nan
    rows = cells_table(table)
    assert len({tuple(row) for row in rows}) == 1
    by_cell = {row["cell"]: row for row in json.loads(json.dumps(rows, allow_nan=False))}
    assert by_cell["p0.2-r1-s0"]["dpo score"] == 0.62
    assert by_cell["p1-r1-s1"]["sft state"] == "failed"
    assert by_cell["p0-r1-s0"]["sft score"] is None
