"""Generation that computes a row only until it has ended.

The library goes on with all rows of a batch until the last one has ended: of short responses
beside a long one it throws most of what it computes away. Here a batch is left whenever enough of
its rows have ended, and goes on without these, from the cache of the others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList, StoppingCriteria
from transformers.cache_utils import DynamicLayer

MIN_ENDED = 4  # rows; to begin anew takes as long as a step of a few rows
MIN_SHARE_ENDED = 1 / 4  # of the rows that are computed
# Takes the rows with what is generated so far; says which of them have ended, by any token of it.
HasEnded = Callable[[Int[Tensor, "rows tokens"]], Bool[Tensor, " rows"]]


def decode(
    model: Any,
    input_ids: Int[Tensor, "rows before"],
    mask: Int[Tensor, "rows before"],
    *,
    max_length: int,
    pad: int,
    ended_of: Callable[[int], HasEnded],
    processors_of: Callable[[Tensor], LogitsProcessorList] | None = None,
    **knobs: Any,
) -> Int[Tensor, "rows tokens"]:
    """The rows with what the model writes behind them; behind their end anything may stand.

    Args:
        model: In evaluation mode, with a generation config that says what ends a response.
        input_ids: Prompts, padded on the left.
        mask: 1 where a prompt has a token.
        max_length: Tokens of a row at most, prompt and padding included.
        pad: Behind rows that ended before others.
        ended_of: Of a number of rows, what tells which have ended; asked anew whenever rows leave.
        processors_of: Of the numbers of rows that are left, what changes their scores; None: none.
        **knobs: Of the library's ``generate``.
    """
    found = torch.full((len(input_ids), max_length), pad, device=input_ids.device)
    rows, cache = torch.arange(len(input_ids), device=input_ids.device), None
    until = _EnoughEnded(ended_of(len(rows)), len(rows))
    while len(rows):
        made = model.generate(
            input_ids=input_ids,
            attention_mask=mask,
            past_key_values=cache,
            max_length=max_length,
            pad_token_id=pad,
            stopping_criteria=[until],
            logits_processor=processors_of(rows) if processors_of else None,
            return_dict_in_generate=True,
            **knobs,
        )
        written, cache = made.sequences, made.get("past_key_values")
        found[rows, : written.shape[1]] = written
        stay = ~until.ended[written.shape[1]].to(rows.device)
        if written.shape[1] >= max_length or not stay.any():
            break
        mask = torch.cat([mask, mask.new_ones(len(mask), written.shape[1] - mask.shape[1])], dim=1)
        input_ids = written
        if _can_leave(cache):
            cache.batch_select_indices(stay.nonzero().squeeze(-1))
            rows, input_ids, mask = rows[stay], written[stay], mask[stay]
            until = _EnoughEnded(ended_of(len(rows)), len(rows))
        else:
            until.enough = len(rows)
    return found


class _EnoughEnded(StoppingCriteria):
    """Ends the work on a batch once all of its rows have ended, or so many that it pays."""

    def __init__(self, has_ended: HasEnded, num_rows: int) -> None:
        self._has_ended = has_ended
        self.enough = max(MIN_ENDED, num_rows * MIN_SHARE_ENDED)
        # By the length of rows: on a GPU the library asks one step late, and takes that step back.
        self.ended: dict[int, Tensor] = {}

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        ended = self.ended[input_ids.shape[1]] = self._has_ended(input_ids)
        num_ended = int(ended.sum())
        is_enough = num_ended == len(input_ids) or num_ended >= self.enough
        return torch.full((len(input_ids),), is_enough, device=input_ids.device)


def _can_leave(cache: Any) -> bool:
    """Whether rows can be taken out: each layer keeps keys and values of every row, and no more."""
    return isinstance(cache, DynamicCache) and all(
        type(layer) is DynamicLayer for layer in cache.layers
    )


def ends_at(tokens: Sequence[int], start: int) -> Callable[[int], HasEnded]:
    """Rows have ended that have one of the tokens from a place on."""

    def has_ended(rows: Tensor) -> Tensor:
        return torch.isin(rows[:, start:], torch.tensor(tokens, device=rows.device)).any(dim=1)

    return lambda _: has_ended


def ends_at_text(
    stops: Sequence[str], tokenizer: Any, tokens: Sequence[int], start: int
) -> Callable[[int], HasEnded]:
    """Rows have ended that have one of the tokens from a place on, or one of the texts.

    A text is looked for in the last tokens, as many as it has and two more, for it may be written
    in other tokens than it is encoded in.
    """
    longest = max((len(tokenizer.encode(s, add_special_tokens=False)) for s in stops), default=0)
    at_token = ends_at(tokens, start)

    def of(num_rows: int) -> HasEnded:
        ended = torch.zeros(num_rows, dtype=torch.bool)

        def has_ended(rows: Tensor) -> Tensor:
            nonlocal ended
            first = max(start, rows.shape[1] - longest - 2)
            texts = tokenizer.batch_decode(rows[:, first:])
            found = [any(stop in text for stop in stops) for text in texts]
            ended = ended | torch.tensor(found) | at_token(num_rows)(rows).cpu()
            return ended

        return has_ended

    return of
