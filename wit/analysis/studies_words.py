"""Words of the page of several studies: numbers with their intervals, and what they come to."""

import re

from wit.analysis.across import Across
from wit.analysis.analyse import Analysis
from wit.analysis.digits import number
from wit.analysis.resampling import MIN_UNITS, Estimate
from wit.analysis.studies_numbers import PartMeans, lasting_luck, verdict
from wit.analysis.wording import USUAL

SPACE = "\N{NO-BREAK SPACE}"
STAGES = {"sft": "before DPO", "dpo": "after DPO"}


def with_interval(
    found: Estimate, unit: str = " %", digits: int = 2, *, is_signed: bool = True
) -> str:
    """A mean and its interval, such as ``+2.44 % [-0.26, +5.14]``."""
    text = number(found.value, digits, is_signed=is_signed) + unit
    if found.low is None or found.high is None:
        return text
    low, high = (number(end, digits, is_signed=is_signed) for end in (found.low, found.high))
    return f"{text} [{low}, {high}]"


def counted(count: int, one: str, many: str) -> str:
    """A number and what it counts."""
    return f"{count} {one if count == 1 else many}"


def unbroken(text: str) -> str:
    """The text, with no line break inside weights, objectives and intervals or before a unit."""
    glued = re.sub(r"[(\[][^()\[\]]{1,20}, [^()\[\]]{1,20}[)\]]", _glued, text)
    glued = re.sub(r"(?<=\d) ([:±]) (?=\d)", rf"{SPACE}\1{SPACE}", glued)
    return glued.replace(" %", f"{SPACE}%")


def _glued(found: re.Match[str]) -> str:
    return found[0].replace(" ", SPACE)


def answer(analysis: Analysis) -> str:
    """What it comes to, in one sentence."""
    if len(analysis.studies) == 1:
        return next(iter(analysis.studies.values())).recommendation.sentence
    held = [(s, s.held_out_ray.gain_pct) for s in (analysis.sft, analysis.dpo) if s.held_out_ray]
    if not held:
        return f"The studies cannot be compared: they share no score of {USUAL}."
    gains = " and ".join(f"{with_interval(mean)} {STAGES[s.stage]}" for s, mean in held)
    lead = (
        "The objective that is best on the other studies changes a study's score by "
        f"{gains}, against {USUAL}"
    )
    fewest = min(mean.num_units for _, mean in held)
    if fewest < MIN_UNITS:
        return f"{lead}. {counted(fewest, 'study', 'studies')} are too few for an interval."
    signs = {sign_of(mean) for _, mean in held}
    if signs == {0}:
        return f"{lead}: no difference can be told."
    words = {1: "better", -1: "worse", 0: "no difference can be told"}
    return f"{lead}: " + ", ".join(f"{words[sign_of(m)]} {STAGES[s.stage]}" for s, m in held) + "."


def luck_note(analysis: Analysis) -> str:
    """How much of a correlation may be luck that both stages share."""
    luck = lasting_luck(analysis)
    if luck is None:
        return ""
    return (
        " Among cells of one objective, which differ by luck only, the scores correlate by "
        f"{with_interval(luck, '')}: luck of a run that lasts through DPO raises a correlation."
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
    return f"of {counted(len(found), 'study', 'studies')}, {'; '.join(parts)}."


def best_fixed(found: Across) -> str | None:
    """The best fixed cell of a stage."""
    if not found.cells:
        return None
    cell = found.cells[0]
    return (
        f"{STAGES[found.stage]} the best fixed cell is {cell.name}: "
        f"{with_interval(cell.gain_pct)}, better in {cell.num_better} of {found.num_studies}"
    )


def sign_of(found: Estimate) -> int:
    """1 or -1 where the interval leaves 0 out; else 0."""
    if found.low is None or found.high is None:
        return 0
    return (found.low > 0) - (found.high < 0)


def angles_of(analysis: Analysis) -> dict[str, float]:
    """Degrees of every ray, by name."""
    return {
        ray.ray: ray.degrees
        for study in analysis.studies.values()
        for ray in (*study.sft.rays, *study.dpo.rays)
        if ray.degrees is not None
    }
