"""What docs/paper-reanalysis.md says of the paper's tables is what the analysis finds in them."""

import json
import math
import re
from statistics import fmean

import pandas as pd
import pytest
from commands import wit
from paper_tables import Table, after, benchmarks, beyond, choosing, early, rays, settings
from samples import ROOT

from wit.analysis.analyse import AVERAGED, Analysis, analyse, as_json
from wit.analysis.digits import number
from wit.analysis.reading import read_scores
from wit.analysis.studies_numbers import apart, lasting_luck, leads_of
from wit.analysis.studies_words import with_interval

SCORES = ROOT.parent / "shared" / "paper" / "wit_scores.csv"
DOCUMENT = ROOT / "docs" / "paper-reanalysis.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
PROSE = " ".join(TEXT.split())  # however its lines break
PRINTED_IN_PAPER = {"+6.55 %"}
MINUS = "\N{MINUS SIGN}"

needs_scores = pytest.mark.skipif(
    not SCORES.exists(), reason=f"{SCORES} is not here: the paper's figures, which are not ours"
)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    return read_scores(SCORES, scales={"MT-Bench": 10})


@pytest.fixture(scope="module")
def found(scores) -> Analysis:
    return analyse(scores)


@pytest.fixture(scope="module")
def found_with_response_loss(scores) -> Analysis:
    return analyse(scores[scores["response_weight"] != 0])


# The figures, to the printed digits.


@needs_scores
def test_the_overall_figures(found):
    overall = as_json(found)["overall"]
    assert round(overall["gain_sft_best_pct"], 2) == 6.76
    assert round(overall["gain_dpo_best_pct"], 2) == 8.01
    assert round(overall["gain_dpo_at_sft_best_pct"], 2) == 2.44
    assert round(overall["spearman_all"], 3) == 0.713
    assert round(overall["spearman_response_positive"], 3) == 0.560
    assert round(overall["regret"], 2) == 2.38
    assert round(overall["noise_sd"], 2) == 0.90
    assert (overall["same_best"], overall["num_rays"]) == (1, 21)
    best = overall["across"]["sft"]["best_fixed_cell"]
    assert overall["best_sft"] == [0.2, 0.8]
    assert round(best["gain_pct"]["value"], 2) == 2.30


@needs_scores
def test_the_command_prints_the_same(found):
    done = wit("analyze", SCORES, "--scale", "MT-Bench=10", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert set(printed) == {"studies", "overall"}
    keys = {*AVERAGED, "same_best", "best_sft", "best_dpo"}
    assert len(printed["studies"]) == 15
    for study in printed["studies"].values():
        assert keys <= set(study)
    assert keys | {"num_rays"} <= set(printed["overall"])
    assert printed == json.loads(json.dumps(as_json(found)))


# The document's tables.


def test_every_picture_is_there_and_small():
    pictures = re.findall(r"!\[(.+?)\]\((.+?)\)", TEXT)
    assert len(pictures) >= 3
    for alternative, name in pictures:
        assert len(alternative) > 30
        assert 1000 < (DOCUMENT.parent / name).stat().st_size <= 200_000


def tables_of(text: str) -> dict[str, Table]:
    """Rows of every Markdown table, by its first head."""
    found = {}
    for block in re.findall(r"(?:^\|.+\|\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        found[rows[0][0]] = rows[2:]
    return found


@needs_scores
@pytest.mark.parametrize("name", ["beyond the noise", "way of choosing", "benchmarks", "after DPO"])
def test_small_tables(name, found, found_with_response_loss):
    tables = {
        "beyond the noise": beyond(found, found_with_response_loss),
        "way of choosing": choosing(found),
        "benchmarks": benchmarks(found),
        "after DPO": after(found),
    }
    assert tables_of(TEXT)[name] == tables[name]


@needs_scores
@pytest.mark.parametrize("name", ["prompt : response", "measured before DPO", "setting"])
def test_long_tables(name, found):
    tables = {
        "prompt : response": rays(found),
        "measured before DPO": early(found),
        "setting": settings(found),
    }
    assert tables_of(TEXT)[name] == tables[name]


def test_every_percent_of_the_prose_is_in_a_table():
    prose = re.sub(r"^\|.+\|$", "", TEXT, flags=re.MULTILINE)
    cells = " ".join(cell for table in tables_of(TEXT).values() for row in table for cell in row)
    said = set(re.findall(rf"[+{MINUS}]\d+\.\d+ %(?: \[.+?\])?", prose))
    assert len(said) >= 8
    assert {figure for figure in said - PRINTED_IN_PAPER if figure not in cells} == set()


@needs_scores
def test_what_the_prose_says_of_settings(scores, found):
    """Where another ratio is better before DPO, instruction tuning had lost half of IFEval."""
    ifeval = scores[scores["benchmark"] == "IFEval"]
    base = ifeval[ifeval["stage"] == "base"].set_index("study")["score"]
    is_usual = (ifeval["prompt_weight"] == 0) & (ifeval["response_weight"] == 1)
    usual = ifeval[(ifeval["stage"] == "sft") & is_usual].set_index("study")["score"]
    collapsed = {name for name in base.index if usual[name] < base[name] / 2}
    assert set(apart(found, "sft").better) <= collapsed
    assert len(collapsed) == 8
    assert all(ratio == pytest.approx(1.25, abs=0.001) for ratio in ratios(found))
    noise = {name: [s.sft.noise_sd, s.dpo.noise_sd] for name, s in found.studies.items()}
    for stage, said in ((0, "0.90 points before DPO"), (1, "by 1.31 after it")):
        assert number(fmean(both[stage] for both in noise.values())) in said
        assert said in PROSE
    assert max(noise, key=lambda name: noise[name][1]) == "Mistral-7B/LIMA"
    assert f"by {number(noise['Mistral-7B/LIMA'][1])} points after DPO" in PROSE
    assert [(s.cells[0].name, s.cells[0].num_better) for s in (found.sft, found.dpo)] == [
        ("p0.2-r0.8", 8),
        ("p0-r0.2", 9),
    ]
    usual_wins = sum(leads_of(study).sft_best.is_usual for study in found.studies.values())
    assert usual_wins == 7
    assert "7 of the 15" in PROSE
    usual_best = [s for s in found.studies.values() if best_is_usual(s.recommendation)]
    assert len(usual_best) == 4
    cells = found.studies["Llama-3.2-1B/Alpaca-Cleaned"].grid.dpo.cells
    of_one_objective = {cell.weights: cell.score for cell in cells if cell.ray == "1 : 1"}
    assert number(of_one_objective.pop("p1-r1")) == "32.41"
    assert number(fmean(of_one_objective.values())) == "29.08"


@needs_scores
def test_what_the_prose_says_of_luck_and_regret(found):
    """Cells of one ray differ by luck only; what of it lasts through DPO shows in both scores."""
    assert f"by {with_interval(lasting_luck(found), '')}" in PROSE
    regrets = [study.relation.regret for study in found.studies.values()]
    assert f"{max(regrets) / sum(regrets):.0%}".replace("%", " %") + " of the mean" in PROSE
    assert f"is {number((sum(regrets) - max(regrets)) / 14)}. " in PROSE


@needs_scores
def test_what_the_prose_says_of_ratios(found):
    for stage in (found.sft, found.dpo):
        assert [ray.name for ray in stage.rays if ray.together and ray.together[1] < 0] == ["1 : 0"]
    alone = {ray.name for stage in (found.sft, found.dpo) for ray in stage.rays if loses(ray)}
    assert alone == {"3 : 1", "4 : 1", "1 : 0"}
    assert all(ray.gain_pct.value < 0 for ray in found.dpo.rays if is_mostly_prompt(ray.name))
    mistral = found.studies["Mistral-7B/Alpaca-Cleaned"].sft
    score = {ray.ray: ray.score for ray in mistral.rays}
    assert score["3 : 2"] - score["0 : 1"] > mistral.from_usual["3 : 2"]


def is_mostly_prompt(ray: str) -> bool:
    prompt, response = map(int, ray.split(" : "))
    return prompt >= response


def loses(ray) -> bool:
    return ray.gain_pct.high is not None and ray.gain_pct.high < 0


def best_is_usual(choice) -> bool:
    return choice.ray == choice.instruction_tuning


def ratios(found: Analysis) -> list[float]:
    return [study.sft.parts.ratio or math.nan for study in found.studies.values()]
