"""The stage: what an SFT model finds of the responses that the policy will learn from.

Made once, and read by every training that starts from that model, which then holds one model and
not two. Responses of similar length are computed together, the longest first, so that little of
it is padding and too little memory shows at once.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from wit.alignment_recipes import ReferenceRecipe
from wit.config import Runtime
from wit.data.splits import SPLITS, read_split
from wit.errors import ArtifactError
from wit.models import choose_device
from wit.resident import resident_model
from wit.training.head import add_head
from wit.training.responses import (
    MISMATCHED,
    REFERENCE,
    SIDES,
    is_of_pairs,
    logps_of_responses,
    longest_of,
    mismatched_response,
    padded,
    responses_of,
    score,
)


def write_reference(
    recipe: ReferenceRecipe,
    model_folder: Path,
    fingerprint: str,
    preferences: Path,
    out: Path,
    runtime: Runtime,
) -> None:
    """Writes a column for each response of a row, ``train.parquet`` and ``held_out.parquet``.

    Args:
        recipe: Of the stage.
        model_folder: The SFT model.
        fingerprint: Of that model.
        preferences: A ``preferences`` artifact.
        out: Folder to write to.
        runtime: Device and batch size.
    """
    device = choose_device(runtime.device)
    model = with_fused_head(resident_model(model_folder, fingerprint, device))
    dtype = torch.float16 if recipe.precision == "float16" else torch.bfloat16
    autocast = torch.autocast(device.type, dtype=dtype, enabled=recipe.precision != "float32")
    for split in SPLITS:
        rows = read_split(preferences, split)
        names = columns_of(rows, recipe)
        logps = np.empty((len(names), len(rows)), dtype=np.float32)
        with torch.no_grad(), autocast:
            for places, values in logps_in_batches(
                model, rows, recipe, 2 * runtime.evaluation_batch_size
            ):
                logps[places] = values
        pq.write_table(pa.table(dict(zip(names, logps, strict=True))), split_file(out, split))


def with_fused_head(model: PreTrainedModel) -> PreTrainedModel:
    """The model, which scores targets without building logits where it is asked to."""
    if "forward" not in vars(model):  # else it has the head already
        add_head(model)
    return model


def columns_of(rows: Dataset, recipe: ReferenceRecipe) -> list[str]:
    """The columns that are written of such rows."""
    if recipe.responses == "mismatched":
        return [f"{MISMATCHED}_{REFERENCE}"]
    return [f"{name}_{REFERENCE}" for name in (SIDES if is_of_pairs(rows) else ("response",))]


def with_reference(rows: Dataset, folder: Path, split: str) -> Dataset:
    """Rows of a split with what the reference finds of them beside them.

    Raises:
        ArtifactError: They are not of these rows.
    """
    columns = pq.read_table(split_file(folder, split))
    if len(columns) != len(rows):
        raise ArtifactError(
            f"{folder}: has log-probabilities of {len(columns):,} rows, and the preferences have "
            f"{len(rows):,}; delete it, and it is made anew"
        )
    for name in columns.column_names:
        rows = rows.add_column(name, columns[name].to_numpy())  # pyright: ignore[reportArgumentType]
    return rows


def split_file(folder: Path, split: str) -> Path:
    """Where the log-probabilities of a split are."""
    return folder / f"{split}.parquet"


def logps_in_batches(
    model: Any, rows: Dataset, recipe: ReferenceRecipe, batch_size: int
) -> Iterator[tuple[Any, Any]]:
    """Places in the table and their values, a batch at a time."""
    lengths, num_columns = longest_of(rows), len(columns_of(rows, recipe))
    order = sorted(range(len(rows)), key=lambda row: -lengths[row])
    num_rows = max(1, batch_size // num_columns)
    for start in range(0, len(order), num_rows):
        numbers = order[start : start + num_rows]
        sequences = [
            (rows[number]["prompt_ids"], response)
            for number in numbers
            for response in _responses(rows, number, recipe)
        ]
        batch = padded(sequences, pad=0)
        batch = {name: value.to(model.device) for name, value in batch.items()}
        values = logps_of_responses(score(model, batch), batch).cpu().numpy()
        yield np.index_exp[:, numbers], values.reshape(len(numbers), num_columns).T


def _responses(rows: Dataset, number: int, recipe: ReferenceRecipe) -> Sequence[Sequence[int]]:
    if recipe.responses == "mismatched":
        return [mismatched_response(rows, number)]
    return responses_of(rows[number])
