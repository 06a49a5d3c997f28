"""Studies that are not as studies should be make a page that says what they are."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest
from pages import Page, SpacedPage
from reported import GRID, STUDY, failed, row, scores

from wit.analysis.report import Extras, write_report
from wit.analysis.report_tables import problems


def text_of(table: pd.DataFrame, folder: Path, study=None) -> str:
    """What a reader sees, in one line."""
    out = write_report(table, study, Extras(), folder / "r.html")
    return " ".join(SpacedPage(out).text.split())


def test_one_seed_is_said_to_be_one(tmp_path: Path) -> None:
    text = text_of(scores(seeds=(0,)), tmp_path)
    assert "There is one seed: how much seeds vary is not in that." in text
    assert "One seed: no split into seeds and rest" in text


def test_nothing_run_twice_is_no_split(tmp_path: Path) -> None:
    text = text_of(scores(cells=GRID[:3], seeds=(0,)), tmp_path)
    assert "No split: too little was run twice." in text
    assert "noise floor" not in text


def test_a_single_cell_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    text = text_of(scores(cells=[(1, 1)], seeds=(0,)), tmp_path)
    assert "It is the only objective with scores" in text
    assert "One pair of weights has both scores, so there is nothing to compare." in text
    assert "Spearman" not in text


def test_cells_that_all_score_alike_have_no_best(tmp_path: Path) -> None:
    text = text_of(scores(score=0.5, stderr=math.nan), tmp_path)
    assert "so no difference can be told" in text
    assert "Before DPO all weights score alike, so none is best." in text
    assert "No rank correlation" in text
    assert "No split: all score alike." in text


def test_runs_that_repeat_exactly_do_not_make_all_scores_alike(tmp_path: Path) -> None:
    """Two cells of one objective and seed are one run; cells of other objectives differ."""
    pairs = {(0.5, 1): 0.5, (0.25, 0.5): 0.5, (0, 1): 0.6, (1, 1): 0.4}
    rows = [row(stage, p, 0, v) for stage in ("sft", "dpo") for p, v in pairs.items()]
    text = text_of(pd.DataFrame(rows), tmp_path)
    assert "Runs of one objective score exactly alike" in text
    assert "all score alike" not in text


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_prompts_that_were_cut_are_shown_where_there_are_any(tmp_path: Path, share: float) -> None:
    measured = {"empty_responses": 0.5, "cut_prompts": share, "nll_prompt": 2.0}
    figures = [
        scores(names=(name,), score=value, role="diagnostic") for name, value in measured.items()
    ]
    text = text_of(pd.concat([scores(), *figures]), tmp_path)
    likelihoods, responses = text.split("Likelihood and preference")[1].split("Responses side")
    assert "prompt NLL" in likelihoods
    assert "responses" not in likelihoods
    assert "empty responses" in responses
    table = responses.split("What is missing")[0]
    assert (
        ("Cut prompts: too long for the model" in table) == ("cut prompts" in table) == (share > 0)
    )


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_what_is_counted_of_judged_sets_stands_below_their_scores(
    tmp_path: Path, share: float
) -> None:
    parts = {"length_controlled_win_rate": 0.431, "unparsable_share": 0.077}
    values = {f"opinion/{part}": value for part, value in parts.items()}
    values |= {"bench/unparsable_share": 0.0, "bench/cut_prompts": share}
    values |= {"bench/rating of turn 1": 6.0, "quiz/exact_match": 0.5}
    figures = [
        scores(names=(name,), score=value, role="diagnostic") for name, value in values.items()
    ]
    judged = [scores(names=(name,), role="report") for name in ("opinion", "bench")]
    text = text_of(pd.concat([scores(), *judged, *figures]), tmp_path)
    table = text.split("Every benchmark")[1].split("Beside the scores of a judge")[1]
    table = table.split("What is missing")[0]
    shown = ["cut prompts of bench", "share without a verdict of bench"]
    shown += ["win rate at equal length of opinion", "share without a verdict of opinion"]
    if not share:
        shown.remove("cut prompts of bench")
    places = [table.index(name) for name in shown]
    assert places == sorted(places)
    assert table.count("0.431") == table.count("0.077") == 2 * len(GRID)
    assert ("Cut prompts: too" in table) == ("cut prompts of bench" in table) == (share > 0)
    assert "turn 1" not in table
    assert "quiz" not in table
    assert "Beside the scores of a judge" not in text_of(scores(), tmp_path)


def test_only_failed_cells_are_named_and_nothing_else_is_claimed(tmp_path: Path) -> None:
    table = pd.DataFrame([failed(stage, (0, 1), "out of memory") for stage in ("sft", "dpo")])
    text = text_of(table, tmp_path, STUDY)
    assert "1 SFT model and 1 DPO model without complete select scores are left out" in text
    assert text.count("out of memory") == 2
    assert "Every benchmark" not in text
    assert "no scores yet" in text


def test_before_dpo_the_sft_scores_are_there_and_no_more_is_said(tmp_path: Path) -> None:
    text = text_of(scores(stages=("sft",)), tmp_path)
    assert "Nothing can be recommended yet: there are no scores after DPO" in text
    assert "is unknown. Before DPO, the objective 1 : 0 of prompt to" in text
    assert "No pair of weights has both scores yet." in text
    assert "After DPONo scores on the grid yet." in text


def test_without_instruction_tuning_there_is_no_gain(tmp_path: Path) -> None:
    text = text_of(scores(cells=[(0.2, 1), (0.5, 1), (1, 1)], names=("a", "b")), tmp_path)
    assert "Instruction tuning (0 : 1) has no score to compare it with." in text
    assert "Instruction tuning (0, 1) has no score to gain over." in text
    assert "cannot be told from instruction tuning" not in text


def test_a_benchmark_that_a_cell_lacks_leaves_it_out_and_says_so(tmp_path: Path) -> None:
    table = scores(names=("a", "b"))
    lacks = (table["benchmark"] == "b") & (table["weights"] == "p1-r1") & (table["stage"] == "dpo")
    found = problems(table[~lacks])
    assert [(p.cell, p.stage, p.status, p.error) for p in found] == [
        ("p1-r1-s0", "dpo", "incomplete", "no score on b"),
        ("p1-r1-s1", "dpo", "incomplete", "no score on b"),
    ]
    assert "2 DPO models without complete select scores are left out" in text_of(
        table[~lacks], tmp_path
    )


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_leaves_its_model_out(tmp_path: Path, score: float) -> None:
    table = scores()
    table.loc[0, "score"] = score
    text = text_of(table, tmp_path)
    assert "1 SFT model without complete select scores is left out" in text
    assert "p0-r1-s0 SFT not a number unseen" in text


def test_cells_that_two_weights_do_not_name_are_told_and_still_on_the_chart_of_ratios(
    tmp_path: Path,
) -> None:
    table = scores()
    own = table[table["weights"] == "p1-r1"].assign(weights="p1-r1-template0")
    out = write_report(pd.concat([table, own]), None, Extras(), tmp_path / "r.html")
    page = Page(out)
    assert "a role or a source has weights of its own in p1-r1-template0." in page.text
    [chart] = [
        text for attributes, text in page.scripts if attributes.get("id") == "figure-rays-dpo"
    ]
    assert "p1-r1-template" in chart


def test_hundred_models_make_a_page_below_six_megabytes(tmp_path: Path) -> None:
    steps = [step / 5 for step in range(6)]
    cells = [(p, r) for p in steps for r in steps if p or r]
    table = scores(cells=cells, seeds=(0, 1, 2), names=("a", "b", "c"))
    out = write_report(table, None, Extras(), tmp_path / "r.html")
    assert out.stat().st_size < 6_000_000
    assert "35 pairs of weights · 3 seeds" in Page(out).text


def test_percent_have_one_decimal_and_shares_three(tmp_path: Path) -> None:
    """The recommendation aside, which is another module's."""
    table = scores(stderr=math.nan)
    table["score"] *= 100
    body = text_of(table, tmp_path).split("Before and after alignment")[1]
    assert re.search(r"p1-r1 1 : 1 5[89]\.[0-9] ± 0\.[0-9]", body)
    assert not re.search(r"[0-9]{2}\.[0-9]{3}", body)


def test_a_mean_that_is_none_is_said_to_be_so(tmp_path: Path) -> None:
    """An average of 1.25 times its parts, as in tables that were published."""
    parts = scores(names=("a", "b"), role="part")
    average = scores(names=("average",))
    average["score"] *= 1.25
    text = text_of(pd.concat([parts, average]), tmp_path)
    assert "The average that was given is 1.25 times the mean of its parts" in text


def test_what_is_said_first_is_not_said_again(tmp_path: Path) -> None:
    """Instruction tuning is best: what is near it stands in the recommendation already."""
    text = text_of(scores(cells=[(1, 1), (0.5, 1), (0, 1)], stderr=0.1), tmp_path)
    assert "Within the noise of it, so that no difference can be told: " in text
    assert "within the noise of the best." not in text.split("Before and after")[0]
    other = text_of(scores(stderr=0.1), tmp_path)
    assert (
        "All 4 other objectives are within the noise of the best; no objective from 0 : 1" in other
    )
