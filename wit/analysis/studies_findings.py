"""What several studies together show and what they do not, in sentences with their intervals.

Every finding follows from a rule on the numbers, not from the table that was at hand when it was
written: over another table the same claim may stand on the other side.
"""

import re
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from wit.analysis.across import Across
from wit.analysis.analyse import Analysis
from wit.analysis.resampling import MIN_UNITS, Estimate
from wit.analysis.studies_numbers import (
    PROMPTS_ONLY,
    PartMeans,
    apart,
    chance_gain,
    leads_of,
    part_means,
    point_digits,
    verdict,
)

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
STAGES = {"sft": "before DPO", "dpo": "after DPO"}
MAX_NAMED = 4  # studies or rays in one sentence
ENDS = ("low", "high")  # of an estimate


class Finding(NamedTuple):
    """A claim, and what the numbers say of it."""

    claim: str
    evidence: str
    holds: bool


def number(value: float, digits: int = 2, *, is_signed: bool = False) -> str:
    """The number as a person reads it."""
    rounded = round(value, digits) + 0.0  # no minus before a zero
    text = f"{rounded:{'+' * is_signed}.{digits}f}"
    return text.replace("-", MINUS)


def with_interval(
    found: Estimate, unit: str = " %", digits: int = 2, *, is_signed: bool = True
) -> str:
    """A mean and its interval, such as ``+2.44 % [-0.26, +5.14]``."""
    text = number(found.value, digits, is_signed=is_signed) + unit
    if found.low is None or found.high is None:
        return text
    low, high = (number(end, digits, is_signed=is_signed) for end in (found.low, found.high))
    return f"{text} [{low}, {high}]"


def unbroken(text: str) -> str:
    """The text, with no line break inside a weight pair, an interval or before a unit."""
    glued = re.sub(r"[(\[][^()\[\]]{1,20}, [^()\[\]]{1,20}[)\]]", _glued, text)
    return glued.replace(" %", f"{SPACE}%")


def _glued(found: re.Match[str]) -> str:
    return found[0].replace(" ", SPACE)


def answer(analysis: Analysis) -> str:
    """What it comes to, in one sentence."""
    if len(analysis.studies) == 1:
        return next(iter(analysis.studies.values())).recommendation.sentence
    held = [(s, s.held_out_ray.gain_pct) for s in (analysis.sft, analysis.dpo) if s.held_out_ray]
    if not held:
        return "The studies cannot be compared: they share no score of instruction tuning (0, 1)."
    gains = " and ".join(f"{with_interval(mean)} {STAGES[s.stage]}" for s, mean in held)
    lead = (
        "Loss weights that are best on the other studies change a study's score by "
        f"{gains}, against instruction tuning (0, 1)"
    )
    fewest = min(mean.num_units for _, mean in held)
    if fewest < MIN_UNITS:
        return f"{lead}. {_count(fewest).capitalize()} are too few for an interval."
    signs = {_sign(mean) for _, mean in held}
    if signs == {0}:
        return f"{lead}: no difference can be told."
    words = {1: "better", -1: "worse", 0: "no difference can be told"}
    return f"{lead}: " + ", ".join(f"{words[_sign(m)]} {STAGES[s.stage]}" for s, m in held) + "."


def findings(analysis: Analysis) -> list[Finding]:
    """Every claim that the table can say something about; none of too few studies."""
    if len(analysis.studies) < MIN_UNITS:
        return []
    return [
        *_weights_matter(analysis),
        *_ranks(analysis),
        *_losers(analysis),
        *_best_cells(analysis),
        *_carried_over(analysis),
        *_same_best(analysis),
        *_driver(analysis),
    ]


def _weights_matter(analysis: Analysis) -> Iterator[Finding]:
    found = [(stage, apart(analysis, stage)) for stage in STAGES]
    known = [(stage, one) for stage, one in found if one.num_studies]
    if not known:
        return
    parts = [
        f"{STAGES[stage]} some other weights are better than instruction tuning in "
        f"{len(one.better)} of {one.num_studies} studies, some are worse in {len(one.worse)}"
        for stage, one in known
    ]
    yield Finding(
        "The weights matter: not every mix of prompt and response loss is as good as another",
        f"Beyond the noise, and with loss on the response: {'; '.join(parts)}.",
        all(one.is_more_than_chance for _, one in known),
    )


def _ranks(analysis: Analysis) -> Iterator[Finding]:
    every = analysis.overall.get("spearman_all")
    positive = analysis.overall.get("spearman_response_positive")
    if every is None or every.low is None:
        return
    also = ""
    if positive is not None:
        also = f"; {with_interval(positive, '')} over those with loss on the response"
    yield Finding(
        "The order before DPO says something about the order after it",
        f"Mean rank correlation (Spearman) {with_interval(every, '')} over all cells{also}.",
        (positive or every).low is not None and ((positive or every).low or 0) > 0,
    )


def _losers(analysis: Analysis) -> Iterator[Finding]:
    """Rays that lose on average, by intervals that hold for all rays at once."""
    for stage, found in (("sft", analysis.sft), ("dpo", analysis.dpo)):
        together = [
            (ray.name, ray.gain_pct.model_copy(update=dict(zip(ENDS, ray.together, strict=True))))
            for ray in found.rays
            if ray.together is not None
        ]
        losing = [(name, gain) for name, gain in together if _sign(gain) < 0]
        if not losing:
            continue
        angles = angles_of(analysis)
        losing.sort(key=lambda ray: -angles.get(ray[0], 0))
        named = ", ".join(
            f"{name}{' (no loss on the response)' * (angles.get(name) == PROMPTS_ONLY)} "
            f"{with_interval(gain)}"
            for name, gain in losing[:MAX_NAMED]
        )
        many = "" if len(losing) <= MAX_NAMED else f" and {len(losing) - MAX_NAMED} more"
        yield Finding(
            f"Some ratios of prompt to response weight lose {STAGES[stage]}",
            f"Mean gain: {named}{many}. These are t intervals, widened so that those of all "
            f"{len(together)} ratios hold together.",
            holds=True,
        )


def angles_of(analysis: Analysis) -> dict[str, float]:
    """Degrees of every ray, by name."""
    return {
        ray.ray: ray.degrees
        for study in analysis.studies.values()
        for ray in (*study.sft.rays, *study.dpo.rays)
        if ray.degrees is not None
    }


def _best_cells(analysis: Analysis) -> Iterator[Finding]:
    for found in (analysis.sft, analysis.dpo):
        if found.oracle_cell is None or found.held_out_cell is None:
            continue
        if found.held_out_cell.gain_pct.low is None:
            continue
        evidence = [
            f"Each study's best cell gains {with_interval(found.oracle_cell)}, but it is chosen "
            "by the scores that it is shown with"
        ]
        chance = chance_gain(analysis, found.stage)
        if chance is not None:
            evidence.append(
                f"noise alone, with all weights alike, would show about {with_interval(chance)}"
            )
        evidence.append(
            f"the cell that is best on the other studies gains "
            f"{with_interval(found.held_out_cell.gain_pct)}"
        )
        yield Finding(
            f"The gain of tuned weights carries over to other studies, {STAGES[found.stage]}",
            "; ".join(evidence) + ".",
            _sign(found.held_out_cell.gain_pct) > 0,
        )


def _carried_over(analysis: Analysis) -> Iterator[Finding]:
    mean = analysis.overall.get("gain_dpo_at_sft_best_pct")
    if mean is None or mean.low is None:
        return
    leads = [leads_of(study) for study in analysis.studies.values()]
    same = sum(lead.sft_best is not None and lead.sft_best.is_usual for lead in leads)
    usual = (
        f" In {same} of {len(leads)} studies that cell is instruction tuning itself under other "
        "weights, and its lead is noise."
        if same
        else ""
    )
    yield Finding(
        "The gain of the best SFT cell lasts through DPO",
        f"DPO from it gains {with_interval(mean)} over DPO from (0, 1).{usual}",
        _sign(mean) > 0,
    )


def _same_best(analysis: Analysis) -> Iterator[Finding]:
    known = [s.relation for s in analysis.studies.values() if s.relation.same_best is not None]
    regrets = [relation.regret for relation in known if relation.regret is not None]
    mean = analysis.overall.get("regret")
    if mean is None:
        return
    beyond = sum(
        relation.regret > relation.regret_half_width
        for relation in known
        if relation.regret is not None and relation.regret_half_width is not None
    )
    digits = point_digits(analysis)
    cost = with_interval(mean, " points", digits, is_signed=False)
    yield Finding(
        "The best cell before DPO is the best one after it",
        f"So in {analysis.num_same_best} of {len(known)} studies. Choosing by SFT scores costs "
        f"{cost} on average, {number(median(regrets), digits)} "
        f"in the median study; more than noise in {beyond or 'none'}.",
        analysis.num_same_best > len(known) / 2,
    )


def _driver(analysis: Analysis) -> Iterator[Finding]:
    for stage in STAGES:
        found = part_means(analysis, stage)
        if found is None or found.driver is None or found.driver.without is None:
            continue
        without, fair = found.driver.without, found.driver.chosen_without
        chosen = f" ({with_interval(fair)} where the cell is chosen without it too)" if fair else ""
        yield Finding(
            f"The gain {STAGES[stage]} is one of all benchmarks",
            f"The best cell gains {with_interval(found.together)} on the mean of all, and "
            f"{with_interval(without)} without {found.driver.benchmark}{chosen}.",
            without.value > found.together.value / 2,
        )


def ratio_note(parts: PartMeans | None) -> str | None:
    """Said of an average that is none."""
    if parts is None or parts.ratio is None or abs(parts.ratio - 1) < 0.005:
        return None
    return (
        f"The file's average is {parts.ratio:.2f} times the mean of its {len(parts.parts)} parts. "
        "Gains in percent do not see that; points do."
    )


def verdicts(analysis: Analysis) -> str:
    """In how many studies a recommendation can be made."""
    found = [verdict(study) for study in analysis.studies.values()]
    words = {
        "better": "other weights are better than instruction tuning beyond the noise",
        "usual": "instruction tuning is better than all else beyond the noise",
        "untold": "no difference can be told",
        "unknown": "it cannot be asked",
    }
    parts = [f"in {found.count(name)} {text}" for name, text in words.items() if name in found]
    return f"of {_count(len(found))}, {'; '.join(parts)}."


def best_fixed(found: Across) -> str | None:
    """The best fixed cell of a stage."""
    if not found.cells:
        return None
    cell = found.cells[0]
    return (
        f"{STAGES[found.stage]} the best fixed cell is {cell.name}: "
        f"{with_interval(cell.gain_pct)}, better in {cell.num_better} of {found.num_studies}"
    )


def _sign(found: Estimate) -> int:
    """1 or -1 where the interval leaves 0 out; else 0."""
    if found.low is None or found.high is None:
        return 0
    return (found.low > 0) - (found.high < 0)


def _count(num_studies: int) -> str:
    return "1 study" if num_studies == 1 else f"{num_studies} studies"
