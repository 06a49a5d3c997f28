"""Alignment that made a model clearly worse is flagged, and noise is not."""

import io
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reported import STUDY, make_table
from rich.console import Console
from simulated import PAPER_GRID, table_of

from wit.analysis.alignment_changes import MARK, alignment_changes, alignment_numbers
from wit.analysis.collapse import MIN_DROP, MIN_RISE, collapse_sentence, collapses
from wit.analysis.comparison import compare
from wit.analysis.report import Extras, write_report
from wit.display import show_comparison

CELL = (0.0, 1.0)
SURE = {"stderr": 0.001, "num_items": 1000}


def both(before: float, after: float, benchmark: str = "quiz", **more: Any) -> pd.DataFrame:
    """One model before and after."""
    more = SURE | more
    parts = [
        table_of(stage, {CELL: [score]}, benchmark, **more)
        for stage, score in (("sft", before), ("dpo", after))
    ]
    return pd.concat(parts, ignore_index=True)


def share(generator: np.random.Generator, probability: float, num_items: int) -> dict[str, float]:
    hits = generator.binomial(num_items, probability) / num_items
    stderr = math.sqrt(hits * (1 - hits) / (num_items - 1))
    return {"score": hits, "stderr": stderr, "num_items": num_items}


def simulated(generator: np.random.Generator, *, drop: float = 0.0, rise: float = 0.0) -> Any:
    """Two benchmarks of 60 items and 64 responses; the first cell's DPO model is worse."""
    rows = []
    for number, (prompt, response) in enumerate(PAPER_GRID[:10]):
        of_cell = {"prompt_weight": prompt, "response_weight": response, "seed": 0}
        truth = generator.uniform(0.05, 0.9)
        for stage in ("sft", "dpo"):
            is_worse = stage == "dpo" and number == 0
            for name in ("one", "two"):
                probability = 0.8 - drop if is_worse else 0.8 if number == 0 else truth
                found = share(generator, probability, 60)
                rows.append({**of_cell, "stage": stage, "benchmark": name, **found})
                rows[-1]["role"] = "select"
            for name in ("sampled_empty", "quiz/empty_responses"):
                found = share(generator, 0.05 + (rise if is_worse else 0), 64)
                rows.append({**of_cell, "stage": stage, "benchmark": name, **found})
                rows[-1] |= {"role": "diagnostic", "higher_is_better": False}
    return pd.DataFrame(rows).fillna({"higher_is_better": True})


def test_noise_is_no_collapse() -> None:
    generator = np.random.default_rng(0)
    flagged = sum(bool(collapses(simulated(generator))) for _ in range(100))
    assert flagged <= 5


@pytest.mark.parametrize("effect", [{"drop": 0.4}, {"rise": 0.5}])
def test_a_large_effect_is_seen_and_only_where_it_is(effect: dict[str, float]) -> None:
    generator = np.random.default_rng(1)
    found = [collapses(simulated(generator, **effect)) for _ in range(20)]
    cells = [[one.cell for one in of_study] for of_study in found]
    prompt, response = PAPER_GRID[0]
    assert cells.count([f"p{prompt:g}-r{response:g}-s0"]) >= 18


def test_both_conditions_count() -> None:
    """A drop must be large, and beyond doubt."""
    least = 0.5 * MIN_DROP
    assert collapses(both(0.5, 0.5 - least - 0.01))
    assert not collapses(both(0.5, 0.5 - least + 0.01)), "sure, but small"
    assert not collapses(both(0.5, 0.2, stderr=0.2)), "large, but not sure"
    assert not collapses(both(0.5, 0.2, stderr=math.nan)), "nothing is known"
    assert not collapses(both(0.2, 0.5)), "it became better"


def test_shares_of_bad_responses_may_rise_a_little() -> None:
    def found(rise: float, name: str = "sampled_empty") -> list[Any]:
        table = both(0.5, 0.5, role="select")
        shares = both(0.1, 0.1 + rise, name, role="diagnostic", higher_is_better=False)
        return collapses(pd.concat([table, shares], ignore_index=True))

    assert found(MIN_RISE + 0.01)
    assert found(MIN_RISE + 0.01, "quiz/empty_responses"), "of answers to a benchmark"
    assert not found(MIN_RISE - 0.01)
    assert not found(-MIN_RISE - 0.01), "fewer are better"
    [one] = found(0.5)
    assert "empty drawn responses rose from 0.10 to 0.60" in one.reasons[0]


def test_who_falls_silent_after_plain_text_has_forgotten_and_not_collapsed() -> None:
    table = both(0.5, 0.5, role="select")
    of_text = both(0.6, 0.5, "cloze", role="forgetting")
    empty = both(0.1, 0.9, "cloze/empty_responses", role="diagnostic", higher_is_better=False)
    assert collapses(pd.concat([table, empty], ignore_index=True))
    assert not collapses(pd.concat([table, of_text, empty], ignore_index=True))


@pytest.mark.parametrize(
    "name", ["sampled_tokens", "sampled_unended", "unended_responses", "quiz/unended_responses"]
)
def test_a_model_that_became_longer_has_not_collapsed(name: str) -> None:
    longer = both(0.1, 0.9, name, role="diagnostic", higher_is_better=False)
    assert not collapses(pd.concat([both(0.5, 0.5, role="select"), longer], ignore_index=True))


def test_of_costs_more_is_worse() -> None:
    assert collapses(both(0.5, 0.9, higher_is_better=False))
    assert not collapses(both(0.5, 0.1, higher_is_better=False))


def test_the_same_drop_needs_more_proof_among_many() -> None:
    """One difference of 2.4 standard errors is beyond doubt; the largest of 35 is not."""
    apart = 2.4 * math.hypot(0.05, 0.05)
    one = both(0.5, 0.5 - apart, stderr=0.05)
    assert collapses(one)
    others = {cell: [0.5] for cell in PAPER_GRID if cell != CELL}
    more = [table_of(stage, others, "quiz", **SURE | {"stderr": 0.05}) for stage in ("sft", "dpo")]
    assert not collapses(pd.concat([one, *more], ignore_index=True))


def aligned(scores: dict[str, float], *, before: float, stderr: float) -> pd.DataFrame:
    """One model before, and after each of these alignments."""
    sure = SURE | {"stderr": stderr}
    parts = [table_of("sft", {CELL: [before]}, "quiz", **sure)]
    for name, score in scores.items():
        parts.append(table_of("dpo", {CELL: [score]}, "quiz", alignment=name, **sure))
    return pd.concat(parts, ignore_index=True)


def test_the_proof_is_that_of_the_whole_study_whatever_the_alignment() -> None:
    """Of 20 differences the interval is 3.02 standard errors wide, of one 1.96."""
    apart = 2.5 * math.hypot(0.05, 0.05)
    alone = aligned({"dpo": 0.5, "ipo": 0.5 - apart}, before=0.5, stderr=0.05)
    assert [one.cell for one in collapses(alone)] == ["p0-r1-s0 ipo"]
    others = {f"other-{number}": 0.5 for number in range(18)}
    many = aligned({"dpo": 0.5, "ipo": 0.5 - apart, **others}, before=0.5, stderr=0.05)
    assert collapses(many) == []
    assert [cell.other_alignments["ipo"].collapse for cell in compare(many)] == [()]


def test_every_alignment_has_its_own_collapses_the_main_one_first() -> None:
    table = aligned({"dpo": 0.5, "ipo": 0.1, "kto": 0.05}, before=0.5, stderr=0.001)
    empty = {"benchmark": "sampled_empty", "role": "diagnostic"}
    shares = table.assign(**empty, score=[0.0, 0.9, 0.0, 0.9])
    found = collapses(pd.concat([table.assign(role="select"), shares], ignore_index=True))
    assert [(one.alignment, len(one.reasons)) for one in found] == [
        *((None, 1), ("ipo", 1), ("kto", 2)),
    ]
    assert collapse_sentence(found).endswith("So too p0-r1-s0 ipo, p0-r1-s0 kto.")


def test_models_without_a_partner_say_nothing() -> None:
    table = both(0.5, 0.1)
    assert not collapses(table.loc[lambda rows: rows["stage"] == "dpo"])
    assert not collapses(table.loc[lambda rows: rows["stage"] == "sft"])
    assert collapse_sentence([]) == ""


def test_the_table_the_json_and_the_page_say_it(tmp_path: Any) -> None:
    table = make_table()
    is_bad = (table["stage"] == "dpo") & (table["cell"] == "p0.5-r1-s1")
    table.loc[is_bad & (table["benchmark"] == "unseen"), "score"] = 0.1
    assert [one.cell for one in collapses(table)] == ["p0.5-r1-s1"]
    by_cell = {cell.cell: cell for cell in compare(table)}
    [reason] = by_cell["p0.5-r1-s1"].models["dpo"].collapse
    assert reason.startswith("unseen fell from 0.53 to 0.10 (95 % interval")
    assert by_cell["p0-r1-s1"].models["dpo"].collapse == ()
    out = io.StringIO()
    show_comparison(Console(file=out, width=80), table)
    assert len(re.findall(r"±\d\.\d{3}! ", out.getvalue())) == 1
    assert "! p0.5-r1-s1 collapsed: its unseen fell from" in out.getvalue()
    page = write_report(table, STUDY, Extras(), tmp_path / "report.html").read_text()
    assert "clearly worse than its SFT parent, p0.5-r1-s1: unseen fell" in page
    assert page.count(MARK) == 2, "in the sentence and among the numbers"
    sound = write_report(make_table(), STUDY, Extras(), tmp_path / "sound.html").read_text()
    assert MARK not in sound
    assert "What alignment changed" not in sound


def test_figures_stand_before_and_after(tmp_path: Any) -> None:
    diagnostic = {"role": "diagnostic", "higher_is_better": False}
    parts = [
        both(0.5, 0.6, role="select"),
        both(1.25, 1.5, "nll_chosen", **diagnostic),
        table_of("dpo", {CELL: [0.75]}, "kl_reference", **SURE | diagnostic),
    ]
    table = pd.concat(parts, ignore_index=True)
    found = alignment_numbers(table, ["p0-r1", "p0-r1", "p1-r1"])
    assert found.columns == ("", "p0-r1 SFT", "p0-r1 DPO")
    assert found.rows == [
        ("NLL, chosen", "1.25 ± 0.00", "1.50 ± 0.00"),
        ("KL from the SFT model", "\N{EN DASH}", "0.750 ± 0.002"),
    ]
    assert alignment_changes(both(0.5, 0.6), ["p0-r1"])["alignment"].rows == []
    cut = both(0.0, 0.0, "sampled_cut", **diagnostic)
    assert alignment_numbers(pd.concat([table, cut]), ["p0-r1"]).rows == found.rows, "none is cut"
    cut = both(0.25, 0.25, "sampled_cut", **diagnostic)
    page = write_report(pd.concat([table, cut]), None, Extras(), tmp_path / "cut.html").read_text()
    assert "cut prompts of drawn responses" in page
    assert "too long for the model and lost their beginning" in page
    page = write_report(table, None, Extras(), tmp_path / "report.html").read_text()
    assert "lost their beginning" not in page
    assert "What alignment changed" in page
    assert page.count("NLL, chosen") == 1, "there, and not among the likelihoods"
