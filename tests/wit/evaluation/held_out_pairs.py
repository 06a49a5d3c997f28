"""Held-out preferences, without a word in them."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from wit.data.prepare import PREFERENCE_COLUMNS
from wit.data.splits import HELD_OUT, SplitFiles
from wit.evaluation_recipes import AlignmentEvaluation

RECIPE = AlignmentEvaluation(max_new_tokens=6)
NUM_PAIRS = 12


def random_pairs(num_pairs: int = NUM_PAIRS) -> list[dict[str, Any]]:
    """Ragged; every third prompt is that of the row before it."""
    dice = random.Random(0)

    def ids(shortest: int, longest: int) -> list[int]:
        return [dice.randrange(6, 250) for _ in range(dice.randint(shortest, longest))]

    rows: list[dict[str, Any]] = []
    for number in range(num_pairs):
        prompt = rows[-1]["prompt_ids"] if number % 3 == 2 else ids(1, 20)
        row = {"prompt_ids": prompt, "chosen_ids": ids(1, 15), "rejected_ids": ids(1, 15)}
        rows.append({**row, "row": number, "source": ""})
    return rows


def save(folder: Path, rows: list[dict[str, Any]], columns: pa.Schema = PREFERENCE_COLUMNS) -> Path:
    folder.mkdir(parents=True)
    with SplitFiles(folder, columns) as files:
        files.write(HELD_OUT, pa.RecordBatch.from_pylist(rows, schema=columns))
    return folder
