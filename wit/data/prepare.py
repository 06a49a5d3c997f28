"""The data stages: tokenizer, instructions, preferences.

Rows are read three times and never held: once for their number and columns, once to choose which
are kept, and once to make tokens of those. So a set may be larger than memory.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wit.data.card import CARD, Tally, make_card, read_card, write_card
from wit.data.encode import (
    INSTRUCTION_COLUMNS,
    PREFERENCE_COLUMNS,
    Batch,
    NumberedRow,
    Place,
    RowEncoder,
    last_response_start,
)
from wit.data.kinds import INSTRUCTIONS, PREFERENCES, Item, Kind, num_characters
from wit.data.processes import in_order
from wit.data.rendering import ChatRenderer
from wit.data.schema import Shape
from wit.data.sieve import Choice, Sieve
from wit.data.sources import Row, read_rows, survey
from wit.data.splits import HELD_OUT, TRAIN, SplitFiles, read_split, read_table
from wit.data.templates import check_tokens, read_template, template_names
from wit.errors import BaseModelError, DataError
from wit.files import stamps_of
from wit.recipes import (
    DataRecipe,
    InstructionsRecipe,
    PreferencesRecipe,
    RowsRecipe,
    TokenizerRecipe,
)
from wit.tokenizers import load_tokenizer

__all__ = [
    "CARD",
    "HELD_OUT",
    "INSTRUCTION_COLUMNS",
    "PREFERENCE_COLUMNS",
    "TRAIN",
    "last_response_start",
    "make_instructions",
    "make_preferences",
    "make_tokenizer",
    "read_card",
    "read_split",
    "read_table",
    "write_card",
]

Files = Path | Mapping[str, Path] | None  # of sources by name; one path is that of a single place
FIXED_DATE = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"  # of Llama's default
MAX_BATCH_ROWS, MAX_BATCH_CHARACTERS = 256, 1_000_000
LEAST_ROWS_PER_PROCESS = 8000  # tokenised in less time than a process takes to start


def make_tokenizer(recipe: TokenizerRecipe, base: Path, out: Path) -> None:
    """Writes the base's tokenizer with the study's template, its stop token and its padding.

    Raises:
        BaseModelError: There is no tokenizer, no template, no stop token or none of the tokens that
            the template writes; says what to set.
    """
    tokenizer = load_tokenizer(base)
    template = read_template(recipe.template)
    if template is not None:
        tokenizer.chat_template = template
        check_tokens(recipe.template, tokenizer.get_added_vocab(), base)
    if not tokenizer.chat_template:
        raise BaseModelError(
            f"{base}: the tokenizer has no chat template of its own; "
            f"set base.template to {', '.join(template_names())} or a .jinja file"
        )
    if "strftime_now" in tokenizer.chat_template:
        # Else what is made today would differ from what is made tomorrow.
        tokenizer.chat_template = FIXED_DATE + tokenizer.chat_template
    renderer = ChatRenderer(tokenizer)
    # Generation ends where responses ended in training, whatever the base called its end of text.
    tokenizer.eos_token = renderer.stop
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.save_pretrained(out)
    write_card(out, {"stop_token": renderer.stop, "pad_token": tokenizer.pad_token})


def make_instructions(
    recipe: InstructionsRecipe,
    files: Files,
    tokenizer: Path,
    out: Path,
    *,
    sample_rows: int | None = None,
    num_workers: int = 1,
    overlaps: Callable[[str], bool] | None = None,
) -> None:
    """Writes ``train.arrow``, ``held_out.arrow`` (``INSTRUCTION_COLUMNS``) and the card.

    Args:
        recipe: Of the stage.
        files: Local files of its sources, by name; one path for a single place. Other sources are
            on the hub.
        tokenizer: A ``tokenizer`` artifact.
        out: Folder to write to.
        sample_rows: Prepare about as many rows, spread over the sources; for estimates.
        num_workers: Processes that tokenise; the same bytes are written, however many.
        overlaps: Whether the text of a row holds an item of a benchmark; such rows are dropped.

    Raises:
        DataError: A source is unusable, or no row is left; says why.
    """
    data = _Data(INSTRUCTIONS, recipe, files, sample_rows)
    _prepare(data, tokenizer, out, num_workers, overlaps)


def make_preferences(
    recipe: PreferencesRecipe,
    files: Files,
    tokenizer: Path,
    out: Path,
    *,
    sample_rows: int | None = None,
    num_workers: int = 1,
    overlaps: Callable[[str], bool] | None = None,
) -> None:
    """Writes ``train.arrow``, ``held_out.arrow`` (``PREFERENCE_COLUMNS``) and the card.

    Args and Raises: as ``make_instructions``.
    """
    data = _Data(PREFERENCES, recipe, files, sample_rows)
    _prepare(data, tokenizer, out, num_workers, overlaps)


class _Source:
    """Rows of one place, read anew at every pass."""

    def __init__(self, kind: Kind, recipe: RowsRecipe, path: Path | None) -> None:
        self.where = str(path or recipe.repo)
        self.kind = kind
        self.recipe = recipe
        self.path = path
        self.num_rows, columns = survey(read_rows(recipe, path))
        self._shape = Shape(columns, kind.shapes, recipe.columns, self.where)
        self._sample: list[tuple[int, Row]] | None = None

    def rows(self, every: int) -> Iterator[tuple[int, Row]]:
        """Numbers from 1, and rows: all of them, or the first and every so manieth after it."""
        numbered = enumerate(read_rows(self.recipe, self.path), start=1)
        if every == 1:
            return numbered
        if self._sample is None:  # they are few: no need to read all others again
            self._sample = list(islice(numbered, 0, None, every))
        return iter(self._sample)

    def item(self, number: int, row: Row) -> Item:
        """What a row says.

        Raises:
            DataError: It is not of the source's shape; names it.
        """
        return self.kind.read(self._shape, row, number)

    def chosen(self, choice: Choice, every: int) -> Iterator[NumberedRow]:
        """The rows that are kept."""
        of_rows = zip(choice.is_kept.tolist(), choice.is_held_out.tolist(), strict=True)
        # A file that changes meanwhile may have other rows now; that is found out afterwards.
        for (number, row), (is_kept, is_held_out) in zip(self.rows(every), of_rows, strict=False):
            if is_kept:
                yield NumberedRow(number, is_held_out, self.item(number, row))


class _Data:
    """All sources of a data recipe."""

    def __init__(
        self, kind: Kind, recipe: DataRecipe, files: Files, sample_rows: int | None
    ) -> None:
        paths = {"": files} if isinstance(files, Path) else files or {}
        self.kind = kind
        self.recipe = recipe
        self._stamps = stamps_of(paths.values())
        self.sources = {
            name: _Source(kind, of_source, paths.get(name))
            for name, of_source in recipe.by_source().items()
        }
        num_rows = sum(source.num_rows for source in self.sources.values())
        self.every = -(-num_rows // (sample_rows or num_rows))
        self.where = ", ".join(
            f"{name}: {source.where}" if name else source.where
            for name, source in self.sources.items()
        )

    def choose(self, overlaps: Callable[[str], bool] | None) -> dict[str, Choice]:
        """Which rows are kept, by source."""
        sieve = Sieve(self.kind, self.recipe, self.where, overlaps)
        for name, source in self.sources.items():
            sieve.begin(name, source.num_rows)
            for number, row in source.rows(self.every):
                sieve.add(source.item(number, row))
        return sieve.choose()

    def batches(self, choices: Mapping[str, Choice]) -> Iterator[Batch]:
        """The rows that are kept, some hundred at a time, fewer where they are long."""
        for name, source in self.sources.items():
            rows: list[NumberedRow] = []
            size = 0
            for row in source.chosen(choices[name], self.every):
                rows.append(row)
                size += num_characters(self.kind, row.item)
                if len(rows) == MAX_BATCH_ROWS or size >= MAX_BATCH_CHARACTERS:
                    yield Batch(name, rows)
                    rows, size = [], 0
            if rows:
                yield Batch(name, rows)

    def check_unchanged(self) -> None:
        """Compares the files with what they were when the first pass began.

        Raises:
            DataError: One was changed, so that what was chosen may be other rows now.
        """
        for stamp in self._stamps:
            if stamp not in stamps_of([Path(stamp.file)]):
                raise DataError(f"{stamp.file}: was changed while it was read. Run again")


def _prepare(
    data: _Data,
    tokenizer: Path,
    out: Path,
    num_workers: int,
    overlaps: Callable[[str], bool] | None,
) -> None:
    choices = data.choose(overlaps)
    places, tallies = {}, {}
    for name, source in data.sources.items():
        found = choices[name].boilerplate
        places[name] = Place(source.where, found)
        tallies[name] = Tally(source.where, source.num_rows, choices[name].dropped, found.texts())
    num_kept = sum(int(choice.is_kept.sum()) for choice in choices.values())
    num_processes = max(1, min(num_workers, num_kept // LEAST_ROWS_PER_PROCESS))
    make_encoder = partial(RowEncoder, data.recipe, tokenizer, places)
    columns = INSTRUCTION_COLUMNS if data.kind is INSTRUCTIONS else PREFERENCE_COLUMNS
    with SplitFiles(out, columns) as files:
        for encoded in in_order(make_encoder, data.batches(choices), num_processes):
            is_train = ~np.array(encoded.is_held_out, dtype=bool)
            train = encoded.rows.filter(pa.array(is_train))
            files.write(TRAIN, train)
            files.write(HELD_OUT, encoded.rows.filter(pa.array(~is_train)))
            tallies[encoded.source].add(encoded, train)
        data.check_unchanged()
        num_rows = sum(len(choice.is_kept) for choice in choices.values())
        card = make_card(data.where, tallies)
        if card["rows_in"] > num_rows:
            card["rows_sampled"] = num_rows
        if not card["rows"][TRAIN]:
            raise _nothing_left(card, num_rows, tallies)
    write_card(out, card)


def _nothing_left(
    card: Mapping[str, Any], num_rows: int, tallies: Mapping[str, Tally]
) -> DataError:
    lost = {**card["dropped"], "held out": card["rows"][HELD_OUT]}
    reasons = ", ".join(f"{n} x {why}" for why, n in lost.items() if n)
    unspelled = next((t.unspelled for t in tallies.values() if t.unspelled), None)
    example = f" ({unspelled})" if unspelled else ""
    return DataError(f"{card['source']}: no training row is left of {num_rows}: {reasons}{example}")
