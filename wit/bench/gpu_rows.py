"""What the benchmark of a GPU trains: models of known sizes, and made-up rows of all lengths."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from transformers import LlamaConfig

from wit.data.encode import INSTRUCTION_COLUMNS, PREFERENCE_COLUMNS
from wit.data.splits import TRAIN, SplitFiles
from wit.errors import ConfigError
from wit.roles import Role

Method = Literal["sft", "dpo"]
Trained = Literal["full", "lora"]
Layout = Literal["padded", "packed"]

LENGTHS = (2048, 4096)
TINY_LENGTHS = (32,)
FIRST_ID = 16  # of made-up tokens; padding and special tokens stand below it
# Lengths of instruction rows are about log-normal: many short ones, and some that fill the room.
MEDIAN, SPREAD, SHORTEST = 1 / 3, 0.7, 8
PROMPT = 0.25  # of a row


class Size(NamedTuple):
    """A model, and how it is trained."""

    shape: dict[str, Any]
    is_checkpointed: bool  # layers are computed twice, since their activations do not fit
    rows_per_step: int = 64
    tokens_at_once: int = 8192  # in a packed micro-batch; a padded one has as many, with padding

    @property
    def config(self) -> LlamaConfig:
        """Of transformers."""
        return LlamaConfig(**self.shape)


def _llama(hidden: int, inner: int, layers: int, *, is_tied: bool) -> dict[str, Any]:
    """What sizes of Llama 3 differ in; the rest they share."""
    return {
        "vocab_size": 128_256,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rope_parameters": {"rope_theta": 500_000.0, "rope_type": "default"},
        "tie_word_embeddings": is_tied,
    }


SIZES = {
    # Of Llama-3.2-1B and Llama-3.1-8B, whose configurations are public.
    "1b": Size(_llama(2048, 8192, 16, is_tied=True), is_checkpointed=False),
    "8b": Size(_llama(4096, 14_336, 32, is_tied=False), is_checkpointed=True),
    "tiny": Size(
        {
            "vocab_size": 1088,  # of the embedded tokenizer
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        is_checkpointed=True,
        rows_per_step=8,
        tokens_at_once=64,
    ),
}


class Training(NamedTuple):
    """One configuration that is measured."""

    method: Method
    size: str  # of ``SIZES``
    trained: Trained
    layout: Layout
    length: int  # tokens of the longest rows

    @property
    def name(self) -> str:
        """As ``--only`` names it, such as ``sft-1b-full-packed-2048``."""
        return "-".join(map(str, self))


def trainings(only: str, lengths: Sequence[int], *, is_tiny: bool) -> list[Training]:
    """All whose names fit; a model's own stand together. DPO has no packed rows.

    Raises:
        ConfigError: None fits, or rows cannot be so long.
    """
    sizes = ("tiny",) if is_tiny else ("1b", "8b")
    most = min(SIZES[size].tokens_at_once for size in sizes)  # TRL cuts off what is longer
    for length in lengths:
        if not SHORTEST <= length <= most:
            raise ConfigError(f"--length {length}: allowed are {SHORTEST} to {most} tokens")
    of_sft = product(("sft",), ("full", "lora"), ("packed", "padded"))
    of_dpo = product(("dpo",), ("full", "lora"), ("padded",))
    ways: list[Any] = [*of_sft, *of_dpo]
    every = [
        Training(method, size, trained, layout, length)
        for size in sizes
        for length in lengths
        for method, trained, layout in ways
    ]
    found = [one for one in every if fnmatchcase(one.name, only)]
    if not found:
        names = ", ".join(one.name for one in every)
        raise ConfigError(f"--only {only}: fits no row; there are {names}")
    return found


class Rows(NamedTuple):
    """Tokens of the parts of each row, the same every time; DPO has a second response to each."""

    prompts: list[int]
    responses: list[int]
    others: list[int]

    @property
    def sequences(self) -> list[int]:
        """Tokens of all that goes through a model: a prompt once with each response."""
        both = ((self.prompts, self.responses), (self.prompts, self.others))
        return [p + r for prompts, rest in both for p, r in zip(prompts, rest, strict=False)]

    @property
    def num_needed(self) -> int:
        """Of the tokens those that a model has to see: the prompt of a pair once is enough."""
        return sum(self.sequences) - (sum(self.prompts) if self.others else 0)

    @property
    def num_targets(self) -> int:
        """Of SFT all tokens but the first of a row, of DPO those of responses."""
        if self.others:
            return sum(self.responses) + sum(self.others)
        return sum(self.sequences) - len(self.sequences)


def rows_of(training: Training, num_rows: int) -> Rows:
    """Of which one is as long as may be."""
    longest = training.length
    drawn = np.random.default_rng(0).lognormal(np.log(MEDIAN * longest), SPREAD, num_rows)
    lengths = np.clip(drawn, SHORTEST, longest).astype(int)
    lengths[0] = longest
    prompts = np.maximum(1, (PROMPT * lengths).round().astype(int))
    responses = lengths - prompts
    others = responses * 3 // 4 if training.method == "dpo" else responses[:0]
    return Rows(prompts.tolist(), responses.tolist(), others.tolist())


def write_rows(out: Path, training: Training, num_rows: int) -> None:
    """Writes them as the stages that prepare rows do, with tokens at random."""
    rows, vocabulary = rows_of(training, num_rows), SIZES[training.size].shape["vocab_size"]
    rng = np.random.default_rng(1)

    def ids(lengths: list[int]) -> list[Any]:
        return [rng.integers(FIRST_ID, vocabulary, length) for length in lengths]

    place = [range(num_rows), [""] * num_rows]
    if training.method == "dpo":
        columns = [ids(rows.prompts), ids(rows.responses), ids(rows.others), *place]
        _write(out, columns, PREFERENCE_COLUMNS)
        return
    roles = [
        [Role.PROMPT] * of_prompt + [Role.RESPONSE] * (of_response - 1) + [Role.STOP]
        for of_prompt, of_response in zip(rows.prompts, rows.responses, strict=True)
    ]
    columns = [ids(rows.sequences), roles, *place, [None] * num_rows]
    _write(out, columns, INSTRUCTION_COLUMNS)


def _write(out: Path, columns: list[Any], schema: pa.Schema) -> None:
    out.mkdir(parents=True)
    of_type = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    with SplitFiles(out, schema) as files:
        files.write(TRAIN, pa.RecordBatch.from_arrays(of_type, schema=schema))
