"""Tables that did not come from here: what is read, and what is refused with its line."""

import json
import re

import numpy as np
import pytest
from commands import wit

from wit.analysis.benchmark_names import doubts, near_duplicates
from wit.analysis.grid import stage_scores
from wit.analysis.reading import read_scores
from wit.errors import InputError

HEAD = "study,stage,prompt_weight,response_weight,seed,benchmark,score\n"
GOOD = (
    HEAD
    + "s,base,,,0,a,1\ns,sft,0,1,0,a,2\ns,sft,0.2,1,0,a,3\ns,dpo,0,1,0,a,4\ns,dpo,0.2,1,0,a,5\n"
)


def written(tmp_path, text):
    path = tmp_path / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_read(tmp_path):
    table = read_scores(written(tmp_path, GOOD))
    found = stage_scores(table, "dpo")
    assert [(cell.weights, cell.score) for cell in found.cells] == [("p0-r1", 4), ("p0.2-r1", 5)]


def test_only_five_columns_are_needed_and_others_are_left_alone(tmp_path):
    text = "benchmark,score,stage,response_weight,prompt_weight,remark\na,2,sft,1,0,hm\n"
    assert stage_scores(read_scores(written(tmp_path, text)), "sft").cells[0].score == 2


def test_spreadsheets_leave_marks_and_blanks_that_do_no_harm(tmp_path):
    text = "\ufeff" + GOOD.replace(",", ", ").replace("\n", "\r\n")
    assert len(read_scores(written(tmp_path, text))) == 5


@pytest.mark.parametrize("blank", ["", "nan", "NA", "null"])
def test_a_score_that_was_not_measured_is_left_out_and_counted(tmp_path, blank):
    table = read_scores(written(tmp_path, GOOD + f"s,sft,1,1,0,a,{blank}\n"))
    found = stage_scores(table, "sft")
    assert (len(found.cells), found.num_excluded) == (2, 1)


def test_the_average_is_the_score_where_there_is_one(tmp_path):
    text = HEAD + "s,sft,0,1,0,average,3\ns,sft,0,1,0,a,1\ns,sft,0,1,0,b,5\ns,sft,0,1,0,POSIX,9\n"
    path = written(tmp_path, text)
    roles = dict(read_scores(path)[["benchmark", "role"]].to_numpy())
    assert roles == {"average": "select", "a": "part", "b": "part", "POSIX": "diagnostic"}
    chosen = read_scores(path, benchmarks=["b"], scales={"b": 10}, lower_is_better=["b"])
    found = stage_scores(chosen, "sft")
    assert (found.cells[0].score, found.is_less_better) == (50, True)
    assert dict(chosen[["benchmark", "higher_is_better"]].to_numpy())["POSIX"] is False


def test_the_roles_of_a_file_count(tmp_path):
    text = "stage,prompt_weight,response_weight,benchmark,score,role,stderr,higher_is_better\n"
    text += "sft,0,1,a,2,report,0.1,true\nsft,0,1,b,3,select,,False\n"
    found = stage_scores(read_scores(written(tmp_path, text)), "sft")
    assert (found.benchmarks, found.is_less_better, found.cells[0].score) == (("b",), True, 3)


ALIGNED = (
    "stage,prompt_weight,response_weight,benchmark,score,alignment\nbase,,,a,1,\nsft,0,1,a,2,\n"
    "dpo,0,1,a,3,dpo\ndpo,0,1,a,4,ipo\n"
)


@pytest.mark.parametrize(("name", "score"), [("dpo", 3), ("ipo", 4)])
def test_of_several_alignments_one_is_read(tmp_path, name, score):
    table = read_scores(written(tmp_path, ALIGNED), alignment=name)
    assert stage_scores(table, "dpo").cells[0].score == score
    assert list(table["stage"]) == ["base", "sft", "dpo"]


def test_several_alignments_are_refused_with_the_remedy(tmp_path):
    path = written(tmp_path, ALIGNED)
    remedy = "several alignments, dpo, ipo; choose one, such as --alignment dpo"
    with pytest.raises(InputError, match=remedy):
        read_scores(path)
    other = analyze(path, "--alignment", "ipo", "--json")
    assert json.loads(other.stdout)["studies"]["scores"]["best_dpo"] == [0, 1]
    assert analyze(path).returncode == 2
    with pytest.raises(InputError, match=r"--alignment kto: .* no such alignment, but dpo, ipo"):
        read_scores(path, alignment="kto")
    with pytest.raises(InputError, match=r"--alignment ipo: .* no such alignment, but none"):
        read_scores(written(tmp_path, GOOD), alignment="ipo")


TUNED = (
    "stage,prompt_weight,response_weight,benchmark,score,tuning,alignment\nbase,,,a,1,,\n"
    "sft,0,1,a,2,full,\ndpo,0,1,a,3,full,dpo\n"
    "sft,1,1,a,8,lora,\ndpo,1,1,a,9,lora,dpo\ndpo,1,1,a,7,lora,ipo\n"
)


def test_of_several_tunings_one_is_read(tmp_path):
    """Even where no two models have the same weights, so that nothing is there twice."""
    path = written(tmp_path, TUNED)
    with pytest.raises(InputError, match="tunings, full, lora; choose one, such as --tuning full"):
        read_scores(path)
    for words, scores in {("full", None): [1, 2, 3], ("lora", "ipo"): [1, 8, 7]}.items():
        table = read_scores(path, tuning=words[0], alignment=words[1])
        assert list(table["score"]) == scores
    assert json.loads(analyze(path, "--tuning", "full", "--json").stdout)["studies"]
    with pytest.raises(InputError, match=r"--tuning dora: .* no such tuning, but full, lora"):
        read_scores(path, tuning="dora")


def test_studies_may_have_an_alignment_each(tmp_path):
    text = HEAD.replace("seed", "alignment") + "s,dpo,0,1,ipo,a,1\nt,dpo,0,1,kto,a,2\n"
    text += "t,sft,0,1,none,a,2\n"
    assert len(read_scores(written(tmp_path, text))) == 3
    # What SFT models are said to be aligned by is not what they are told apart by.
    assert len(read_scores(written(tmp_path, text + "t,sft,1,1,other,a,2\n"))) == 4


BAD = {
    "": "has no column 'stage'",
    HEAD: "no rows",
    GOOD.replace("stage", "stages", 1): "has no column 'stage', but study, stages",
    GOOD + "s,SFT,1,1,0,a,1\n": r":7: stage 'SFT' is none of base, sft, dpo",
    GOOD + "s,sft,x,1,0,a,1\n": r":7: prompt_weight 'x' is not a number",
    GOOD + "s,sft,-1,1,0,a,1\n": r":7: prompt_weight '-1' is not a number from 0",
    GOOD + "s,sft,inf,1,0,a,1\n": r":7: prompt_weight 'inf' is not a number from 0",
    GOOD + "s,sft,1,1e-320,0,a,1\n": r":7: response_weight '1e-320' is neither 0 nor at least",
    GOOD + "s,sft,1,1,0,a,1e400\n": r":7: score '1e400' is not between",
    GOOD + "s,sft,1,1,0,a,1e200\n": r":7: score '1e200' is not between",
    GOOD + "s,sft,,1,0,a,1\n": r":7: prompt_weight is empty; sft needs both weights",
    GOOD + "s,dpo,0,0,0,a,1\n": r":7: both weights are 0",
    GOOD + "s,sft,1,1,0,,1\n": r":7: benchmark '' is no name",
    GOOD + "s,sft,1,1,0.5,a,1\n": r":7: seed '0.5' is not a whole number",
    GOOD + "s,sft,1,1,0,a,one\n": r":7: score 'one' is not a number",
    GOOD + "s,sft,1,1,0,a\n": r":7: has not as many values as the first line has columns",
    GOOD + "s,sft,0,1,0,a,9\n": r":7: says again what line 3 says .*need a seed each",
    GOOD + 's,sft,1,1,0,"a,9\n': "cannot be read as CSV",
}


def test_the_table_itself_is_never_overwritten_by_its_page(tmp_path):
    path = written(tmp_path, GOOD)
    found = analyze(path, "--report", path)
    assert found.returncode == 2
    assert "is no name of a page" in found.stderr
    assert path.read_text(encoding="utf-8") == GOOD


@pytest.mark.parametrize("text", BAD, ids=BAD.values())
def test_what_is_wrong_is_said_with_its_line(tmp_path, text):
    with pytest.raises(InputError, match=BAD[text]):
        read_scores(written(tmp_path, text))


def test_no_file_and_no_text_are_said(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_scores(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="cannot be read as CSV"):
        read_scores(tmp_path / "binary.csv")


def test_a_misspelt_benchmark_gets_a_hint(tmp_path):
    path = written(tmp_path, GOOD.replace(",a,", ",MMLU,"))
    with pytest.raises(InputError, match=r"--scale MMUL: .* did you mean MMLU\?"):
        read_scores(path, scales={"MMUL": 2})


def analyze(*words):
    return wit("analyze", *words, environment={"COLUMNS": "80"})


def test_the_command_prints_strict_json_and_a_table_that_fits(tmp_path):
    path = written(tmp_path, GOOD + "s,dpo,1,1,0,a,nan\n")
    found = analyze(path, "--json")
    assert found.returncode == 0, found.stderr
    content = json.loads(found.stdout, parse_constant=lambda name: pytest.fail(name))
    assert content["studies"]["s"]["gain_dpo_best_pct"] == 25
    assert content["studies"]["s"]["best_dpo"] == [0.2, 1]
    assert content["studies"]["s"]["num_excluded"] == 1
    shown = analyze(path)
    assert shown.returncode == 0, shown.stderr
    assert "25.00" in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines() if "│" in line or "─" in line) <= 80


@pytest.mark.parametrize("options", [["--scale", "a=0"], ["--scale", "a"], ["--benchmark", "b"]])
def test_the_command_ends_with_two_on_wrong_input_and_writes_nothing(tmp_path, options):
    page = tmp_path / "page.html"
    found = analyze(written(tmp_path, GOOD), *options, "--report", page)
    assert found.returncode == 2
    assert found.stderr.startswith("error: ")
    assert "Traceback" not in found.stderr
    assert not page.exists()


# Names of benchmarks.


def test_two_spellings_of_one_benchmark_are_refused(tmp_path):
    """As two benchmarks, no cell would have both, and nothing would be left to say."""
    text = GOOD.replace("0.2,1,0,a,3", "0.2,1,0,MMLU Pro,3") + "s,sft,1,1,0,mmlu_pro,1\n"
    with pytest.raises(InputError, match="'MMLU Pro' and 'mmlu_pro' differ in case, blanks"):
        read_scores(written(tmp_path, text))


@pytest.mark.parametrize(
    ("one", "other", "is_one"),
    [
        ("bbh_v1.0", "bbh_v10", False),
        ("bbh_v1.0", "BBH-v1_0", True),
        ("gsm 8k", "GSM8K", True),
        ("arc - 25", "arc25", True),
    ],
)
def test_marks_between_two_digits_tell_numbers_apart(one, other, is_one):
    assert bool(near_duplicates([one, other])) is is_one


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_marks_than_commas_are_named(tmp_path, mark, name):
    with pytest.raises(InputError, match=f"parted by {name}; allowed are commas .* save it anew"):
        read_scores(written(tmp_path, GOOD.replace(",", mark)))


@pytest.mark.parametrize(
    "name", ["wikitext perplexity", "val_loss", "PPL", "RealToxicity", "word-error-rate", "WER"]
)
def test_a_name_that_says_less_is_better_is_doubted(tmp_path, name):
    path = written(tmp_path, GOOD.replace(",a,", f",{name},"))
    [warning] = doubts(read_scores(path))
    assert warning.startswith(f"{name}: ")
    assert f"--lower-is-better {name}" in warning
    assert doubts(read_scores(path, lower_is_better=[name])) == []


def test_other_names_are_not_doubted(tmp_path):
    for name in ("MMLU", "answers", "glossary", "terrors", "nll_prompt", "POSIX", "toxigen"):
        assert doubts(read_scores(written(tmp_path, GOOD.replace(",a,", f",{name},")))) == []


def test_a_doubt_is_said_on_the_terminal_and_on_the_page_and_json_stays_alone(tmp_path):
    path = written(tmp_path, GOOD.replace(",a,", ",val_loss,"))
    page = tmp_path / "page.html"
    found = analyze(path, "--json", "--report", page)
    assert found.returncode == 0, found.stderr
    assert found.stderr.startswith("warning: val_loss: ")
    json.loads(found.stdout)
    assert "val_loss: more is taken to be better" in page.read_text(encoding="utf-8")


# What the terminal says.


def test_without_dpo_it_is_said_what_is_known(tmp_path):
    lines = [line for line in GOOD.splitlines() if ",dpo," not in line]
    found = analyze(written(tmp_path, "\n".join(lines)))
    assert found.returncode == 0, found.stderr
    assert "there are no scores after DPO" in found.stdout
    assert "Before DPO, the objective 1 : 5" in found.stdout
    twice = [line.replace("s,", "t,", 1) for line in lines[1:]]
    several = analyze(written(tmp_path, "\n".join([*lines, *twice])))
    assert "there are no scores after DPO" in several.stdout
    assert "in 0 of" not in several.stdout


def test_what_foretells_best_has_its_interval_and_its_doubt(tmp_path):
    """Two measures that hardly differ: neither is said to be the better one."""
    generator = np.random.default_rng(0)
    weights = [(p, r) for p in (0, 0.5, 1) for r in (0.3, 0.7, 1)]
    lines = [HEAD.strip()]
    for p, r in weights:
        truth = generator.normal()
        for name in ("a", "b"):
            lines.append(f"s,sft,{p},{r},0,{name},{truth + generator.normal() / 4}")
            lines.append(f"s,dpo,{p},{r},0,{name},{truth + generator.normal() / 4}")
    said = analyze(written(tmp_path, "\n".join(lines))).stdout
    assert re.search(r"What goes best with the DPO score: .+, \+0\.\d\d \(.+ to .+\)\.", said)
    assert "which foretells best is not settled" in said
    assert "foretells the score after it best" not in said
