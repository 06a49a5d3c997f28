"""The data stages: tokenizer, instructions, preferences.

Rows are read three times and never held: once for their number and columns, once to choose which
are kept, and once to make tokens of those. So a set may be larger than memory.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wit.data.card import CARD, Tally, make_card, read_card, write_card
from wit.data.encode import (
    INSTRUCTION_COLUMNS,
    PREFERENCE_COLUMNS,
    UNPAIRED_COLUMNS,
    Place,
    RowEncoder,
    last_response_start,
)
from wit.data.kinds import INSTRUCTIONS, PREFERENCES
from wit.data.pairing import check_kinds
from wit.data.preference_rows import read_preference
from wit.data.processes import in_order
from wit.data.rendering import ChatRenderer
from wit.data.sets import RowsOfSet
from wit.data.sources import Files
from wit.data.splits import HELD_OUT, TRAIN, SplitFiles, read_split, read_table
from wit.data.templates import check_tokens, read_template, template_names
from wit.errors import BaseModelError, DataError
from wit.recipes import (
    InstructionsRecipe,
    PreferencesRecipe,
    TokenizerRecipe,
)
from wit.tokenizers import load_tokenizer

__all__ = [
    "CARD",
    "HELD_OUT",
    "INSTRUCTION_COLUMNS",
    "PREFERENCE_COLUMNS",
    "TRAIN",
    "UNPAIRED_COLUMNS",
    "is_unpaired",
    "last_response_start",
    "make_instructions",
    "make_preferences",
    "make_tokenizer",
    "read_card",
    "read_split",
    "read_table",
    "write_card",
]

FIXED_DATE = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"  # of Llama's default
LEAST_ROWS_PER_PROCESS = 8000  # tokenised in less time than a process takes to start
CORES_OF_ONE = 2  # that this process alone keeps at work: the tokenizer, and Python beside it


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
        num_workers: Cores to keep at work; more than two take as many processes. The same bytes
            are written, however many.
        overlaps: Whether the text of a row holds an item of a benchmark; such rows are dropped.

    Raises:
        DataError: A source is unusable, or no row is left; says why.
    """
    data = RowsOfSet(INSTRUCTIONS, recipe, files, sample_rows)
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
    """Writes ``train.arrow``, ``held_out.arrow`` and the card.

    Both files have ``PREFERENCE_COLUMNS``; or ``UNPAIRED_COLUMNS``, if the rows of all sources have
    a label. Rows that say nothing are dropped and counted by reason.

    Args: as ``make_instructions``.

    Raises:
        DataError: As there; or some sources hold pairs and others do not, or ``min_margin`` is set
            and no source has scores.
    """
    read = partial(read_preference, min_margin=recipe.min_margin)
    data = RowsOfSet(PREFERENCES._replace(read=read), recipe, files, sample_rows)
    shapes = {name: source.shape for name, source in data.sources.items()}
    check_kinds(shapes)
    if recipe.min_margin and not any(shape.has_scores for shape in shapes.values()):
        raise DataError(
            f"{data.where}: min_margin = {recipe.min_margin:g}, but there are no scores. Name "
            "their column with 'columns', such as {scores: ratings}, or leave min_margin out"
        )
    _prepare(data, tokenizer, out, num_workers, overlaps)


def is_unpaired(folder: Path) -> bool:
    """Whether a ``preferences`` artifact holds single responses that are good or bad, not pairs."""
    return read_table(folder, TRAIN).schema.names == UNPAIRED_COLUMNS.names


def _columns_of(data: RowsOfSet) -> pa.Schema:
    if data.kind is INSTRUCTIONS:
        return INSTRUCTION_COLUMNS
    is_unpaired = any(source.shape.is_unpaired for source in data.sources.values())
    return UNPAIRED_COLUMNS if is_unpaired else PREFERENCE_COLUMNS


def _prepare(
    data: RowsOfSet,
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
    num_processes = min(num_workers, num_kept // LEAST_ROWS_PER_PROCESS)
    columns = _columns_of(data)
    make_encoder = partial(RowEncoder, data.recipe, tokenizer, places, columns)
    with SplitFiles(out, columns) as files:
        batches = data.batches(choices)
        if num_processes > CORES_OF_ONE:
            results = in_order(make_encoder, batches, num_processes)
        else:
            results = make_encoder().in_turn(batches)
        for encoded in results:
            is_train = ~np.array(encoded.is_held_out, dtype=bool)
            train = encoded.rows.filter(pa.array(is_train))
            files.write(TRAIN, train)
            files.write(HELD_OUT, encoded.rows.filter(pa.array(~is_train)))
            tallies[encoded.source].add(encoded, train)
        data.check_unchanged()
        num_rows = sum(len(choice.is_kept) for choice in choices.values())
        card = make_card(data.where, tallies, columns)
        if card["rows_in"] > num_rows:
            card["rows_sampled"] = num_rows
        if not card["rows"][TRAIN]:
            faulty = [source.faulty for source in data.sources.values()]
            raise _nothing_left(card, num_rows, [*faulty, *(t.unspelled for t in tallies.values())])
    write_card(out, card)


def _nothing_left(card: Mapping[str, Any], num_rows: int, examples: list[str | None]) -> DataError:
    lost = {**card["dropped"], "held out": card["rows"][HELD_OUT]}
    reasons = ", ".join(f"{n} x {why}" for why, n in lost.items() if n)
    said = next(filter(None, examples), None)
    example = f" ({said})" if said else ""
    return DataError(f"{card['source']}: no training row is left of {num_rows}: {reasons}{example}")
