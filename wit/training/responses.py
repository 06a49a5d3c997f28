"""Responses to prompts as a trainer has them: batches, and their log-probabilities.

A batch of pairs has the chosen responses in its first half and the rejected ones, to the same
prompts, in its second.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wit.data.splits import lengths_of
from wit.losses import IGNORE_INDEX
from wit.training.shared_prompts import (
    CHOSEN,
    PROMPT,
    REJECTED,
    by_branch,
    in_one_sequence,
    score_pairs,
)

Row = Mapping[str, Any]
POSITION = "position"  # column: the row's own place among the training rows
SIDES = ("chosen", "rejected")
REFERENCE = "reference_logp"  # columns: <side>_reference_logp
MISMATCHED = "mismatched"  # of a prompt: the response to another one
OF_RESPONSES, OF_PROMPTS = (CHOSEN, REJECTED), (PROMPT, PROMPT)  # branches; a prompt is of both


def padded(sequences: Iterable[tuple[Sequence[int], Sequence[int]]], pad: int) -> dict[str, Tensor]:
    """Prompts, each followed by its response, padded on the right.

    Returns:
        ``input_ids``, ``attention_mask`` and ``response_mask``, each ``[responses, tokens]``.
    """
    both = list(sequences)
    ids = [torch.tensor([*prompt, *response]) for prompt, response in both]
    is_response = [
        torch.tensor([0] * len(prompt) + [1] * len(response)) for prompt, response in both
    ]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "response_mask": pad_sequence(is_response, batch_first=True),
    }


def is_of_pairs(rows: Dataset) -> bool:
    """Whether rows have a chosen and a rejected response; else each has one, good or bad."""
    return "chosen_ids" in rows.column_names


def longest_of(rows: Dataset) -> list[int]:
    """Tokens of the longest sequence of each row: prompt and longer response."""
    names = ("chosen_ids", "rejected_ids") if is_of_pairs(rows) else ("response_ids",)
    prompts, *responses = (lengths_of(rows, name) for name in ("prompt_ids", *names))
    return [p + max(of_row) for p, *of_row in zip(prompts, *responses, strict=True)]


def responses_of(row: Row) -> list[Sequence[int]]:
    """Token ids of a row's responses: chosen and rejected, or the only one."""
    if "response_ids" in row:
        return [row["response_ids"]]
    return [row[f"{side}_ids"] for side in SIDES]


def mismatched_response(rows: Dataset, position: int) -> Sequence[int]:
    """A response to another prompt: of the next row, by turns the chosen and the rejected one."""
    responses = responses_of(rows[(position + 1) % len(rows)])
    return responses[position % len(responses)]


class PreferenceCollator:
    """Puts rows side by side, with what the reference finds of them if the rows say so.

    A micro-batch holds what ``padded`` or ``in_one_sequence`` gives, ``is_desirable`` and, where
    the rows have them, ``reference_logps``, each ``[responses]``; for KTO the same of mismatched
    responses, as ``mismatched_*``.
    """

    def __init__(
        self,
        pad_token_id: int,
        mismatched_of: Dataset | None = None,
        *,
        shares_prompts: bool = False,
    ) -> None:
        """Keeps what to pad with.

        Args:
            pad_token_id: Any id will do: padding is seen by nothing that counts.
            mismatched_of: The rows among which responses to other prompts are found, if the
                objective wants them.
            shares_prompts: Whether a pair is one sequence with the prompt once.
        """
        self.pad_token_id = pad_token_id
        self.mismatched_of = mismatched_of
        self.shares_prompts = shares_prompts

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """A micro-batch."""
        num_sides = len(responses_of(rows[0]))
        if self.shares_prompts:
            pairs = [(row["prompt_ids"], *responses_of(row)) for row in rows]
            batch = in_one_sequence(pairs, self.pad_token_id)  # pyright: ignore[reportArgumentType]
        else:
            sequences = [
                (row["prompt_ids"], responses_of(row)[side])
                for side in range(num_sides)
                for row in rows
            ]
            batch = padded(sequences, self.pad_token_id)
        if num_sides == 1:
            batch["is_desirable"] = torch.tensor([bool(row["is_desirable"]) for row in rows])
            names = ["response"]
        else:
            batch["is_desirable"] = torch.arange(num_sides * len(rows)) < len(rows)
            names = list(SIDES)
        columns = [f"{name}_{REFERENCE}" for name in names]
        if columns[0] in rows[0]:
            values = [row[column] for column in columns for row in rows]
            batch["reference_logps"] = torch.tensor(values, dtype=torch.float32)
        return batch if self.mismatched_of is None else {**batch, **self._mismatched(rows)}

    def _mismatched(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        assert self.mismatched_of is not None
        sequences = [
            (row["prompt_ids"], mismatched_response(self.mismatched_of, row[POSITION]))
            for row in rows
        ]
        batch = padded(sequences, self.pad_token_id)
        values = [row[f"{MISMATCHED}_{REFERENCE}"] for row in rows]
        batch["reference_logps"] = torch.tensor(values, dtype=torch.float32)
        return {f"{MISMATCHED}_{name}": value for name, value in batch.items()}


class Targets(NamedTuple):
    """How many targets each response has, and its prompt."""

    of_responses: Int[Tensor, " responses"]
    of_prompts: Int[Tensor, " responses"]  # but for the first token of each

    @property
    def num_tokens(self) -> int:
        """Of all sequences, each with its prompt."""
        return int((self.of_responses + self.of_prompts + 1).sum())


def targets_of(batch: Mapping[str, Tensor]) -> Targets:
    """Counts what a micro-batch holds."""
    if "branches" in batch:
        is_target = batch["targets"] != IGNORE_INDEX
        found = (by_branch(is_target, batch["branches"], of) for of in (OF_RESPONSES, OF_PROMPTS))
        return Targets(*found)
    of_all = batch["attention_mask"][:, 1:].sum(-1)
    of_responses = batch["response_mask"][:, 1:].sum(-1)
    return Targets(of_responses, of_all - of_responses)


def score(model: Any, batch: Mapping[str, Tensor], *, with_prompt: bool = False) -> Any:
    """What a model with a fused LM head finds of a batch's tokens, without building logits.

    Args:
        model: As the trainer wraps it.
        batch: What ``padded`` or ``in_one_sequence`` gives.
        with_prompt: Whether the prompts' tokens are targets too.

    Returns:
        ``log_probs`` and so on of each position, 0 where there is no target.
    """
    if "branches" in batch:
        return score_pairs(model, batch, with_prompt=with_prompt)
    targets = batch["attention_mask"] if with_prompt else batch["response_mask"]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    labels = batch["input_ids"].masked_fill(targets == 0, IGNORE_INDEX)
    return model(**inputs, labels=labels, use_cache=False, fused_lm_head=True)


def logps_of_responses(outputs: Any, batch: Mapping[str, Tensor]) -> Float[Tensor, " responses"]:
    """Summed over the tokens of each response, in float32."""
    log_probs = outputs.log_probs.float()
    if "branches" in batch:
        return by_branch(log_probs, batch["branches"], OF_RESPONSES)
    return (log_probs * batch["response_mask"][:, 1:]).sum(-1)


def logps_of_prompts(outputs: Any, batch: Mapping[str, Tensor]) -> Float[Tensor, " responses"]:
    """The same of each response's prompt, if its tokens were targets."""
    log_probs = outputs.log_probs.float()
    if "branches" in batch:
        return by_branch(log_probs, batch["branches"], OF_PROMPTS)
    return (log_probs * (1 - batch["response_mask"][:, 1:])).sum(-1)
