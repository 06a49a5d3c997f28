"""What a judge says of a model's responses, as scores; its words are kept, verdict or not."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wit.config import Runtime
from wit.errors import ConfigError
from wit.evaluation.clustered import clustered_share
from wit.evaluation.results import Score
from wit.evaluation_recipes import JudgeEvaluation
from wit.judging.cache import REPLIES, ReplyCache
from wit.judging.client import Judge
from wit.judging.judgements import Judged, Judgement
from wit.judging.pairwise import WinRate, compare, win_rate
from wit.judging.questions import read_answers, read_references
from wit.judging.rating import Ratings, mean_rating, rate
from wit.judging.settings import NO_JUDGE
from wit.judging.usage import USAGE_FILE
from wit.score_names import LENGTH_CONTROLLED, UNPARSABLE

JUDGEMENTS_FILE = "judgements.parquet"


def judge_responses(
    recipe: JudgeEvaluation, responses: Path, references: Path | None, out: Path, runtime: Runtime
) -> tuple[Score, ...]:
    """Has the responses judged; writes ``judgements.parquet`` and ``usage.json`` into ``out``.

    Args:
        recipe: Who judges, and how.
        responses: File of them.
        references: File of what they are compared with, or what the judge may look at.
        out: Existing folder.
        runtime: Where the judge is served.

    Raises:
        DataError: The files do not go together.
        InputError: It is not said where the judge is, or its key is not there.
        JudgeError: The judge is down, refuses, or says too much that is no verdict.
    """
    if runtime.judge is None:
        raise ConfigError(NO_JUDGE)
    ask = compare if recipe.kind == "pairs" else rate
    cache = ReplyCache(runtime.artifact_root.resolve() / REPLIES)
    found: Judged = ask(
        read_answers(responses),
        {} if references is None else read_references(references),
        Judge(recipe.judge, runtime.judge, cache, os.environ),
    )
    rows = [row.model_dump() for row in found.rows]
    pq.write_table(pa.Table.from_pylist(rows), out / JUDGEMENTS_FILE)
    usage = found.usage.model_dump_json(indent=1)
    (out / USAGE_FILE).write_text(f"{usage}\n", encoding="utf-8")
    if recipe.kind == "pairs":
        scores = _of_pairs(recipe.name, win_rate(found.rows))
    else:
        scores = _of_ratings(recipe.name, mean_rating(found.rows))
    return *scores, _unparsable(recipe.name, found.rows)


def _of_pairs(name: str, found: WinRate) -> tuple[Score, ...]:
    scores = [_score(name, "win_rate", found.value, found.stderr, found.num_pairs, is_main=True)]
    if (same_length := found.length_controlled) is not None:
        value, stderr = same_length.value, same_length.stderr
        scores.append(_score(name, LENGTH_CONTROLLED, value, stderr, found.num_pairs))
    return tuple(scores)


def _of_ratings(name: str, found: Ratings) -> tuple[Score, ...]:
    mean = found.mean
    parts = {f"rating of {category}": part for category, part in found.by_category.items()}
    parts |= {f"rating of turn {turn}": part for turn, part in found.by_turn.items()}
    return (
        _score(name, "rating", mean.value, mean.stderr, mean.num_ratings, is_main=True),
        *(
            _score(name, metric, part.value, part.stderr, part.num_ratings)
            for metric, part in parts.items()
            if part is not None
        ),
    )


def _unparsable(name: str, rows: Sequence[Judgement]) -> Score:
    """The share of what was judged that has no verdict; its items are all that were judged.

    A pair is one of them, and needs both orders. Turns are one each, and those of a question err
    together, as in the score.
    """
    by_question: dict[str, dict[int, bool]] = defaultdict(dict)
    for row in rows:
        turns = by_question[row.id]
        turns[row.turn] = turns.get(row.turn, False) or not row.is_parsable
    share = clustered_share([[*turns.values()] for turns in by_question.values()])
    value, stderr, num = share
    return _score(name, UNPARSABLE, value, stderr, num, higher_is_better=False)


def _score(
    name: str,
    metric: str,
    value: float,
    stderr: float | None,
    num: int,
    *,
    is_main: bool = False,
    higher_is_better: bool = True,
) -> Score:
    return Score(
        benchmark=name,
        metric=metric,
        value=value,
        stderr=stderr,
        num_items=num,
        higher_is_better=higher_is_better,
        is_main=is_main,
    )
