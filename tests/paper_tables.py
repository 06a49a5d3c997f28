"""The tables of docs/paper-reanalysis.md, made from an analysis of the paper's scores."""

from statistics import median

from wit.analysis.analyse import Analysis
from wit.analysis.studies_findings import number, with_interval
from wit.analysis.studies_numbers import (
    apart,
    chance_gain,
    leads_of,
    part_means,
    signal_means,
    verdict,
)

SLOPE_RAYS = (
    "1 : 5",
    "1 : 4",
    "1 : 3",
    "1 : 2",
    "1 : 1",
    "2 : 1",
    "3 : 1",
    "4 : 1",
    "5 : 1",
    "1 : 0",
)
Table = list[list[str]]


def beyond(found: Analysis, without: Analysis) -> Table:
    rows = []
    for cells, analysis in (("all 35", found), ("the 30", without)):
        stages = [apart(analysis, stage) for stage in ("sft", "dpo")]
        name = f"noise of {cells} cells" + " with response loss" * (analysis is without)
        for word in ("better", "worse"):
            counts = [f"{len(getattr(one, word))} of {one.num_studies}" for one in stages]
            rows.append([f"some ratio but 1 : 0 is {word}, {name}", *counts])
    counts = [f"{num_with_a_loser(found, stage)} of 15" for stage in ("sft", "dpo")]
    rows.insert(2, ["some ratio is worse, 1 : 0 counted, noise of all 35 cells", *counts])
    return rows


def num_with_a_loser(found: Analysis, stage: str) -> int:
    """Settings in which any ratio, also 1 : 0, is worse than instruction tuning."""
    count = 0
    for study in found.studies.values():
        by_ray = getattr(study, stage)
        usual = next(ray for ray in by_ray.rays if ray.ray == "0 : 1")
        count += any(
            usual.score - ray.score > by_ray.from_usual[ray.ray]
            for ray in by_ray.rays
            if ray != usual
        )
    return count


def choosing(found: Analysis) -> Table:
    stages = (found.sft, found.dpo)
    rows = {
        "the best cell of each setting": [stage.oracle_cell for stage in stages],
        "what noise alone would show so": [chance_gain(found, s.stage) for s in stages],
        "one cell for all settings": [stage.cells[0].gain_pct for stage in stages],
        "the cell that is best on the other 14": [s.held_out_cell.gain_pct for s in stages],
        "the best ratio of each setting": [stage.oracle_ray for stage in stages],
        "one ratio for all settings": [stage.rays[0].gain_pct for stage in stages],
        "the ratio that is best on the other 14": [s.held_out_ray.gain_pct for s in stages],
    }
    return [[name, *map(with_interval, both)] for name, both in rows.items()]


def benchmarks(found: Analysis) -> Table:
    means = part_means(found, "sft")
    rows = [["all five", with_interval(means.together), "the same"]]
    return rows + [
        [f"without {p.benchmark}", with_interval(p.without), with_interval(p.chosen_without)]
        for p in means.parts
    ]


def after(found: Analysis) -> Table:
    overall = found.overall
    regrets = [study.relation.regret for study in found.studies.values()]
    kinds = [verdict(study) for study in found.studies.values()]
    same = sum(study.relation.same_best for study in found.studies.values())
    return [
        ["DPO from the best SFT cell gains", with_interval(overall["gain_dpo_at_sft_best_pct"])],
        ["the best cell is the same before and after", f"{same} of 15"],
        ["mean regret, points", with_interval(overall["regret"], "", is_signed=False)],
        ["median regret, points", number(median(regrets))],
        ["Spearman, 35 cells", with_interval(overall["spearman_all"], "")],
        ["Spearman, 30 cells", with_interval(overall["spearman_response_positive"], "")],
        ["no difference can be told", f"{kinds.count('untold')} of 15"],
    ]


def rays(found: Analysis) -> Table:
    by_name = [{ray.name: ray for ray in stage.rays} for stage in (found.sft, found.dpo)]
    return [[r, *(with_interval(rays[r].gain_pct) for rays in by_name)] for r in SLOPE_RAYS]


def early(found: Analysis) -> Table:
    return [
        [s.name, with_interval(s.spearman, ""), with_interval(s.regret, "", is_signed=False)]
        for s in signal_means(found)
    ]


def settings(found: Analysis) -> Table:
    rows = []
    for name, study in found.studies.items():
        leads, relation = leads_of(study), study.relation
        gains = [f"{number(lead.gain.percent, is_signed=True)}{mark(lead)}" for lead in leads]
        best = [
            f"({c.prompt_weight:g}, {c.response_weight:g})" for c in (leads[0].cell, leads[1].cell)
        ]
        noise = [number(stage.noise_sd) for stage in (study.sft, study.dpo)]
        spearman = number(study.figures["spearman_response_positive"])
        rows.append([name, *best, *gains, *noise, spearman, number(relation.regret)])
    return rows


def mark(lead) -> str:
    return " ○" if lead.is_beyond is False else ""
