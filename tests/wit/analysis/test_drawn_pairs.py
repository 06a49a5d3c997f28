"""What the report says of pairs made on policy."""

from pathlib import Path

from pages import SpacedPage
from reported import STUDY
from several_alignments import table_of

from wit.analysis.data_summary import DataSummary
from wit.analysis.drawn_pairs import DrawnPairs, pairs_finding, pairs_numbers
from wit.analysis.report import Extras, write_report


def drawn(num_pairs: int, number: int = 1) -> DrawnPairs:
    return DrawnPairs(
        alignment="once",
        round=number,
        num_models=2,
        num_prompts=200,
        num_pairs=num_pairs,
        mean_score=0.25,
    )


def test_few_pairs_are_told_among_the_findings(tmp_path: Path) -> None:
    found = (drawn(160), drawn(20, 2))
    data = DataSummary(pairs=found)
    page = SpacedPage(write_report(table_of("dpo"), STUDY, Extras(data=data), tmp_path / "r.html"))
    assert "of what alignment once drew in round 2, 10% of the prompts gave a pair" in page.text
    assert "Pairs made on policy" in page.text
    assert pairs_numbers(found).rows == [
        ("once", "1", "100", "80", "80%", "0.25"),
        ("once", "2", "100", "10", "10%", "0.25"),
    ]


def test_where_most_prompts_gave_a_pair_nothing_is_to_be_feared(tmp_path: Path) -> None:
    assert pairs_finding((drawn(160),)) == pairs_finding(()) == ""
    page = SpacedPage(write_report(table_of("dpo"), STUDY, Extras(), tmp_path / "r.html"))
    assert "Pairs made on policy" not in page.text
