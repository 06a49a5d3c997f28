"""The report's section on a search: what is expected of every candidate, tried or not."""

from typing import NamedTuple

from wit.analysis.digits import number, plus_minus
from wit.analysis.grid import StageScores
from wit.analysis.intervals import t_quantile
from wit.analysis.report_tables import NONE, Numbers
from wit.config import Study
from wit.search import Standing, Trial, standings

WIDTH = t_quantile(0.975, 10**6)  # of a normal curve, in standard deviations


class SearchSection(NamedTuple):
    """What the report says of a search."""

    sentence: str
    numbers: Numbers


def search_section(
    study: Study | None, before: StageScores, scores: StageScores, decimals: int
) -> SearchSection | None:
    """The section; None for a study that lists its weights, or has no score yet.

    Args:
        study: Its recipe.
        before: Scores of the SFT models.
        scores: After the main alignment.
        decimals: Of scores.
    """
    if study is None or study.search is None or not scores.models:
        return None
    sign, known = -1 if scores.is_less_better else 1, {str(one): one for one in study.weights}
    # In which round a cell was begun says nothing of what it scored.
    trials = [
        Trial(known[one.weights], one.seed, 0, (), sign * one.score, has_failed=False)
        for one in scores.models
        if one.weights in known and one.seed < study.search.seeds
    ]
    found = standings(study.search, trials)
    chosen = next((place for place, one in enumerate(found) if one.is_chosen), None)
    if chosen is None:
        return None
    num_tried = sum(one.num_runs > 0 for one in found)
    sentence = (
        f"At most {study.search.most_cells} cells may be begun; {len(trials)} have a score, of "
        f"{num_tried} of {len(found)} candidates"
    )
    cells = {(one.weights, one.seed) for one in scores.models}
    num_left = sum((one.weights, one.seed) not in cells for one in before.models)
    sentence += f"; {num_left} more have only one before alignment. " if num_left else ". "
    if found[chosen].deviation is None:
        sentence += "No two scores differ, so there is no curve over the angle yet, and no best."
        chosen = None
    else:
        sentence += (
            "Of those that were tried, the curve over the angle that all of them together suggest "
            f"is best at {found[chosen].weights}. The headline is about means of runs, which "
            "owe more to luck where a candidate has few."
        )
    columns = ("candidate", "degrees", "runs", "mean of its runs", "by the curve")
    rows = [_row(one, sign, decimals) for one in found]
    return SearchSection(sentence, Numbers(columns, rows, chosen))


def _row(standing: Standing, sign: int, decimals: int) -> tuple[str, ...]:
    own, mean, deviation = standing.score, standing.mean, standing.deviation
    width = None if deviation is None else WIDTH * deviation
    return (
        str(standing.weights),
        number(standing.degrees, 0),
        str(standing.num_runs) if standing.num_runs else NONE,
        NONE if own is None else number(sign * own, decimals),
        NONE if mean is None else plus_minus(sign * mean, width, decimals),
    )
