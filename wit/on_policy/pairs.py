"""The stage: preference pairs of a policy's own responses, as a preference set.

Responses to the training prompts are drawn from the policy and ranked; of each prompt the best one
stands against the worst. What is drawn is kept, with its scores, beside the pairs.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from transformers import PreTrainedModel

from wit.data.card import Tally, make_card, write_card
from wit.data.encode import PREFERENCE_COLUMNS, Encoded
from wit.data.splits import TRAIN, SplitFiles, read_split
from wit.errors import StageError
from wit.evaluation.batch_size import with_as_many_as_fit
from wit.generation.greedy import Response, max_tokens_of
from wit.generation.sampling import sample
from wit.on_policy.ranking import (
    ALL_RIGHT,
    NONE_RIGHT,
    TIE,
    UNSAID,
    UNSCORED,
    Pair,
    best_and_worst,
)
from wit.on_policy.recipes import PairsRecipe
from wit.tokenizers import Tokenizer

RESPONSES_FILE = "responses.parquet"  # all that was drawn
NO_ROOM = "prompt leaves no room for a response"

Scores = Sequence[Sequence[float | None]]


class Asked(NamedTuple):
    """A prompt, and where it stands."""

    position: int  # among the training rows of the preferences
    row: int  # its number in its source, from 1
    source: str
    prompt_ids: list[int]


class Drawn(NamedTuple):
    """Prompts, and the responses to each."""

    asked: list[Asked]
    responses: list[list[Response]]
    num_without_room: int  # prompts that were left out

    @property
    def texts(self) -> list[list[str]]:
        """Of the responses."""
        return [[response.text for response in of_prompt] for of_prompt in self.responses]


def make_pairs(
    recipe: PairsRecipe,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    preferences: Path,
    score: Callable[[Drawn], Scores],
    out: Path,
    batch_size: int,
) -> None:
    """Writes ``train.arrow``, an empty ``held_out.arrow``, the card and ``responses.parquet``.

    Args:
        recipe: Of the stage.
        model: The policy, in evaluation mode.
        tokenizer: Its own.
        preferences: A ``preferences`` artifact, whose training prompts are answered.
        score: Gives each response a score, more is better; None where there is none to give.
        out: Folder to write to.
        batch_size: Rows per forward pass; halved as long as they do not fit into memory.

    Raises:
        StageError: No prompt gives a pair; says why, and what could be done.
    """
    drawn = draw(recipe, model, tokenizer, preferences, batch_size)
    scores = score(drawn)
    found = [
        best_and_worst(responses, of_prompt, recipe.min_margin)
        for responses, of_prompt in zip(drawn.responses, scores, strict=True)
    ]
    without = Counter({NO_ROOM: drawn.num_without_room} if drawn.num_without_room else {})
    without.update(
        _reason(recipe, reason, of_prompt)
        for reason, of_prompt in zip(found, scores, strict=True)
        if isinstance(reason, str)
    )
    pairs = _rows_of(drawn, found)
    if not pairs.num_rows:
        raise StageError(_no_pairs(recipe, without))
    write_responses(out, drawn, scores, found, tokenizer)
    with SplitFiles(out, PREFERENCE_COLUMNS) as files:
        files.write(TRAIN, pairs)
    num_prompts = len(drawn.asked) + drawn.num_without_room
    tally = Tally(str(preferences), num_prompts, without, [])
    is_held_out = [False] * pairs.num_rows
    tally.add(Encoded("", pairs, is_held_out, Counter(), 0, None), pairs)
    card = make_card(tally.where, {"": tally}, PREFERENCE_COLUMNS)
    write_card(out, card | _figures(drawn, scores, pairs.num_rows / num_prompts))


def draw(
    recipe: PairsRecipe,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    preferences: Path,
    batch_size: int,
) -> Drawn:
    """Responses to the training prompts, each prompt once; those that leave no room are left out.

    Raises:
        StageError: No prompt leaves room.
    """
    rows = read_split(preferences, TRAIN)
    context = max_tokens_of(model)
    limit = recipe.max_new_tokens
    if context is not None:
        limit = min(limit, context // 2)
    prompts = asked_of(rows, recipe.max_prompts)
    asked = [p for p in prompts if context is None or len(p.prompt_ids) + limit <= context]
    if not asked:
        raise StageError(
            f"no prompt leaves room for a response of {limit} tokens in the model's context of "
            f"{context}; lower on_policy.max_new_tokens"
        )
    responses = with_as_many_as_fit(
        model,
        batch_size,
        lambda num_rows: sample(
            model,
            tokenizer,
            [one.prompt_ids for one in asked],
            max_new_tokens=limit,
            seed=f"{recipe.seed}: {recipe.round}",
            batch_size=num_rows,
            num_responses=recipe.num_responses,
            temperature=recipe.temperature,
        ),
    )
    return Drawn(asked, responses, len(prompts) - len(asked))


def asked_of(rows: Dataset, max_prompts: int | None) -> list[Asked]:
    """The first so many different prompts of the rows, each where it stands first."""
    found: dict[tuple[int, ...], Asked] = {}
    columns = rows.select_columns(["row", "source", "prompt_ids"])
    for position, row in enumerate(columns):
        of_row: Any = row
        ids: list[int] = of_row["prompt_ids"]
        if tuple(ids) not in found:
            found[tuple(ids)] = Asked(position, of_row["row"], of_row["source"], ids)
        if len(found) == max_prompts:
            break
    return list(found.values())


def _reason(recipe: PairsRecipe, reason: str, scores: Sequence[float | None]) -> str:
    """Why a prompt gives no pair, where the scorer lets more be said of that."""
    if recipe.scorer != "exact_match":
        return reason
    if reason == UNSCORED:
        return UNSAID
    return (ALL_RIGHT if all(scores) else NONE_RIGHT) if reason == TIE else reason


def _rows_of(drawn: Drawn, found: Sequence[Pair | str]) -> pa.RecordBatch:
    rows = [
        {
            "prompt_ids": asked.prompt_ids,
            "chosen_ids": list(responses[pair.chosen].ids),
            "rejected_ids": list(responses[pair.rejected].ids),
            "row": asked.row,
            "source": asked.source,
        }
        for asked, responses, pair in zip(drawn.asked, drawn.responses, found, strict=True)
        if isinstance(pair, Pair)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=PREFERENCE_COLUMNS)


def write_responses(
    out: Path, drawn: Drawn, scores: Scores, found: Sequence[Pair | str], tokenizer: Tokenizer
) -> None:
    """Writes a line for each response that was drawn, and which of them make the pair."""
    rows = [
        {
            "row": asked.row,
            "source": asked.source,
            "prompt": tokenizer.decode(asked.prompt_ids),
            "number": number,
            "text": response.text,
            "num_tokens": response.num_tokens,
            "stopped": response.stopped,
            "score": score,
            "side": _side(pair, number),
        }
        for asked, responses, of_prompt, pair in zip(
            drawn.asked, drawn.responses, scores, found, strict=True
        )
        for number, (response, score) in enumerate(zip(responses, of_prompt, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows), out / RESPONSES_FILE)


def _side(pair: Pair | str, number: int) -> str | None:
    sides = {pair.chosen: "chosen", pair.rejected: "rejected"} if isinstance(pair, Pair) else {}
    return sides.get(number)


def _figures(drawn: Drawn, scores: Scores, pair_share: float) -> dict[str, float]:
    known = [score for of_prompt in scores for score in of_prompt if score is not None]
    responses = [response for of_prompt in drawn.responses for response in of_prompt]
    return {
        "pair_share": pair_share,  # of the prompts
        "mean_score": math.fsum(known) / len(known),
        "ended_share": sum(response.stopped for response in responses) / len(responses),
        "mean_tokens": sum(response.num_tokens for response in responses) / len(responses),
    }


def _no_pairs(recipe: PairsRecipe, without: Counter[str]) -> str:
    reasons = "; ".join(f"{count:,}: {reason}" for reason, count in without.most_common())
    [(most, _)] = without.most_common(1)
    remedy = "raise on_policy.num_responses or on_policy.temperature, or choose another scorer"
    if most == UNSAID:
        remedy = f"mend on_policy.extract, {recipe.extract!r}"
    elif most == NO_ROOM:
        remedy = "lower on_policy.max_new_tokens"
    return (
        f"no prompt gives a pair ({reasons}). Of {recipe.num_responses} responses to a prompt one "
        f"must be better than another by {recipe.scorer}: {remedy}"
    )
