"""Several alignments beside each other: what each gains, and whether the best weights stay best."""

import io
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from pages import Page, SpacedPage
from reported import STUDY, failed, row
from rich.console import Console

from wit.analysis.alignment_changes import MARK
from wit.analysis.alignments import compare_alignments, paired_gain
from wit.analysis.alignments_section import alignments_section
from wit.analysis.collapse import Collapse
from wit.analysis.comparison import compare
from wit.analysis.grid import stage_scores
from wit.analysis.report import Extras, write_report
from wit.analysis.report_tables import problems
from wit.analysis.scores import alignments_in, of_alignment
from wit.analysis.selection import recommend
from wit.analysis.summary import cells_table, markdown_summary
from wit.choice import choose
from wit.display import comparison_as_json, show_comparison
from wit.errors import InputError
from wit.lineage.headline import result_of

CELLS = [(0, 1), (0.2, 1), (0.5, 1)]
# Of every cell and seed before alignment; the second is best.
BEFORE = [0.30, 0.60, 0.40]
# What each alignment adds. The second one turns the order round; the third gains in one cell alone.
GAINS = {"dpo": [0.1, 0.1, 0.1], "ipo": [0.5, 0.1, 0.1], "simpo": [-0.1, 0.01, -0.1]}
HOW = {"dpo": ("dpo", 0.1), "ipo": ("ipo", 0.3), "simpo": ("simpo", 2.0)}


def aligned(name, cell, seed, score, **more):
    objective, beta = HOW[name]
    of_model = {"fingerprint": f"{name}{cell}{seed}", "run_id": f"{name}{cell}{seed}"}
    how = {"alignment": name, "objective": objective, "beta": beta}
    return row("dpo", cell, seed, score, num_items=1000, **how, **of_model, **more)


def table_of(*names: str, stderr: float = 0.001) -> pd.DataFrame:
    """As MLflow gives it; items are many, and seeds differ by little."""
    rows = [row("base", None, 0, 0.05)]
    for place, cell in enumerate(CELLS):
        for seed in (0, 1):
            before = BEFORE[place] + seed / 1000
            rows.append(row("sft", cell, seed, before, stderr=stderr))
            rows += [
                aligned(name, cell, seed, before + GAINS[name][place], stderr=stderr)
                for name in names
            ]
    return pd.DataFrame(rows)


@pytest.fixture
def whole() -> pd.DataFrame:
    return table_of("dpo", "ipo", "simpo")


def test_every_number_of_one_alignment_is_as_if_it_were_alone(whole: pd.DataFrame) -> None:
    assert alignments_in(whole) == ["dpo", "ipo", "simpo"]
    for name in HOW:
        alone = table_of(name)
        assert recommend(of_alignment(whole, name)) == recommend(alone)
        assert stage_scores(of_alignment(whole, name), "dpo") == stage_scores(alone, "dpo")
    main = of_alignment(whole)
    assert main.reset_index(drop=True).equals(table_of("dpo"))
    assert of_alignment(main) is not None
    assert result_of(whole, STUDY) == result_of(table_of("dpo"), STUDY)


def test_models_of_several_alignments_make_no_mean(whole: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="alignments dpo, ipo, simpo: choose one"):
        stage_scores(whole, "dpo")
    with pytest.raises(ValueError, match="choose one"):
        recommend(whole)


def test_a_table_that_knows_no_alignments_is_of_one() -> None:
    table = table_of("dpo").drop(columns=["alignment", "objective", "beta"])
    assert alignments_in(table) == []
    assert of_alignment(table) is table
    assert compare_alignments(table) is None
    assert compare_alignments(table_of("dpo")) is None
    [measured] = {cell.models["dpo"].beta for cell in compare(table) if "dpo" in cell.models}
    assert measured is None


def test_what_each_gains_is_paired_with_its_own_sft_models(whole: pd.DataFrame) -> None:
    """Gains of 0.5, 0.1 and 0.1, each twice: mean 0.2333, SD 0.2066, t(5) 2.571.

    Of dpo all gains are alike: that of items, 1.96 hypot(0.001, 0.001), is what is left.
    """
    found = compare_alignments(whole)
    assert found is not None
    gains = {result.name: result.gain for result in found.results}
    dpo, ipo, simpo = gains["dpo"], gains["ipo"], gains["simpo"]
    assert dpo is not None
    assert ipo is not None
    assert simpo is not None
    assert (dpo.mean, dpo.share, dpo.num_models) == (pytest.approx(0.1), 1, 6)
    assert dpo.half_width == pytest.approx(1.959964 * math.sqrt(2) * 0.001)
    assert ipo.mean == pytest.approx(0.7 / 3)
    deviation = math.sqrt((2 * (0.8 / 3) ** 2 + 4 * (0.4 / 3) ** 2) / 5)
    assert ipo.half_width == pytest.approx(2.570582 * deviation / math.sqrt(6))
    assert simpo.share == pytest.approx(1 / 3)
    assert simpo.mean == pytest.approx(-0.19 / 3)


def test_it_says_whether_the_best_sft_weights_stay_best(whole: pd.DataFrame) -> None:
    found = compare_alignments(whole)
    assert found is not None
    assert found.sft_best is not None
    assert found.sft_best.weights == "p0.2-r1"
    standing = {result.name: result.sft_best for result in found.results}
    assert standing == {"dpo": "best", "ipo": "worse", "simpo": "best"}
    best = {result.name: result.best and result.best.weights for result in found.results}
    assert best == {"dpo": "p0.2-r1", "ipo": "p0-r1", "simpo": "p0.2-r1"}
    assert found.sentence == (
        "The best SFT weights, p0.2-r1, are the best after dpo and simpo; worse than the best, "
        "beyond the noise, after ipo."
    )
    both = compare_alignments(table_of("dpo", "simpo"))
    assert both is not None
    assert both.sentence == (
        "The best SFT weights, p0.2-r1, are the best after every one of the 2 alignments."
    )


def test_more_models_do_not_lessen_the_error_of_the_items_that_all_of_them_answer() -> None:
    """Each pair errs by hypot(0.2, 0.2), and so does the mean of six; SD 0.2066 says less."""
    table = table_of("ipo", stderr=0.2)
    sft, after = (stage_scores(table, stage) for stage in ("sft", "dpo"))
    found = paired_gain(sft, after)
    assert found is not None
    assert found.half_width == pytest.approx(1.959964 * math.sqrt(2) * 0.2)
    one = table.loc[(table.stage == "base") | (table.cell == "p0-r1-s0")]
    alone = paired_gain(stage_scores(one, "sft"), stage_scores(one, "dpo"))
    assert alone is not None
    assert alone.half_width == pytest.approx(found.half_width)
    unknown = table.assign(stderr=math.nan)
    over_runs = paired_gain(stage_scores(unknown, "sft"), stage_scores(unknown, "dpo"))
    assert over_runs is not None
    assert over_runs.half_width == pytest.approx(0.2168, abs=1e-4)


def test_gains_that_differ_by_rounding_alone_have_no_interval_over_runs(tmp_path: Path) -> None:
    both = table_of("dpo", "ipo", stderr=math.nan)
    table = both.loc[both.alignment != "ipo"]
    scores = {score for score in table.loc[table.stage != "base", "score"]}
    assert len({score + 0.1 - score for score in scores}) > 1, "they do"
    found = paired_gain(stage_scores(table, "sft"), stage_scores(table, "dpo"))
    assert found is not None
    assert found.half_width is None
    page = SpacedPage(write_report(both, STUDY, Extras(), tmp_path / "report.html"))
    assert "+0.100 100 % of 6" in page.text


def test_worse_is_not_called_beyond_the_noise_where_none_is_known(tmp_path: Path) -> None:
    table = table_of("dpo", "ipo", stderr=math.nan)
    table = table.loc[table.seed == 0]
    found = compare_alignments(table)
    assert found is not None
    assert found.results[1].sft_best == "worse, noise unknown"
    assert found.sentence == (
        "The best SFT weights, p0.2-r1, are the best after dpo; worse than the best, with nothing "
        "known of the noise, after ipo."
    )
    page = SpacedPage(write_report(table, STUDY, Extras(), tmp_path / "report.html"))
    assert "worse; noise unknown" in page.text
    assert "beyond the noise, after" not in page.text


def test_what_noise_hides_is_not_called_worse() -> None:
    found = compare_alignments(table_of("dpo", "ipo", stderr=0.2))
    assert found is not None
    assert found.results[1].sft_best == "within noise"
    assert "within the noise of the best after ipo" in found.sentence


def test_less_is_better_turns_gains_round() -> None:
    table = table_of("dpo").assign(higher_is_better=False)
    found = paired_gain(stage_scores(table, "sft"), stage_scores(table, "dpo"))
    assert found is not None
    assert (found.mean, found.share) == (pytest.approx(-0.1), 0)


def test_a_model_without_a_partner_has_no_gain() -> None:
    table = table_of("dpo")
    lonely = table.loc[(table.stage != "sft") | (table.seed == 1)]
    found = paired_gain(stage_scores(lonely, "sft"), stage_scores(lonely, "dpo"))
    assert found is not None
    assert found.num_models == 3
    nobody = table.loc[table.stage != "sft"]
    assert paired_gain(stage_scores(nobody, "sft"), stage_scores(nobody, "dpo")) is None


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
    of_main = Collapse(weights="p0-r1", seed=0, alignment=None, reasons=("it fell",))
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


def test_the_best_after_another_alignment_can_be_chosen(
    whole: pd.DataFrame, tmp_path: Path
) -> None:
    for fingerprint in whole.fingerprint:
        (tmp_path / "dpo" / fingerprint).mkdir(parents=True, exist_ok=True)
    main, other = (choose(whole, "x", tmp_path, "", name) for name in (None, "ipo"))
    assert (main.weights, other.weights) == ("p0.2-r1", "p0-r1")
    assert (main.model.objective, other.model.objective) == ("dpo", "ipo")
    assert (other.model.alignment, other.model.beta) == ("ipo", 0.3)
    assert other.model.fingerprint.startswith("ipo(0, 1)")
    with pytest.raises(InputError, match="has no alignment 'kto'; it has dpo, ipo, simpo"):
        choose(whole, "x", tmp_path, "", "kto")


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
