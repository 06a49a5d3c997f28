"""How likely a model finds held-out rows: unweighted, in float32, the same for every cell.

Weighted losses cannot be compared across weights; these figures can. They do not depend on the
loss weights, on the batch size, or on packing.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence

from wit.data.prepare import is_unpaired
from wit.data.splits import HELD_OUT, lengths_of, read_split
from wit.roles import Role, RoleNLL

MOST_LOGITS = 2**28  # of a forward: 1 GiB in float32, and their log-softmax as much again


class TokenMean(NamedTuple):
    """Mean over the tokens of many rows."""

    mean: float
    stderr: float | None  # None: there is one row only
    num_tokens: int


class ResponseLogp(NamedTuple):
    """How likely one response is, given its prompt."""

    logp: float  # summed over its tokens, in nats
    num_tokens: int  # its stop token included


class HeldOutResponses(NamedTuple):
    """Held-out responses, in an order that does not depend on the model."""

    chosen: list[ResponseLogp]  # of single responses the good ones
    rejected: list[ResponseLogp]  # and the bad ones
    are_pairs: bool  # the n-th of both are of one prompt


class RowSums:
    """Values of tokens, summed by row, for their mean and its standard error.

    Tokens of one row are not independent, so the error is that of a ratio of sums over rows: W. G.
    Cochran, Sampling Techniques, 3rd edition (1977), section 6.4.
    """

    def __init__(self) -> None:
        self._sums: list[float] = []
        self._counts: list[int] = []

    def add(self, values: Float[Tensor, " _"]) -> None:
        """Takes the values of one row."""
        if values.numel():
            self.add_sum(values.double().sum().item(), values.numel())

    def add_sum(self, total: float, num_tokens: int) -> None:
        """Takes the sum over the tokens of one row, of which there is at least one."""
        self._sums.append(total)
        self._counts.append(num_tokens)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def mean(self) -> TokenMean:
        """Of all tokens so far; there is at least one.

        Rows may come in any order: their sums are added up exactly.
        """
        num_rows, num_tokens = len(self._counts), sum(self._counts)
        mean = math.fsum(self._sums) / num_tokens
        if num_rows < 2:
            return TokenMean(mean, None, num_tokens)
        rows = zip(self._sums, self._counts, strict=True)
        squares = math.fsum((total - mean * count) ** 2 for total, count in rows)
        stderr = math.sqrt(squares * num_rows / (num_rows - 1)) / num_tokens
        return TokenMean(mean, stderr, num_tokens)


@torch.no_grad()  # not inference mode: weights that are sharded are gathered in place
def held_out_nll(model: Module, folder: Path, *, batch_size: int) -> dict[str, RoleNLL]:
    """Prompt-NLL, response-NLL and so on, of the held-out rows of prepared instructions.

    Args:
        model: In evaluation mode.
        folder: An ``instructions`` artifact.
        batch_size: Rows per forward; does not change the result.

    Returns:
        By role name, for roles that occur as a target. The first token of a row has no context
        and is no target.
    """
    sums: dict[Role, RowSums] = defaultdict(RowSums)
    for rows in batches(read_split(folder, HELD_OUT), "input_ids", batch_size):
        input_ids = [torch.tensor(row["input_ids"]) for row in rows]
        log_probs = token_log_probs(model, input_ids)
        for row, values in zip(rows, log_probs, strict=True):
            roles = torch.tensor(row["roles"])[1:]
            for role in roles.unique().tolist():
                sums[Role(role)].add(-values[roles == role])
    means = {role.name.lower(): sums[role].mean() for role in sorted(sums)}
    return {
        role: RoleNLL(nll=found.mean, num_tokens=found.num_tokens, stderr=found.stderr)
        for role, found in means.items()
    }


@torch.no_grad()  # not inference mode: weights that are sharded are gathered in place
def preference_accuracy(model: Module, folder: Path, *, batch_size: int) -> tuple[float, int]:
    """Share of held-out pairs whose chosen answer the model finds likelier than the rejected one.

    Args:
        model: In evaluation mode.
        folder: A ``preferences`` artifact.
        batch_size: Pairs per forward; does not change the result.

    Returns:
        The share, and the number of pairs; 0 of 0 if none is held out. Log-probabilities are
        summed over the answer, as DPO does; there is no reference model in it.
    """
    if is_unpaired(folder):
        return 0.0, 0
    found = held_out_responses(model, folder, batch_size=batch_size)
    pairs = list(zip(found.chosen, found.rejected, strict=True))
    num_right = sum(chosen.logp > rejected.logp for chosen, rejected in pairs)
    return (num_right / len(pairs) if pairs else 0.0), len(pairs)


@torch.no_grad()  # not inference mode: weights that are sharded are gathered in place
def held_out_responses(model: Module, folder: Path, *, batch_size: int) -> HeldOutResponses:
    """Log-probabilities of the held-out responses of prepared preferences.

    Args:
        model: In evaluation mode.
        folder: A ``preferences`` artifact.
        batch_size: Rows per forward; does not change the result.
    """
    are_pairs = not is_unpaired(folder)
    found = HeldOutResponses([], [], are_pairs)
    for rows in batches(read_split(folder, HELD_OUT), "prompt_ids", batch_size):
        if are_pairs:
            found.chosen.extend(_responses(model, rows, "chosen_ids"))
            found.rejected.extend(_responses(model, rows, "rejected_ids"))
            continue
        for row, response in zip(rows, _responses(model, rows, "response_ids"), strict=True):
            (found.chosen if row["is_desirable"] else found.rejected).append(response)
    return found


def _responses(
    model: Module, rows: Sequence[Mapping[str, Any]], column: str
) -> Iterator[ResponseLogp]:
    full = [torch.tensor(row["prompt_ids"] + row[column]) for row in rows]
    for row, values in zip(rows, token_log_probs(model, full), strict=True):
        of_response = values[len(row["prompt_ids"]) - 1 :]  # shifted by one
        yield ResponseLogp(of_response.double().sum().item(), len(of_response))


def token_log_probs(model: Module, rows: Sequence[Int[Tensor, " _"]]) -> list[Float[Tensor, " _"]]:
    """Log-probability of every token but the first, given those before it, on the CPU.

    Rows are taken fewer at once where their logits would fill the memory: of 64 rows of 2,048
    tokens and a vocabulary of 128,256 they are 63 GiB.
    """
    width = max(map(len, rows), default=0)
    at_once = max(1, MOST_LOGITS // max(1, width * _vocabulary_of(model)))
    parts = (rows[start : start + at_once] for start in range(0, len(rows), at_once))
    return [values for part in parts for values in _log_probs(model, part)]


def _log_probs(model: Module, rows: Sequence[Int[Tensor, " _"]]) -> list[Float[Tensor, " _"]]:
    # Any id will do as padding: it stands on the right, where nothing that counts attends to it.
    device = next(model.parameters()).device
    input_ids = pad_sequence(list(rows), batch_first=True).to(device)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    logits = model(input_ids=input_ids, attention_mask=mask.to(device)).logits
    # float32: bfloat16 would round a nll near 12 to a multiple of 1/16.
    log_probs = logits[:, :-1].float().log_softmax(-1)
    of_targets = log_probs.gather(-1, input_ids[:, 1:, None]).squeeze(-1).cpu()
    return [values[: len(row) - 1] for values, row in zip(of_targets, rows, strict=True)]


def _vocabulary_of(model: Any) -> int:
    return model.config.get_text_config().vocab_size


def batches(split: Dataset, column: str, batch_size: int) -> Iterator[list[Mapping[str, Any]]]:
    """Rows of similar length together, since padding is computed too."""
    lengths = lengths_of(split, column)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), batch_size):
        yield split.select(order[start : start + batch_size]).to_list()
