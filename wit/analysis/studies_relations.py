"""How scores before DPO relate to those after it over several studies, and what they consist of."""

from statistics import median

from wit.analysis.analyse import Analysis, StudyAnalysis
from wit.analysis.digits import number
from wit.analysis.studies_charts import GAIN, MEAN, Chart, Line, Point, Section, point_of
from wit.analysis.studies_numbers import part_means, point_digits, signal_means
from wit.analysis.studies_words import STAGES, luck_note, ratio_note, with_interval

CHOSEN = ("cell chosen on all", "cell chosen on those left")


def ranks(analysis: Analysis) -> Section | None:
    """Rank correlations by study."""
    lines = [Line(name, _rank_points(study)) for name, study in analysis.studies.items()]
    lines = [line for line in lines if any(line.points)]
    if not lines:
        return None
    keys = ("spearman_all", "spearman_response_positive")
    means = [analysis.overall.get(key) for key in keys]
    if len(lines) > 1:
        lines.append(Line(MEAN, tuple(map(point_of, means)), is_mean=True))
    words = (
        "Spearman's rank correlation of the scores of cells before and after DPO. Cells without "
        "loss on the response are worst on both sides and lift it; without them it says how far "
        "SFT scores order the cells among which one would choose. Intervals are of scores as "
        "measured, noise included, which may lower or raise them: DPO starts from the same "
        f"checkpoint, so the luck of a run may last.{luck_note(analysis)}"
    )
    series = ("all cells", "cells with loss on the response")
    chart = Chart("ranks", "Rank correlation by study", "Spearman", series, tuple(lines))
    return Section("Does a good SFT score promise a good aligned one?", words, chart)


def _rank_points(study: StudyAnalysis) -> tuple[Point | None, ...]:
    relation = study.relation
    return tuple(point_of(f.get("spearman")) for f in (relation.all, relation.response_positive))


def regret(analysis: Analysis) -> Section | None:
    """What choosing by SFT scores costs, by study."""
    known = {
        name: study.relation
        for name, study in analysis.studies.items()
        if study.relation.regret is not None
    }
    if not known:
        return None
    lines = [
        Line(
            name,
            (
                Point(
                    found.regret or 0.0,
                    is_hollow=(found.regret or 0) <= (found.regret_half_width or 0),
                    band=found.regret_half_width,
                ),
            ),
        )
        for name, found in known.items()
    ]
    mean, digits = analysis.overall.get("regret"), point_digits(analysis)
    if len(lines) > 1:
        lines.append(Line(MEAN, (point_of(mean),), is_mean=True))
    cost = "unknown" if mean is None else with_interval(mean, "", digits, is_signed=False)
    middle = number(median(found.regret or 0.0 for found in known.values()), digits)
    count = f"{len(known)} {'study' if len(known) == 1 else 'studies'}"
    words = (
        f"The best cell is the same before and after DPO in {analysis.num_same_best} of {count}. "
        f"Points lost after DPO by choosing the cell by its SFT score: {cost} on average, {middle} "
        "in the median study. The best of many is lucky, so a regret above 0 is to be expected; "
        "grey bands and hollow marks: within the noise."
    )
    chart = Chart("regret", "Regret by study", "points lost", ("regret",), tuple(lines), digits)
    return Section("What choosing by SFT scores costs", words, chart)


def parts(analysis: Analysis) -> Section | None:
    """Which benchmark drives the gain of the best cells."""
    found = part_means(analysis, "sft") or part_means(analysis, "dpo")
    if found is None:
        return None
    lines = [Line("all benchmarks", (point_of(found.together), None), is_mean=True)]
    lines += [
        Line(f"without {p.benchmark}", (point_of(p.without), point_of(p.chosen_without)))
        for p in found.parts
    ]
    digits = point_digits(analysis)
    alone = "; ".join(
        f"{part.benchmark} {with_interval(part.alone, '', digits)}"
        for part in found.parts
        if part.alone
    )
    note = ratio_note(found)
    words = (
        f"Mean gain {STAGES[found.stage]} on the mean of all benchmarks but one: of the cell that "
        "is best on all of them, and of the cell that is best on those that are left. On one alone "
        f"the best cell gains, in points of it: {alone}. {note or ''}"
    ).strip()
    what = "Mean gain with each benchmark left out"
    chart = Chart("parts", what, GAIN, CHOSEN, tuple(lines))
    return Section("Which benchmark drives the gain", words, chart)


def signals(analysis: Analysis) -> Section | None:
    """What can be measured before DPO, and how well it foretells the score after it."""
    digits = point_digits(analysis)
    found = [signal for signal in signal_means(analysis) if signal.spearman is not None]
    if len(found) < 2:
        return None
    lines = tuple(Line(signal.name, (point_of(signal.spearman),)) for signal in found)
    costs = "; ".join(
        f"{signal.name} {with_interval(signal.regret, '', digits, is_signed=False)}"
        for signal in found
        if signal.regret
    )
    words = (
        "Mean rank correlation of what is measured after SFT with the score after DPO, over all "
        "cells; positive: better goes with better. Mean points lost by choosing the cell by it: "
        f"{costs}."
    )
    chart = Chart("signals", "Rank correlation by signal", "Spearman", ("mean",), lines)
    return Section("Early signals", words, chart)
