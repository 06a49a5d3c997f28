"""The report's sentences: what the numbers say, and what they do not."""

from collections.abc import Iterable
from typing import NamedTuple

from wit.analysis.analyse import StudyAnalysis
from wit.analysis.digits import number, plus_minus
from wit.analysis.grid import CellScore
from wit.analysis.parts import Parts
from wit.analysis.relation import Signal
from wit.analysis.report_tables import gain_in_words, interval_of
from wit.analysis.score_labels import signal_name
from wit.analysis.scores import INSTRUCTION_TUNING
from wit.analysis.selection import Recommendation, ReportScore
from wit.analysis.variance import VarianceSplit
from wit.analysis.wording import MAX_NAMED, in_words


def findings(
    study: StudyAnalysis, decimals: int, decimals_by_benchmark: dict[str, int]
) -> list[str]:
    """A sentence each on choice, rays, ranks and gains; only what is known."""
    choice = study.recommendation
    found = []
    if choice.report_scores:
        is_usual = choice.best is not None and choice.best.weights == INSTRUCTION_TUNING
        parts = [_report_phrase(s, decimals_by_benchmark, is_usual) for s in choice.report_scores]
        found.append(
            f"On the benchmarks that had no say in the choice it scores {'; '.join(parts)}."
        )
    found += _near(choice)
    found += _agreement(study, decimals)
    found += _ranks(study)
    found += _gains(study, decimals)
    return found


def _report_phrase(score: ReportScore, decimals: dict[str, int], is_usual: bool) -> str:
    digits = decimals.get(score.benchmark, 3)
    usual = score.instruction_tuning
    than = "" if usual is None or is_usual else f" (instruction tuning {number(usual, digits)})"
    return f"{plus_minus(score.score, score.half_width, digits)} on {score.benchmark}{than}"


def _near(choice: Recommendation) -> Iterable[str]:
    """How wide the choice is."""
    if not choice.within_noise or choice.num_rays < 2:
        return
    if choice.ray == choice.instruction_tuning and len(choice.within_noise) <= MAX_NAMED:
        return  # the recommendation names them
    others = choice.num_rays - 1
    near = len(choice.within_noise)
    count = f"all {others}" if near == others > 1 else f"{near} of the {others}"
    count = "the only other objective" if others == 1 else f"{count} other objectives"
    is_one = len(choice.within_noise) == 1
    ends = choice.interval
    span = ""
    if ends is not None and ends[0] != ends[1] and not is_one:
        span = f"; no objective from {ends[0]} to {ends[1]} can be told from it"
    yield capitalised(f"{count} {'is' if is_one else 'are'} within the noise of the best{span}.")


def _agreement(study: StudyAnalysis, decimals: int) -> Iterable[str]:
    relation = study.relation
    if relation.num_cells > 1 and relation.best_sft is not None and relation.best_dpo is not None:
        yield agreement(study, relation.best_sft, relation.best_dpo, decimals)


def agreement(study: StudyAnalysis, sft: CellScore, dpo: CellScore, decimals: int) -> str:
    """Whether the best cells agree, and what choosing before DPO would cost."""
    relation, grid = study.relation, study.grid
    has_more = not relation.num_cells == len(grid.sft.cells) == len(grid.dpo.cells)
    of = "of the pairs of weights with both scores, " if has_more else ""
    for name, stage in (("Before", grid.sft), ("After", grid.dpo)):
        if len({cell.score for cell in stage.cells}) == 1:
            return f"{name} DPO all weights score alike, so none is best."
    if sft.weights == dpo.weights:
        return capitalised(f"{of}the same, {in_words(sft)}, is best before DPO and after it.")
    cost, width = relation.regret or 0.0, relation.regret_half_width
    in_noise = ", which is within the noise" if width is not None and cost <= width else ""
    return capitalised(
        f"{of}before DPO {in_words(sft)} is best, after it {in_words(dpo)}: choosing by the SFT "
        f"score would cost {plus_minus(cost, width, decimals)}{in_noise}."
    )


def _ranks(study: StudyAnalysis) -> Iterable[str]:
    found = study.relation.all.get("spearman")
    if found is not None:
        yield (
            f"Ranks before and after DPO correlate by {interval_of(found)} "
            f"(Spearman, {study.relation.num_cells} pairs of weights)."
        )


def _gains(study: StudyAnalysis, decimals: int) -> Iterable[str]:
    if study.grid.dpo.is_mixed or study.grid.sft.is_mixed:
        return  # a mean of both directions has no unit to gain in
    pairs = [
        (study.gain_sft_best, "before DPO"),
        (study.gain_dpo_best, "after DPO"),
    ]
    parts = [f"{gain_in_words(g, decimals)} {when}" for g, when in pairs if g and g.absolute]
    if parts:
        yield (
            f"The best weights lead instruction tuning (0, 1) by {', '.join(parts)}; the best of "
            "many lead by some luck."
        )


class RelationWords(NamedTuple):
    """What stands beside the scatter."""

    sentence: str
    correlations: str  # why there are none; "": there are


def relation_words(study: StudyAnalysis, decimals: int) -> RelationWords:
    """The relation of SFT to DPO scores in words."""
    relation = study.relation
    if relation.best_sft is None or relation.best_dpo is None:
        return RelationWords("No pair of weights has both scores yet.", "")
    why = ""
    if relation.num_cells < 3:
        why = "Too few pairs of weights for a rank correlation."
    elif not relation.all:
        why = "No rank correlation: one of the two scores is the same for all weights."
    if relation.num_cells < 2:
        return RelationWords(
            "One pair of weights has both scores, so there is nothing to compare.", ""
        )
    sentence = agreement(study, relation.best_sft, relation.best_dpo, decimals)
    return RelationWords(sentence, why)


def signals_sentence(signals: tuple[Signal, ...]) -> str:
    """Which early measure foretells best, as far as that can be told."""
    ranked = [signal for signal in signals if signal.spearman is not None]
    if not ranked:
        return "No measure can be ranked: there are too few pairs of weights, or all score alike."
    first, *others = ranked
    found = first.spearman
    assert found is not None
    lead = f"What goes best with the DPO score: {signal_name(first.name)}, {interval_of(found)}."
    if found.low is None:
        return f"{lead} There are too few objectives for an interval, so this may be chance."
    if found.low <= 0:
        return f"{lead} The interval includes 0: it may foretell nothing."
    low = found.low
    near = [s for s in others if s.spearman and s.spearman.high and s.spearman.high >= low]
    if near:
        count = f"that of {len(near)} other" if len(near) == 1 else f"those of {len(near)} others"
        return f"{lead} Its interval overlaps {count}, so which foretells best is not settled."
    return lead


def constants_sentence(signals: tuple[Signal, ...]) -> str:
    """Which early measures are the same for all cells; empty where none is."""
    names = [signal_name(signal.name) for signal in signals if signal.is_constant]
    if not names:
        return ""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    count = "One measure is" if len(names) == 1 else f"{len(names)} measures are"
    return f"{count} the same for all cells, so left out: {', '.join(names[:MAX_NAMED])}{more}."


def parts_sentence(parts: Parts | None) -> str:
    """Whether one benchmark alone makes the gain."""
    if parts is None:
        return "The score is one benchmark, so there is no mean to take apart."
    if parts.together is None:
        return "Instruction tuning (0, 1) has no score to gain over."
    if not parts.together.absolute:
        return "The best weights gain nothing over instruction tuning on the mean."
    known = [part for part in parts.parts if part.without is not None]
    if not known:
        return "The benchmarks apart have no scores."
    total = parts.together.absolute
    driver = min(known, key=lambda part: part.without.absolute if part.without else 0.0)
    rest = driver.without.absolute if driver.without else 0.0
    when = "" if parts.stage == "dpo" else " before DPO"
    words = f"Without {driver.benchmark}, which matters most{when}, "
    if rest <= 0:
        return f"{words}nothing of the gain of {parts.best} is left."
    return f"{words}{100 * rest / total:.0f} % of the gain of {parts.best} is left."


def variance_note(split: VarianceSplit, num_seeds: int, *, is_alike: bool) -> str:
    """What the split cannot show; ``is_alike``: no two scores differ."""
    if split.rest is None:
        return "No split: too little was run twice."
    if is_alike:
        return "No split: all score alike."
    if split.rest == 0:
        return (
            "Runs of one objective score exactly alike: where the same seed gives the same run, "
            "they say nothing of noise."
        )
    if num_seeds < 2:
        return "One seed: no split into seeds and rest, and what seeds vary by is not in this."
    return ""


def capitalised(words: str) -> str:
    """With a first letter as at the start of a sentence."""
    return words[:1].upper() + words[1:]
