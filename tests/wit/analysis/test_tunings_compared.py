"""Several ways of SFT beside each other: what each learned and kept, which weights are best."""

import io
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from pages import SpacedPage
from reported import STUDY, failed, row
from rich.console import Console
from several_tunings import MEANS, SHIFTS, WORSE, study_of, table_of

from wit.analysis.analyse import analyse
from wit.analysis.comparison import compare
from wit.analysis.grid import stage_scores
from wit.analysis.report import Extras, write_report
from wit.analysis.report_tables import problems
from wit.analysis.scores import by_tuning, of_alignment, of_tuning, tunings_in, with_objectives
from wit.analysis.selection import recommend
from wit.analysis.summary import cells_table, markdown_summary
from wit.analysis.tunings import compare_tunings
from wit.analysis.tunings_section import sentences_of, tunings_section
from wit.choice import choose
from wit.config import Study
from wit.display import comparison_as_json, show_comparison
from wit.errors import InputError
from wit.lineage.headline import result_of
from wit.score_names import TEXT_DRIFT


@pytest.fixture
def whole() -> pd.DataFrame:
    return table_of(*MEANS)


def test_every_number_of_one_tuning_is_as_if_it_were_alone(whole: pd.DataFrame) -> None:
    assert tunings_in(whole) == [*MEANS]
    for name, of_one in by_tuning(whole).items():
        alone = table_of(str(name))
        assert of_one.reset_index(drop=True).equals(alone)
        plain = of_alignment(alone.drop(columns="tuning"))
        assert recommend(of_alignment(of_one)) == recommend(plain)
        assert analyse(of_alignment(of_one)) == analyse(plain)
    main = study_of("full-e1")
    assert result_of(table_of("full-e1"), main).recommendation == (
        result_of(whole, study_of(*MEANS)).recommendation
    )


def test_a_model_of_which_nobody_knows_the_tuning_is_of_none(whole: pd.DataFrame) -> None:
    """As of a run whose knobs another wit wrote down."""
    stray = row("sft", (0, 1), 7, 0.9, tuning=None, cell="p0-r1-s7")
    for name, of_one in by_tuning(pd.concat([whole, pd.DataFrame([stray])])).items():
        assert list(of_one["cell"]) == list(of_tuning(whole, name)["cell"])


def test_models_of_several_tunings_make_no_mean(whole: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="tunings full-e1, full-e2, lora-e1, lora-e2: choose one"):
        stage_scores(of_alignment(whole), "sft")


def test_a_table_that_knows_no_tunings_is_of_one() -> None:
    table = table_of("full-e1").drop(columns="tuning")
    assert tunings_in(table) == []
    assert of_tuning(table) is table
    assert compare_tunings(table, None) is None
    assert compare_tunings(table_of("full-e1"), None) is None
    assert tunings_section(table, None) is None


def test_what_was_learned_and_kept_is_the_mean_over_seeds_with_their_pooled_spread(
    whole: pd.DataFrame,
) -> None:
    """Deviations of two seeds are 0.02 / √2 three times, and 0.04 / √2; t(4) is 2.776."""
    found = compare_tunings(whole, study_of(*MEANS))
    assert found is not None
    assert (found.weights, found.learned_is, found.kept_is) == ("p0-r1", "unseen", "cloze")
    points = {(point.tuning, point.stage): point for point in found.points}
    assert len(points) == 2 * len(MEANS)
    deviation = math.sqrt((3 * 0.02**2 + 0.04**2) / 2 / 4)
    for (name, stage), point in points.items():
        learned, kept = (mean + SHIFTS[name] / 2 for mean in MEANS[name])
        assert point.kept is not None
        assert point.learned.value == pytest.approx(learned + (0.05 if stage == "dpo" else 0))
        assert point.kept.value == pytest.approx(kept)
        for score in (point.learned, point.kept):
            assert score.half_width == pytest.approx(2.776445 * deviation / math.sqrt(2))
        assert (point.learned.num_seeds, point.num_epochs) == (2, int(name[-1]))
    assert found.base is not None
    assert found.base.kept is not None
    assert (found.base.learned.value, found.base.kept.value) == (0.05, 0.9)


def test_a_curve_is_compared_with_the_main_one_by_seed(whole: pd.DataFrame) -> None:
    """Differences of seed 0: (-0.1 - 0.2) / 2 and (0.2 + 0.3) / 2; of seed 1 0.01 more.

    t(1) is 12.706, and half of what two values differ by is their standard error.
    """
    found = compare_tunings(whole, study_of(*MEANS))
    assert found is not None
    sft, dpo = found.differences
    assert (sft.curve, sft.stage, sft.epochs) == ("lora", "sft", (1, 2))
    assert sft.kept is not None
    assert sft.learned.value == pytest.approx(-0.145)
    assert sft.kept.value == pytest.approx(0.255)
    for score in (sft.learned, sft.kept, dpo.learned):
        assert score.half_width == pytest.approx(12.7062 * 0.005, rel=1e-4)
    assert dpo.learned.value == pytest.approx(-0.145)
    said = sentences_of(found)
    assert said[0] == (
        "After SFT, beside full, lora learned 0.145 ± 0.064 less and kept 0.255 ± 0.064 more "
        "(2 seeds, mean over 1 and 2 epochs)."
    )


def test_of_one_seed_no_noise_is_known(whole: pd.DataFrame) -> None:
    found = compare_tunings(whole.loc[whole["seed"] == 0].drop(columns="stderr"), None)
    assert found is not None
    assert {one.learned.half_width for one in found.differences} == {None}
    assert {point.learned.half_width for point in found.points} == {None}
    assert "the noise is not known" in sentences_of(found)[0]


def test_a_seed_that_one_of_them_lacks_is_in_no_difference(whole: pd.DataFrame) -> None:
    lacks = (whole["tuning"] == "lora-e2") & (whole["seed"] == 1)
    found = compare_tunings(whole.loc[~lacks], study_of(*MEANS))
    assert found is not None
    assert {one.learned.num_seeds for one in found.differences} == {1}
    assert found.differences[0].learned.value == pytest.approx(-0.15)


def test_seeds_of_what_was_kept_are_said_where_they_are_others(whole: pd.DataFrame) -> None:
    """As of a study whose benchmark of forgetting failed once: what is known of it is less."""
    lacks = (whole["benchmark"] == "cloze") & (whole["seed"] == 1) & (whole["tuning"] == "lora-e1")
    found = compare_tunings(whole.loc[~lacks], study_of(*MEANS))
    assert found is not None
    sft = found.differences[0]
    assert sft.kept is not None
    assert (sft.learned.num_seeds, sft.kept.num_seeds) == (2, 1)
    for said in sentences_of(found)[:2]:
        assert said.endswith("(learned: 2 seeds, kept: 1 seed, mean over 1 and 2 epochs).")
    section = tunings_section(whole.loc[~lacks], study_of(*MEANS))
    assert section is not None
    place = section.numbers.columns.index("seeds")
    assert [row[place] for row in section.numbers.rows] == ["", "2", "2", "1 to 2", "2"]
    chart = json.dumps(section.figures["learning-dpo"])
    assert chart.count("learned: 2 seeds, kept: 1 seed") == 1
    assert chart.count("<br>2 seeds") == 3


def test_without_a_benchmark_that_says_so_plain_text_says_what_was_kept(
    whole: pd.DataFrame,
) -> None:
    drift = whole["benchmark"] == "cloze"
    of_text = {"benchmark": TEXT_DRIFT, "role": "diagnostic", "higher_is_better": False}
    table = whole.loc[~(drift & (whole["stage"] == "base"))].copy()
    table.loc[table["benchmark"] == "cloze", [*of_text]] = [*of_text.values()]
    found = compare_tunings(table, None)
    assert found is not None
    assert found.base is not None
    assert found.base.kept is not None
    assert (found.kept_is, found.base.kept.value) == (TEXT_DRIFT, 0)
    assert found.points[0].kept is not None
    assert found.points[0].kept.value == pytest.approx(-0.41)
    bare = compare_tunings(table.loc[table["benchmark"] != TEXT_DRIFT], None)
    assert bare is not None
    assert all(point.kept is None for point in bare.points)
    section = tunings_section(table.loc[table["benchmark"] != TEXT_DRIFT], None)
    assert section is not None
    assert section.figures == {}


def test_it_says_whether_the_best_weights_are_the_same(whole: pd.DataFrame) -> None:
    found = compare_tunings(whole, study_of(*MEANS))
    assert found is not None
    best = {one.tuning: one.weights for one in found.best_weights}
    assert best == {name: "p0-r1" if WORSE[name] > 0 else "p0.2-r1" for name in MEANS}
    assert "The best weights after DPO differ:" in sentences_of(found)[-1]
    same = compare_tunings(table_of("full-e1", "full-e2"), None)
    assert same is not None
    assert sentences_of(same)[-1].endswith("are the same after every way of SFT: p0-r1.")


def test_best_weights_that_differ_within_the_noise_are_said_to(whole: pd.DataFrame) -> None:
    """Items that err by 0.2 tell nothing apart."""
    found = compare_tunings(whole.assign(stderr=0.2), study_of(*MEANS))
    assert found is not None
    said = sentences_of(found)[-1]
    assert "The best weights after DPO differ within the noise: p0-r1 (full-e1), " in said
    assert said.endswith("; 0 : 1 is the best, or cannot be told from it, after every way of SFT.")


def test_a_way_of_sft_that_has_no_best_weights_yet_is_not_counted(whole: pd.DataFrame) -> None:
    lacks = (whole["tuning"] == "lora-e2") & (whole["stage"] == "dpo")
    found = compare_tunings(whole.loc[~lacks], study_of(*MEANS))
    assert found is not None
    said = "The best weights after DPO are the same after 3 of 4 ways of SFT: p0-r1."
    assert sentences_of(found)[-1] == said


def test_objectives_are_those_of_each_tuning(whole: pd.DataFrame) -> None:
    """Where one of them clips, its cells of one ratio are no objective."""
    tunings = {"full-e1": {}, "lora-e1": {"max_grad_norm": 1.0}}
    weights = [{"prompt": 0, "response": 1}, {"prompt": 0, "response": 0.5}]
    study = Study.model_validate(STUDY.stated() | {"weights": weights, "tunings": tunings})
    rows = [
        row("sft", (0, r), 0, 0.5, tuning=name, cell=f"p0-r{r:g}-s0@{name}")
        for name in tunings
        for r in (1, 0.5)
    ]
    found = with_objectives(pd.DataFrame(rows), study)
    names = found.groupby("tuning")["ray"].nunique().to_dict()
    assert names == {"full-e1": 1, "lora-e1": 2}


def test_compare_lists_the_cells_of_all_tunings(whole: pd.DataFrame) -> None:
    cells = compare(whole)
    assert [cell.cell for cell in cells if cell.weights == "base"] == ["base"]
    assert len(cells) == 1 + len(MEANS) * 4
    found = {cell["cell"]: cell for cell in json.loads(json.dumps(comparison_as_json(whole)))}
    cell = found["p0-r1-s1@lora-e1"]
    assert cell["tuning"] == "lora-e1"
    assert cell["models"]["sft"]["score"] == pytest.approx(0.54)
    shown = io.StringIO()
    show_comparison(Console(file=shown, width=100), whole, study_of(*MEANS))
    said = " ".join(shown.getvalue().split())
    assert "After SFT, beside full, lora learned" in said
    assert "Of tuning full-e1:" in said


def test_choose_takes_the_best_of_the_tuning_that_is_asked_for(
    whole: pd.DataFrame, tmp_path: Path
) -> None:
    for fingerprint in whole["fingerprint"]:
        (tmp_path / "dpo" / fingerprint / "model").mkdir(parents=True, exist_ok=True)
    main, other = (choose(whole, "x", tmp_path, "", tuning=name) for name in (None, "lora-e2"))
    assert (main.tuning, main.weights, main.num_tunings) == ("full-e1", "p0-r1", 4)
    assert (other.tuning, other.weights) == ("lora-e2", "p0.2-r1")
    assert other.model.fingerprint.startswith("lora-e2")
    with pytest.raises(InputError, match="has no tuning 'qlora'; it has full-e1"):
        choose(whole, "x", tmp_path, "", tuning="qlora")


def test_what_failed_is_named_with_its_tuning(whole: pd.DataFrame) -> None:
    broken = failed("sft", (0, 1), "it broke") | {"seed": 2, "cell": "p0-r1-s2@lora-e1"}
    table = pd.concat([whole, pd.DataFrame([broken | {"tuning": "lora-e1"}])], ignore_index=True)
    [problem] = problems(table)
    assert (problem.cell, problem.stage, problem.error) == ("p0-r1-s2@lora-e1", "sft", "it broke")
    summary = markdown_summary(table, tmp := Path("x.html"), "sqlite://", study_of(*MEANS))
    assert str(tmp) in summary
    assert "p0-r1-s2@lora-e1" in summary
    assert {line["cell"] for line in cells_table(table)} >= {"p0-r1-s0@lora-e2", "base"}


def test_a_study_that_names_no_tunings_has_none_of_their_problems(whole: pd.DataFrame) -> None:
    """Its column of tunings is empty, and one empty value is not equal to another."""
    kept = whole["benchmark"] == "cloze"
    both = whole.assign(role="select").loc[whole["tuning"].isna() | (whole["tuning"] == "full-e1")]
    for tuning in (None, math.nan):
        assert problems(both.assign(tuning=tuning)) == []
        lacks = both.loc[~(kept & (both["seed"] == 1))].assign(tuning=tuning)
        assert {one.error for one in problems(lacks)} == {"no score on cloze"}


def test_the_report_draws_learned_over_kept(whole: pd.DataFrame, tmp_path: Path) -> None:
    out = write_report(whole, study_of(*MEANS), Extras(), tmp_path / "page.html")
    page = SpacedPage(out)
    assert "Ways of SFT: what is learned, what is kept" in page.text
    assert "After SFT, beside full, lora learned 0.145" in page.text
    figures = {a["id"]: json.loads(t) for a, t in page.scripts if a.get("type")}
    for stage in ("sft", "dpo"):
        full, lora, base = figures[f"figure-learning-{stage}"]["data"]
        assert (full["name"], full["text"]) == ("full", ["1", "2"])
        assert lora["x"] == pytest.approx([0.62, 0.51])
        assert base["name"] == "base"
    alone = write_report(table_of("full-e1"), study_of("full-e1"), Extras(), tmp_path / "one.html")
    assert "Ways of SFT" not in alone.read_text(encoding="utf-8")
