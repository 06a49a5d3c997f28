"""The data stages: tokenizer, instructions, preferences."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from wit.config import DataRecipe, InstructionsRecipe, PreferencesRecipe, TokenizerRecipe
from wit.data.rendering import ChatRenderer
from wit.data.schema import (
    INSTRUCTION_SHAPES,
    PREFERENCE_SHAPES,
    Message,
    Messages,
    Preference,
    shape_of,
)
from wit.data.sources import read_rows
from wit.data.templates import read_template
from wit.data.tokenize import SegmentTokenizer, Tokens
from wit.errors import BaseModelError, DataError
from wit.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset
from wit.roles import Role

TRAIN, HELD_OUT = "train", "held_out"
CARD = "card.json"


def make_tokenizer(recipe: TokenizerRecipe, base: Path, out: Path) -> None:
    """Writes the base's tokenizer with the study's template, its stop token and its padding.

    Raises:
        BaseModelError: There is no tokenizer, no template or no stop token; says what to set.
    """
    tokenizer = load_tokenizer(base)
    template = read_template(recipe.template)
    if template is not None:
        tokenizer.chat_template = template
    if not tokenizer.chat_template:
        raise BaseModelError(
            f"{base}: the tokenizer has no chat template of its own; "
            "set base.template to alpaca, tulu or a .jinja file"
        )
    renderer = ChatRenderer(tokenizer)
    # Generation ends where responses ended in training, whatever the base called its end of text.
    tokenizer.eos_token = renderer.stop
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.save_pretrained(out)
    write_card(out, {"stop_token": renderer.stop, "pad_token": tokenizer.pad_token})


def make_instructions(
    recipe: InstructionsRecipe,
    rows_file: Path | None,
    tokenizer: Path,
    out: Path,
    *,
    sample_rows: int | None = None,
) -> None:
    """Writes ``train.parquet``, ``held_out.parquet`` (``input_ids``, ``roles``) and the card.

    Args:
        recipe: Of the stage.
        rows_file: The source, if it is a local file.
        tokenizer: A ``tokenizer`` artifact.
        out: Folder to write to.
        sample_rows: Prepare about as many rows, spread over the source; for estimates.

    Raises:
        DataError: The source is unusable, or no row is left; says why.
    """
    writer = _Preparation(recipe, rows_file, tokenizer, sample_rows)
    shape = shape_of(writer.source, INSTRUCTION_SHAPES, recipe.columns, writer.where)
    conversations = ((n, shape.instruction(row, n)) for n, row in writer.rows)
    kept = writer.select((number, c, c[:-1]) for number, c in conversations)
    split_rows: dict[str, list[dict[str, Any]]] = {TRAIN: [], HELD_OUT: []}
    for number, conversation, split in kept:
        if not conversation[-1].content.strip():
            writer.dropped["empty response"] += 1
            continue
        tokens = writer.tokens(conversation, number)
        if tokens is None:
            continue
        if last_response_start(tokens) >= recipe.max_tokens:
            writer.dropped["prompt leaves no room for its response"] += 1
            continue
        if len(tokens.ids) > recipe.max_tokens:
            writer.truncated += 1
            tokens = Tokens(tokens.ids[: recipe.max_tokens], tokens.roles[: recipe.max_tokens])
        row = {"input_ids": tokens.ids, "roles": tokens.roles, "row": number}
        split_rows[split].append(row)
    by_role = Counter(Role(r).name.lower() for row in split_rows[TRAIN] for r in row["roles"])
    writer.finish(out, split_rows, INSTRUCTION_COLUMNS, {"train_tokens_by_role": dict(by_role)})


def make_preferences(
    recipe: PreferencesRecipe,
    rows_file: Path | None,
    tokenizer: Path,
    out: Path,
    *,
    sample_rows: int | None = None,
) -> None:
    """Writes ``train.parquet``, ``held_out.parquet`` (ids of prompt, chosen, rejected), the card.

    Args and Raises: as ``make_instructions``.
    """
    writer = _Preparation(recipe, rows_file, tokenizer, sample_rows)
    shape = shape_of(writer.source, PREFERENCE_SHAPES, recipe.columns, writer.where)
    pairs = ((n, shape.preference(row, n)) for n, row in writer.rows)
    kept = writer.select((number, p, p.prompt) for number, p in pairs)
    split_rows: dict[str, list[dict[str, Any]]] = {TRAIN: [], HELD_OUT: []}
    for number, pair, split in kept:
        if not (pair.chosen.strip() and pair.rejected.strip()):
            writer.dropped["empty answer"] += 1
        elif pair.chosen.strip() == pair.rejected.strip():
            writer.dropped["chosen equals rejected"] += 1
        elif row := writer.pair_ids(pair, number):
            split_rows[split].append({**row, "row": number})
    writer.finish(out, split_rows, PREFERENCE_COLUMNS, {})


INSTRUCTION_COLUMNS = pa.schema(
    {"input_ids": pa.list_(pa.int32()), "roles": pa.list_(pa.int8()), "row": pa.int64()}
)
PREFERENCE_COLUMNS = pa.schema(
    {
        "prompt_ids": pa.list_(pa.int32()),
        "chosen_ids": pa.list_(pa.int32()),
        "rejected_ids": pa.list_(pa.int32()),
        "row": pa.int64(),
    }
)


class _Preparation:
    """The rows of a source on their way to token ids, and the count of those lost."""

    def __init__(
        self, recipe: DataRecipe, rows_file: Path | None, tokenizer: Path, sample_rows: int | None
    ) -> None:
        self.recipe = recipe
        self.where = str(rows_file or recipe.repo)
        self.source = read_rows(recipe, rows_file)
        every = -(-len(self.source) // (sample_rows or len(self.source)))
        self.rows = list(enumerate(self.source, start=1))[::every]  # by their number
        self.tokenizer = load_tokenizer(tokenizer)
        self.renderer = ChatRenderer(self.tokenizer)
        self.segment_tokenizer = SegmentTokenizer(self.tokenizer)
        self.dropped: Counter[str] = Counter()
        self.unspelled: str | None = None  # the first row that no tokens spell, and where
        self.truncated = 0

    def select(self, items: Iterable[tuple[int, Any, Messages]]) -> list[tuple[int, Any, str]]:
        """Drops duplicates, keeps at most ``max_rows``, and says to which split each row belongs.

        A row's split depends on its own prompt alone, so it never moves when rows are added, and
        answers to one prompt stay together; so do an instruction and a preference pair.
        """
        seen: set[str] = set()
        kept = []
        for number, item, prompt in items:
            content = _hash(item)
            if content in seen:
                self.dropped["duplicate"] += 1
                continue
            seen.add(content)
            kept.append((_hash(prompt), content, number, item))
        max_rows = self.recipe.max_rows
        if max_rows is not None:
            max_rows = -(-max_rows * len(self.rows) // len(self.source))  # the sample's share
            self.dropped["over max_rows"] += max(0, len(kept) - max_rows)
            chosen = sorted(kept, key=lambda row: row[1])[:max_rows]
            kept = sorted(chosen, key=lambda row: row[2])
        limit = self.recipe.held_out_fraction
        return [
            (number, item, HELD_OUT if int(prompt[:8], 16) / 16**8 < limit else TRAIN)
            for prompt, _, number, item in kept
        ]

    def tokens(self, messages: Messages, number: int) -> Tokens | None:
        """Ids and roles of a conversation; nothing, and a count, if no tokens spell its text.

        Many tokenizers know no token for some characters, or spell a special token's name as that
        token; a single such row should not stop a study.

        Raises:
            DataError: The template does not fit; names the row.
        """
        try:
            segments = self.renderer.segments(messages)
        except DataError as error:
            raise DataError(f"{self.where}: row {number}: {error}") from None
        try:
            return self.segment_tokenizer.tokens(segments)
        except DataError as error:
            self.unspelled = self.unspelled or f"row {number}: {error}"
            self.dropped["no tokens spell its text"] += 1
            return None

    def pair_ids(self, pair: Preference, number: int) -> dict[str, list[int]] | None:
        """Ids of prompt, chosen and rejected; nothing, and a count, if there is no room."""
        ids, is_cut = {}, False
        for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            tokens = self.tokens((*pair.prompt, Message("assistant", answer)), number)
            if tokens is None:
                return None
            start = last_response_start(tokens)
            ids["prompt_ids"] = tokens.ids[:start]
            ids[f"{side}_ids"] = tokens.ids[start : self.recipe.max_tokens]
            is_cut = is_cut or len(tokens.ids) > self.recipe.max_tokens
        if not (ids["chosen_ids"] and ids["rejected_ids"]):
            self.dropped["prompt leaves no room for its answers"] += 1
            return None
        if ids["chosen_ids"] == ids["rejected_ids"]:
            self.dropped["chosen equals rejected after truncation"] += 1
            return None
        self.truncated += is_cut
        return ids

    def finish(
        self, out: Path, splits: dict[str, list[dict[str, Any]]], columns: pa.Schema, more: Any
    ) -> None:
        """Writes the splits and the card.

        Raises:
            DataError: No training row is left.
        """
        if not splits[TRAIN]:
            lost = {**self.dropped, "held out": len(splits[HELD_OUT])}
            reasons = ", ".join(f"{n} x {why}" for why, n in lost.items() if n)
            example = f" ({self.unspelled})" if self.unspelled else ""
            raise DataError(
                f"{self.where}: no training row is left of {len(self.rows)}: {reasons}{example}"
            )
        for split, rows in splits.items():
            pq.write_table(pa.Table.from_pylist(rows, schema=columns), out / f"{split}.parquet")
        card = {
            "source": self.where,
            "rows_in": len(self.source),
            "rows": {split: len(rows) for split, rows in splits.items()},
            "dropped": {why: count for why, count in self.dropped.items() if count},
            "truncated": self.truncated,
            **more,
        }
        if len(self.rows) < len(self.source):
            card["rows_sampled"] = len(self.rows)
        write_card(out, card)


def last_response_start(tokens: Tokens) -> int:
    """Index of the first token of the last response."""
    position = len(tokens.roles) - 1
    while tokens.roles[position] != Role.RESPONSE:
        position -= 1
    while position > 0 and tokens.roles[position - 1] == Role.RESPONSE:
        position -= 1
    return position


def read_split(folder: Path, split: str) -> "Dataset":
    """One split of a prepared data set."""
    from datasets import Dataset  # takes a second, which ``wit plan`` need not wait for

    return Dataset(read_table(folder, split))


def read_table(folder: Path, split: str) -> pa.Table:
    """The same as a table of Arrow."""
    return pq.read_table(folder / f"{split}.parquet")


def read_card(folder: Path) -> dict[str, Any]:
    """What ``write_card`` wrote."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))


def write_card(out: Path, card: dict[str, Any]) -> None:
    """Writes what a person wants to know of a prepared set."""
    (out / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
