"""What several studies together show and what they do not, in sentences with their intervals.

Every finding follows from a rule on the numbers, not from the table that was at hand when it was
written: over another table the same claim may stand on the other side.
"""

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from wit.analysis.analyse import Analysis
from wit.analysis.digits import number
from wit.analysis.resampling import MIN_UNITS
from wit.analysis.studies_numbers import (
    PROMPTS_ONLY,
    apart,
    chance_gain,
    leads_of,
    part_means,
    point_digits,
)
from wit.analysis.studies_words import STAGES, angles_of, luck_note, sign_of, with_interval

MAX_NAMED = 4  # studies or rays in one sentence
ENDS = ("low", "high")  # of an estimate


class Finding(NamedTuple):
    """A claim, and what the numbers say of it."""

    claim: str
    evidence: str
    holds: bool
    denial: str = ""  # said in the place of a claim that does not hold

    @property
    def heading(self) -> str:
        """What is so."""
        return self.claim if self.holds else self.denial


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
        denial="It is not shown that the weights matter",
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
        f"Mean rank correlation (Spearman) {with_interval(every, '')} over all cells{also}."
        f"{luck_note(analysis)}",
        (positive or every).low is not None and ((positive or every).low or 0) > 0,
        denial="The order before DPO is not shown to say anything about the order after it",
    )


def _losers(analysis: Analysis) -> Iterator[Finding]:
    """Objectives that lose on average, by intervals that hold for all of them at once."""
    for stage, found in (("sft", analysis.sft), ("dpo", analysis.dpo)):
        together = [
            (ray.name, ray.gain_pct.model_copy(update=dict(zip(ENDS, ray.together, strict=True))))
            for ray in found.rays
            if ray.together is not None
        ]
        losing = [(name, gain) for name, gain in together if sign_of(gain) < 0]
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
            f"Some objectives lose {STAGES[stage]}",
            f"Mean gain: {named}{many}. These are t intervals, widened so that those of all "
            f"{len(together)} objectives hold together.",
            holds=True,
        )


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
            sign_of(found.held_out_cell.gain_pct) > 0,
            denial=f"No gain of tuned weights is shown to carry over to other studies, "
            f"{STAGES[found.stage]}",
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
        sign_of(mean) > 0,
        denial="The gain of the best SFT cell is not shown to last through DPO",
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
        f"It is in {analysis.num_same_best} of {len(known)} studies. Choosing by SFT scores costs "
        f"{cost} on average, {number(median(regrets), digits)} "
        f"in the median study; more than noise in {beyond or 'none'}.",
        analysis.num_same_best > len(known) / 2,
        denial="The best cell before DPO is often not the best one after it",
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
            denial=f"The gain {STAGES[stage]} is not one of all benchmarks: "
            f"it rests on {found.driver.benchmark}",
        )
