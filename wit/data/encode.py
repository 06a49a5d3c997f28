"""The second pass over the rows: token ids with roles, one batch of rows at a time."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from wit.data.batch_tokens import Ahead, BatchTokenizer, Conversation, TokenArrays
from wit.data.boilerplate import Boilerplate
from wit.data.kinds import Item
from wit.data.preference_rows import Preference, Unpaired
from wit.data.rendering import ChatRenderer
from wit.data.schema import Messages
from wit.data.tokenize import Tokens
from wit.errors import DataError
from wit.recipes import DataRecipe, InstructionsRecipe
from wit.roles import Role
from wit.tokenizers import load_tokenizer

INSTRUCTION_COLUMNS = pa.schema(
    {
        "input_ids": pa.list_(pa.int32()),
        "roles": pa.list_(pa.int8()),
        "row": pa.int64(),  # its number in its source, from 1
        "source": pa.string(),  # its name in the mixture; "" for a single place
        "factors": pa.list_(pa.float32()),  # on the weights of roles; null: 1 for every token
    }
)
PREFERENCE_COLUMNS = pa.schema(
    {
        "prompt_ids": pa.list_(pa.int32()),
        "chosen_ids": pa.list_(pa.int32()),
        "rejected_ids": pa.list_(pa.int32()),
        "row": pa.int64(),
        "source": pa.string(),
    }
)
UNPAIRED_COLUMNS = pa.schema(
    {
        "prompt_ids": pa.list_(pa.int32()),
        "response_ids": pa.list_(pa.int32()),
        "is_desirable": pa.bool_(),
        "row": pa.int64(),
        "source": pa.string(),
    }
)
BATCHES_AHEAD = 2  # at the tokenizer: one of them may wait for Python to take its result


class Place(NamedTuple):
    """What the second pass must know of a source."""

    where: str  # its name, for messages
    boilerplate: Boilerplate


class NumberedRow(NamedTuple):
    """A row that is to be prepared."""

    number: int  # in its source, from 1
    is_held_out: bool
    item: Item


class Batch(NamedTuple):
    """Rows of one source."""

    source: str
    rows: list[NumberedRow]


class Encoded(NamedTuple):
    """What became of a batch."""

    source: str
    rows: pa.RecordBatch
    is_held_out: list[bool]  # of those rows
    dropped: Counter[str]
    num_truncated: int
    unspelled: str | None  # the first row that no tokens spell, and where


class _Dropped(Exception):
    """A row that cannot be used, and why."""


class _UnspelledError(_Dropped):
    """Many tokenizers know no token for some characters; one such row should stop no study."""


class _Begun(NamedTuple):
    """A batch whose conversations are rendered."""

    batch: Batch
    of_rows: list[list[Conversation]]  # one, or of a pair one for each answer
    conversations: list[Conversation]  # of all rows, one after the other


class RowEncoder:
    """Makes token ids of rows; one for each process."""

    def __init__(
        self,
        recipe: DataRecipe,
        tokenizer: Path,
        places: Mapping[str, Place],
        columns: pa.Schema,
    ) -> None:
        """Loads the tokenizer.

        Args:
            recipe: Of the stage.
            tokenizer: A ``tokenizer`` artifact.
            places: The sources, by name.
            columns: Of what is written; those of instructions, of pairs or of unpaired responses.

        Raises:
            BaseModelError: It cannot be used.
        """
        loaded = load_tokenizer(tokenizer)
        self.places = places
        self.max_tokens = recipe.max_tokens
        self._last_turn_only = isinstance(recipe, InstructionsRecipe) and recipe.turns == "last"
        self._renderers = {
            name: ChatRenderer(loaded, place.boilerplate) for name, place in places.items()
        }
        self._tokenizer = BatchTokenizer(loaded)
        self.columns = columns
        self._encode = {
            INSTRUCTION_COLUMNS: self._instruction,
            PREFERENCE_COLUMNS: self._pair,
            UNPAIRED_COLUMNS: self._unpaired,
        }[columns]

    def __call__(self, batch: Batch) -> Encoded:
        """Token ids of those rows that can be used.

        Raises:
            DataError: The template does not fit a row; names it.
        """
        begun = self._begin(batch)
        return self._finish(begun, self._tokenizer.look_ahead(begun.conversations))

    def in_turn(self, batches: Iterable[Batch]) -> Iterator[Encoded]:
        """The same of many batches, in their order.

        While the tokenizer is at work, other batches are rendered and put together.

        Raises:
            DataError: As above.
        """
        waiting: deque[tuple[_Begun, Future[Ahead]]] = deque()
        with ThreadPoolExecutor(BATCHES_AHEAD) as threads:
            for begun in map(self._begin, batches):
                ahead = threads.submit(self._tokenizer.look_ahead, begun.conversations)
                waiting.append((begun, ahead))
                if len(waiting) > BATCHES_AHEAD:
                    begun, ahead = waiting.popleft()
                    yield self._finish(begun, ahead.result())
            for begun, ahead in waiting:
                yield self._finish(begun, ahead.result())

    def _begin(self, batch: Batch) -> _Begun:
        of_rows = self._segments(batch)
        return _Begun(batch, of_rows, list(chain.from_iterable(of_rows)))

    def _finish(self, begun: _Begun, ahead: Ahead) -> Encoded:
        rows: list[dict[str, Any]] = []
        is_held_out: list[bool] = []
        dropped: Counter[str] = Counter()
        num_truncated, unspelled = 0, None
        batch = begun.batch
        tokens = self._tokenizer.tokens(begun.conversations, ahead)
        for row, segments in zip(batch.rows, begun.of_rows, strict=True):
            try:
                of_row = self._tokens_of(segments, tokens)
                columns, is_truncated = self._encode(row.item, of_row)
            except _UnspelledError as error:
                dropped["no tokens spell its text"] += 1
                unspelled = unspelled or f"row {row.number}: {error}"
            except _Dropped as reason:
                dropped[str(reason)] += 1
            else:
                rows.append({**columns, "row": row.number, "source": batch.source})
                is_held_out.append(row.is_held_out)
                num_truncated += is_truncated
        table = _table(rows, self.columns)
        return Encoded(batch.source, table, is_held_out, dropped, num_truncated, unspelled)

    def _tokens_of(
        self, conversations: list[Conversation], found: Iterator[TokenArrays | None]
    ) -> list[TokenArrays]:
        of_row = list(islice(found, len(conversations)))
        try:
            return [
                tokens or self._tokenizer.tokens_of(segments)
                for tokens, segments in zip(of_row, conversations, strict=True)
            ]
        except DataError as error:
            raise _UnspelledError(error) from None

    def _segments(self, batch: Batch) -> list[list[Conversation]]:
        """Of every row its conversations: one, or of a pair one for each answer.

        Raises:
            DataError: As above.
        """
        renderer = self._renderers[batch.source]
        found: list[list[Conversation]] = []
        for row in batch.rows:
            try:
                found.append(
                    [
                        renderer.segments(messages, num_prompt=num_prompt)
                        for messages, num_prompt in self._conversations(row.item)
                    ]
                )
            except DataError as error:
                where = self.places[batch.source].where
                raise DataError(f"{where}: row {row.number}: {error}") from None
        return found

    def _conversations(self, item: Item) -> list[tuple[Messages, int]]:
        """Messages of each, and how many of them ask for it."""
        match item:
            case Preference():
                answers = (item.chosen, item.rejected)
                return [((*item.prompt, *answer), len(item.prompt)) for answer in answers]
            case Unpaired():
                return [((*item.prompt, *item.response), len(item.prompt))]
            case messages:
                return [(messages, len(messages) - 1 if self._last_turn_only else 0)]

    def _instruction(self, _: Messages, tokens: list[TokenArrays]) -> tuple[dict[str, Any], bool]:
        """Columns of a conversation, and whether its end was cut off."""
        end = self.max_tokens
        ids, roles, factors, response = tokens[0]
        if response >= end:
            raise _Dropped("prompt leaves no room for its response")
        weights = None if factors is None or (factors[:end] == 1).all() else factors[:end]
        columns = {"input_ids": ids[:end], "roles": roles[:end], "factors": weights}
        return columns, len(ids) > end

    def _pair(self, _: Preference, tokens: list[TokenArrays]) -> tuple[dict[str, Any], bool]:
        """Columns of a pair, and whether the end of an answer was cut off."""
        prompt, chosen, is_longer = self._prompt_and_answer(tokens[0])
        _again, rejected, is_long = self._prompt_and_answer(tokens[1])
        if not (chosen.size and rejected.size):
            raise _Dropped("prompt leaves no room for its answers")
        if np.array_equal(chosen, rejected):
            raise _Dropped("chosen equals rejected after truncation")
        columns = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        return columns, is_longer or is_long

    def _unpaired(self, row: Unpaired, tokens: list[TokenArrays]) -> tuple[dict[str, Any], bool]:
        """Columns of a response that is good or bad, and whether its end was cut off."""
        prompt, response, is_longer = self._prompt_and_answer(tokens[0])
        if not response.size:
            raise _Dropped("prompt leaves no room for its response")
        columns = {"prompt_ids": prompt, "response_ids": response}
        return {**columns, "is_desirable": row.is_desirable}, is_longer

    def _prompt_and_answer(self, tokens: TokenArrays) -> tuple[np.ndarray, np.ndarray, bool]:
        """Ids of both, and whether the answer's end was cut off.

        The answer alone is a target, with all its turns and the markup between them; what comes
        before is tokenised as it is when an answer is generated.
        """
        ids, start = tokens.ids, tokens.response
        return ids[:start], ids[start : self.max_tokens], len(ids) > self.max_tokens


def _table(rows: Sequence[Mapping[str, Any]], columns: pa.Schema) -> pa.RecordBatch:
    """The rows by columns, of which lists are arrays."""
    arrays: list[pa.Array] = []
    for name, kind in zip(columns.names, columns.types, strict=True):
        values = [row[name] for row in rows]
        if not values or not pa.types.is_list(kind) or any(value is None for value in values):
            arrays.append(pa.array(values, kind))
            continue
        starts = np.zeros(len(values) + 1, dtype=np.int32)
        np.cumsum([len(of_row) for of_row in values], out=starts[1:])
        flat = pa.array(np.concatenate(values), kind.value_type)
        arrays.append(pa.ListArray.from_arrays(pa.array(starts), flat, type=kind))
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def last_response_start(tokens: Tokens) -> int:
    """Index of the first token of the last response."""
    roles, response = bytes(tokens.roles), bytes([Role.RESPONSE])
    return len(roles[: roles.rindex(response) + 1].rstrip(response))
