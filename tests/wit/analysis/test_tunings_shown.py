"""Models that alignment made worse are named with their way of SFT, whichever that is."""

import io
from pathlib import Path

import pandas as pd
from rich.console import Console
from several_tunings import MEANS, rows_of_tuning, study_of, table_of

from wit.analysis.alignment_changes import MARK
from wit.analysis.collapse import collapses
from wit.analysis.comparison import compare
from wit.analysis.report import Extras, write_report
from wit.analysis.scores import of_tuning
from wit.analysis.summary import cells_table, markdown_summary
from wit.display import show_comparison

OTHER = "p0-r1-s0@lora-e2"


def with_scores(table: pd.DataFrame, scores: dict[str, float]) -> pd.DataFrame:
    """After the main alignment these cells score this."""
    changed = table.copy()
    is_aligned = (table["stage"] == "dpo") & (table["benchmark"] == "unseen")
    for cell, score in scores.items():
        changed.loc[is_aligned & (table["cell"] == cell), "score"] = score
    return changed


def test_a_collapse_after_any_way_of_sft_is_named_the_main_ones_first() -> None:
    whole = table_of(*MEANS)
    assert collapses(whole) == []
    both = {OTHER: 0.1, "p0.2-r1-s1@full-e1": 0.1}
    assert [one.cell for one in collapses(with_scores(whole, both))] == [*reversed(both)]
    ipo = pd.DataFrame(rows_of_tuning("lora-e2"))
    ipo = ipo.loc[ipo["stage"] == "dpo"].assign(alignment="ipo")
    ipo.loc[ipo["benchmark"] == "unseen", "score"] = 0.1
    found = collapses(pd.concat([with_scores(whole, both), ipo], ignore_index=True))
    assert [one.cell for one in found][1:3] == [OTHER, f"{OTHER} ipo"]


def test_the_proof_is_that_of_all_ways_of_sft_together() -> None:
    """In 4 differences the interval is 2.50 standard errors wide, in 16 it is 2.95."""
    whole = with_scores(table_of(*MEANS).assign(stderr=0.05), {OTHER: 0.6 - 2.7 * 0.05 * 2**0.5})
    alone = of_tuning(whole, "lora-e2")
    assert [one.cell for one in collapses(alone)] == [OTHER]
    assert collapses(whole) == []
    assert not any(cell.models["dpo"].collapse for cell in compare(whole) if "dpo" in cell.models)


def test_the_page_and_the_summary_name_it_and_mark_only_what_they_show(tmp_path: Path) -> None:
    study = study_of(*MEANS)
    table = with_scores(table_of(*MEANS), {OTHER: 0.1})
    said = f"clearly worse than its SFT parent, {OTHER}: unseen fell from 0.6"
    page = write_report(table, study, Extras(), tmp_path / "a.html").read_text()
    assert page.count(said) == 2, "among the findings and under what alignment changed"
    assert MARK not in page, "the numbers are of the first way of SFT"
    assert "r1-s0@lora-e2: unseen fell" in markdown_summary(table, tmp_path, "", study)
    [row] = [row for row in cells_table(table) if row.get("dpo collapse")]
    assert row["cell"] == OTHER
    out = io.StringIO()
    show_comparison(Console(file=out, width=200), table, study)
    assert f"! {OTHER} collapsed: its unseen fell" in out.getvalue()
    main = with_scores(table_of(*MEANS), {"p0-r1-s0@full-e1": 0.1})
    page = write_report(main, study, Extras(), tmp_path / "b.html").read_text()
    assert f"{MARK} marks those of the first way of SFT among the numbers" in page
    assert page.count(MARK) == 2
