"""The stage: which items of the benchmarks stand in the rows that are trained on.

The items are indexed in memory, the rows are streamed. A row is compared as the model learns it:
cut to its length, without markup and boilerplate, prompt and response end to end. So an answer is
found behind its question, whatever the template puts between them. The prompts of preference
pairs keep the markup between their turns, since no roles are stored for them.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from pydantic import ValidationError

from wit.config import Settings
from wit.data.card import read_card
from wit.data.item_index import Item, ItemIndex, read_items, words_of
from wit.data.rendering import ChatRenderer
from wit.data.schema import Message
from wit.data.splits import TRAIN, read_table
from wit.errors import ArtifactError
from wit.evaluation_recipes import OverlapRecipe
from wit.roles import Role
from wit.tokenizers import Tokenizer, load_tokenizer

OVERLAP = "overlap.json"
NUM_EXAMPLES = 20  # items of each benchmark that are named
BATCH_ROWS = 1000  # in memory at a time
# The rest is the same in all rows.
TEXT_ROLES = frozenset(map(int, (Role.SYSTEM, Role.PROMPT, Role.RESPONSE)))


class SharedText(Settings):
    """An item, and the first row that holds text of it."""

    item: int  # its position in the benchmark
    data: str  # instructions or preferences
    row: int  # its number in its source, from 1
    source: str  # in the mixture; "" for a single place
    words: str  # that both have


class BenchmarkOverlap(Settings):
    """How many items of one benchmark stand in the training rows."""

    num_items: int
    num_looked_for: int
    num_too_short: int  # too few words to be told from chance
    num_common: int  # nothing but wording that other items or all rows have too
    share: float | None  # overlapping of those looked for; None: none was
    overlapping: tuple[int, ...]  # positions in the benchmark of all that do, ascending
    examples: tuple[SharedText, ...]  # the first ones, by item

    @property
    def num_overlapping(self) -> int:
        """Items of which text stands in the training rows."""
        return len(self.overlapping)


class Overlap(Settings):
    """What all benchmarks share with the training rows."""

    num_words: int  # in a row, in both, that make an overlap
    num_rows: dict[str, int]  # that were searched, by data set
    benchmarks: dict[str, BenchmarkOverlap]

    @property
    def sentence(self) -> str | None:
        """What a person should know of; nothing if no item was found."""
        found = [
            f"{b.num_overlapping:,} of {b.num_items:,} items of {name}"
            for name, b in self.benchmarks.items()
            if b.num_overlapping
        ]
        return f"test items in the training text: {', '.join(found)}" if found else None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What an ``overlap`` artifact says.

        Raises:
            ArtifactError: It is missing, or not what the stage wrote.
        """
        path = folder / OVERLAP
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise ArtifactError(f"{path}: cannot be read: {error}") from None


class TrainingRow(NamedTuple):
    """Words of one row; a pair has two texts, one for each answer."""

    number: int
    source: str
    texts: list[list[str]]


def find_overlap(
    recipe: OverlapRecipe, items: Path, data: Mapping[str, Path], tokenizer: Path, out: Path
) -> None:
    """Writes ``overlap.json``.

    Args:
        recipe: Of the stage.
        items: An ``items`` artifact.
        data: ``instructions`` and ``preferences`` artifacts, by those names.
        tokenizer: The ``tokenizer`` artifact of both.
        out: Folder to write to.
    """
    of_benchmarks = read_items(items)
    texts = [text for folder in data.values() for text in read_card(folder).get("boilerplate", ())]
    index = ItemIndex(of_benchmarks, recipe.num_words, texts)
    loaded = load_tokenizer(tokenizer)
    found: dict[int, SharedText] = {}
    num_rows = dict.fromkeys(data, 0)
    for name, folder in data.items():
        for row in training_rows(folder, loaded):
            num_rows[name] += 1
            for position, words in chain.from_iterable(map(index.find, row.texts)):
                if position not in found:
                    found[position] = SharedText(
                        item=of_benchmarks[position].item,
                        data=name,
                        row=row.number,
                        source=row.source,
                        words=" ".join(words),
                    )
    names = dict.fromkeys(item.benchmark for item in of_benchmarks)
    result = Overlap(
        num_words=recipe.num_words,
        num_rows=num_rows,
        benchmarks={name: _of_benchmark(name, of_benchmarks, index, found) for name in names},
    )
    # Not indented: of a large benchmark that would be a line for each of thousands of positions.
    (out / OVERLAP).write_text(result.model_dump_json() + "\n", encoding="utf-8")


def holds_items(items: Path) -> Callable[[str], bool]:
    """Whether a text holds any item of an ``items`` artifact, by the recipe's own measure."""
    return ItemIndex(read_items(items), OverlapRecipe().num_words).overlaps


def _of_benchmark(
    name: str, items: list[Item], index: ItemIndex, found: Mapping[int, SharedText]
) -> BenchmarkOverlap:
    positions = [position for position, item in enumerate(items) if item.benchmark == name]
    num_too_short = len(index.too_short.intersection(positions))
    num_common = len(index.common.intersection(positions))
    num_looked_for = len(positions) - num_too_short - num_common
    shared = [found[position] for position in positions if position in found]
    return BenchmarkOverlap(
        num_items=len(positions),
        num_looked_for=num_looked_for,
        num_too_short=num_too_short,
        num_common=num_common,
        share=len(shared) / num_looked_for if num_looked_for else None,
        overlapping=tuple(text.item for text in shared),
        examples=tuple(shared[:NUM_EXAMPLES]),
    )


def training_rows(folder: Path, tokenizer: Tokenizer) -> Iterator[TrainingRow]:
    """The training rows of a prepared set as words, a thousand in memory at a time."""
    table = read_table(folder, TRAIN)
    has_pairs = "prompt_ids" in table.column_names
    header = _header_of_answer(tokenizer) if has_pairs else []
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        rows = batch.to_pylist()
        pieces = [_answers(row) if has_pairs else _text_runs(row) for row in rows]
        # In one call: thrice as fast as one by one.
        decoded = iter(
            tokenizer.backend_tokenizer.decode_batch(
                list(chain.from_iterable(pieces)), skip_special_tokens=True
            )
        )
        for row, of_row in zip(rows, pieces, strict=True):
            words = [words_of(next(decoded)) for _ in of_row]
            texts = _pair_texts(words, header) if has_pairs else [list(chain(*words))]
            yield TrainingRow(row["row"], row.get("source") or "", texts)


def _text_runs(row: Mapping[str, Any]) -> list[list[int]]:
    """Token ids of every stretch of one role that holds text of the row itself."""
    ids, roles = row["input_ids"], np.asarray(row["roles"], dtype=np.int8)
    starts = [0, *(np.flatnonzero(np.diff(roles)) + 1).tolist()]
    ends = [*starts[1:], len(ids)]
    runs = zip(starts, ends, roles[starts].tolist(), strict=True)
    return [ids[start:end] for start, end, role in runs if role in TEXT_ROLES]


def _answers(row: Mapping[str, Any]) -> list[list[int]]:
    sides = ("prompt_ids", "chosen_ids", "rejected_ids", "response_ids")
    return [row[side] for side in sides if side in row]


def _pair_texts(words: list[list[str]], header: list[str]) -> list[list[str]]:
    prompt, *answers = words
    if header and prompt[-len(header) :] == header:
        prompt = prompt[: -len(header)]
    return [[*prompt, *answer] for answer in answers]


def _header_of_answer(tokenizer: Tokenizer) -> list[str]:
    """Words of the markup between a prompt and its answer."""
    segments = ChatRenderer(tokenizer).prompt((Message("user", "?"),))
    roles = [segment.role for segment in segments]
    after = segments[len(roles) - roles[::-1].index(Role.PROMPT) :]
    ids = tokenizer.encode("".join(s.text for s in after), add_special_tokens=False)
    return words_of(tokenizer.decode(ids, skip_special_tokens=True))
