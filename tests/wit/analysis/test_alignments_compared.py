"""Several alignments beside each other: what each gains, and whether the best weights stay best."""

import math
from pathlib import Path

import pandas as pd
import pytest
from pages import SpacedPage
from reported import STUDY
from several_alignments import HOW, table_of

from wit.analysis.alignments import compare_alignments, paired_gain
from wit.analysis.comparison import compare
from wit.analysis.grid import stage_scores
from wit.analysis.report import Extras, write_report
from wit.analysis.scores import alignments_in, of_alignment
from wit.analysis.selection import recommend
from wit.choice import choose
from wit.errors import InputError
from wit.lineage.headline import result_of


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
    assert found.sentence.startswith(
        "The best SFT weights, p0.2-r1, are the best after dpo and simpo; worse than the best, "
        "beyond the noise, after ipo. Most is gained after "
    )
    both = compare_alignments(table_of("dpo", "simpo"))
    assert both is not None
    assert both.sentence.startswith(
        "The best SFT weights, p0.2-r1, are the best after every one of the 2 alignments. "
    )


def test_the_best_alignment_is_told_from_the_next_on_the_same_sft_models(
    whole: pd.DataFrame,
) -> None:
    """IPO over DPO: 0.4, 0 and 0, each twice: mean 0.1333, SD 0.2066, t(5) 2.571."""

    def most(table: pd.DataFrame) -> str:
        found = compare_alignments(table)
        assert found is not None
        return found.sentence.partition(" Most is ")[2]

    assert most(whole) == (
        "gained after ipo, but that is within the noise of dpo (+0.133 ± 0.217)."
    )
    sure = whole.copy()
    sure.loc[sure.alignment == "ipo", "score"] += 0.2
    assert most(sure) == "gained after ipo, +0.333 ± 0.217 beside dpo."
    one = sure.loc[(sure.seed == 0) & sure.weights.isin(["p0-r1", "base"])].assign(stderr=math.nan)
    assert most(one).endswith("beside dpo; the noise is not known.")


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
    assert found.sentence.startswith(
        "The best SFT weights, p0.2-r1, are the best after dpo; worse than the best, with nothing "
        "known of the noise, after ipo. "
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
