"""Several alignments in tables, in the report, on a terminal, and in Prefect's summary."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from pages import Page, SpacedPage
from reported import STUDY, failed
from rich.console import Console
from several_alignments import table_of

from wit.analysis.alignment_changes import MARK
from wit.analysis.alignments_section import alignments_section
from wit.analysis.collapse import Collapse
from wit.analysis.comparison import compare
from wit.analysis.report import Extras, write_report
from wit.analysis.report_tables import problems
from wit.analysis.scores import alignments_in
from wit.analysis.summary import cells_table, markdown_summary
from wit.display import comparison_as_json, show_comparison


@pytest.fixture
def whole() -> pd.DataFrame:
    return table_of("dpo", "ipo", "simpo")


def test_compare_as_json_says_objective_and_beta_of_every_aligned_model(
    whole: pd.DataFrame,
) -> None:
    base, first, *_ = json.loads(json.dumps(comparison_as_json(whole)))
    assert base["other_alignments"] == {}
    main, others = first["models"]["dpo"], first["other_alignments"]
    assert (main["alignment"], main["objective"], main["beta"]) == ("dpo", "dpo", 0.1)
    assert main["score"] == pytest.approx(0.4)
    assert [*others] == ["ipo", "simpo"]
    assert (others["ipo"]["objective"], others["ipo"]["beta"]) == ("ipo", 0.3)
    assert others["ipo"]["score"] == pytest.approx(0.8)
    assert first["models"]["sft"]["beta"] is None


def test_compare_shows_the_others_below_their_cell(whole: pd.DataFrame) -> None:
    shown = io.StringIO()
    show_comparison(Console(file=shown, width=80), whole)
    lines = [line.split() for line in shown.getvalue().splitlines()]
    place = next(n for n, words in enumerate(lines) if words[:1] == ["p0-r1-s0"])
    assert [words[0] for words in lines[place : place + 3]] == ["p0-r1-s0", "ipo", "simpo"]
    assert lines[place + 1][1] == "0.800"
    assert "DPO is alignment dpo; below it: ipo, simpo." in shown.getvalue()
    assert "worse than the best" in " ".join(shown.getvalue().split())


def test_what_failed_is_named_with_its_alignment(whole: pd.DataFrame) -> None:
    broken = failed("dpo", (0.5, 1), "it broke")
    how = {"seed": 2, "cell": "p0.5-r1-s2", "alignment": "ipo", "objective": "ipo", "beta": 0.3}
    table = pd.concat([whole, pd.DataFrame([broken | how])], ignore_index=True)
    [problem] = problems(table)
    assert (problem.cell, problem.stage, problem.error) == ("p0.5-r1-s2 ipo", "dpo", "it broke")
    summary = markdown_summary(table, Path("report.html"), "here")
    assert "p0.5-r1-s2 ipo | dpo | failed | it broke" in summary
    assert {"dpo score", "ipo score", "simpo score"} <= cells_table(table)[0].keys()


def test_models_that_any_alignment_collapsed_are_shown_everywhere(tmp_path: Path) -> None:
    whole = table_of("dpo", "ipo")
    is_bad = (whole.alignment == "ipo") & (whole.cell == "p0.5-r1-s1")
    whole.loc[is_bad, "score"] = 0.05
    others = {cell.cell: cell.other_alignments for cell in compare(whole)}
    [reason] = others["p0.5-r1-s1"]["ipo"].collapse
    assert others["p0.5-r1-s0"]["ipo"].collapse == ()
    summary = markdown_summary(whole, Path("report.html"), "here")
    assert "one model clearly worse than its SFT parent, p0.5-r1-s1 ipo: unseen fell" in summary
    assert "| p0.5-r1-s1 ipo | | 0.050 (collapsed) |" in summary
    assert summary.count("(collapsed)") == 1
    by_cell = {line["cell"]: line for line in cells_table(whole)}
    assert by_cell["p0.5-r1-s1"]["ipo collapse"] == reason
    assert by_cell["p0-r1-s0"]["ipo collapse"] is None
    page = SpacedPage(write_report(whole, STUDY, Extras(), tmp_path / "report.html"))
    assert "clearly worse than its SFT parent, p0.5-r1-s1 ipo: unseen fell" in page.text
    assert f"ipo (ipo, beta 0.3) 1 of 6 {MARK}" in page.text
    assert "dpo (dpo, beta 0.1) 0 of 6 " in page.text
    assert page.text.count(MARK) == 2, "there and below; the numbers of all weights are of dpo"


def test_figures_of_every_alignment_stand_beside_each_other(
    whole: pd.DataFrame, tmp_path: Path
) -> None:
    """KL is of aligned models alone; NLL before and after; of dpo one model has no NLL."""
    diagnostic = {"role": "diagnostic", "higher_is_better": False, "status": "finished"}
    models = whole.loc[whole.stage != "base"]
    is_ipo = models.alignment == "ipo"
    nll = models.assign(benchmark="nll_chosen", **diagnostic)
    nll["score"] = 1.0 + nll.seed + 0.5 * (models.stage == "dpo") + 2.0 * is_ipo
    nll = nll.loc[~((nll.alignment == "dpo") & (nll.cell == "p0-r1-s1"))]
    kl = models.loc[is_ipo].assign(benchmark="kl_reference", score=models.seed + 3.0, **diagnostic)
    table = pd.concat([whole, nll, kl], ignore_index=True)
    section = alignments_section(table, [])
    assert section is not None
    columns = ("", "collapsed models", "KL from the SFT model", "NLL, chosen")
    assert section.changes.columns == columns
    assert section.changes.rows == [
        ("dpo (dpo, beta 0.1)", "0 of 6", "\N{EN DASH}", "1.40 \N{RIGHTWARDS ARROW} 1.90"),
        ("ipo (ipo, beta 0.3)", "0 of 6", "3.50", "1.50 \N{RIGHTWARDS ARROW} 4.00"),
        ("simpo (simpo, beta 2)", "0 of 6", "\N{EN DASH}", "1.50 \N{RIGHTWARDS ARROW} 2.00"),
    ]
    of_main = Collapse(weights="p0-r1", seed=0, tuning=None, alignment=None, reasons=("it fell",))
    marked = alignments_section(table, [of_main])
    assert marked is not None
    assert [row[1] for row in marked.changes.rows] == [f"1 of 6 {MARK}", "0 of 6", "0 of 6"]
    page = SpacedPage(write_report(table, STUDY, Extras(), tmp_path / "report.html"))
    assert "ipo (ipo, beta 0.3) 0 of 6 3.50 1.50 \N{RIGHTWARDS ARROW} 4.00" in page.text
    assert "Of the first alignment; of the others see Alignment objectives." in page.text


def test_an_alignment_that_is_called_dpo_need_not_be_the_main_one() -> None:
    table = table_of("ipo", "dpo")
    assert alignments_in(table) == ["ipo", "dpo"]
    by_cell = {line["cell"]: line for line in cells_table(table)}
    assert by_cell["p0-r1-s0"]["ipo score"] == pytest.approx(0.8)
    assert by_cell["p0-r1-s0"]["dpo score"] == pytest.approx(0.4)
    [alone, *_] = cells_table(table_of("ipo"))[1:]
    assert alone["dpo score"] == pytest.approx(0.8), "the only one"


def test_the_report_is_of_the_main_one_and_has_a_section_on_all(
    whole: pd.DataFrame, tmp_path: Path
) -> None:
    page = Page(write_report(whole, STUDY, Extras(), tmp_path / "all.html"))
    alone = Page(write_report(table_of("dpo"), STUDY, Extras(), tmp_path / "one.html"))
    figures = {a["id"]: json.loads(t) for a, t in page.scripts if a.get("type")}
    of_one = {a["id"]: json.loads(t) for a, t in alone.scripts if a.get("type")}
    assert {name: figures[name] for name in of_one} == of_one
    maps = [figures[f"figure-alignment-{place}"]["data"][0] for place in range(3)]
    assert len({(heat["zmin"], heat["zmax"]) for heat in maps}) == 1
    assert maps[1]["z"][-1] == pytest.approx([0.8005, 0.7005, 0.5005])
    assert "Alignment objectives" in page.text
    assert "Alignment objectives" not in alone.text
    assert "worse than the best, beyond the noise, after ipo" in page.text
    assert "ipo (ipo, beta 0.3)" in page.text
