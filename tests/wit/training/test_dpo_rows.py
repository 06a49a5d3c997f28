"""The pairs of an alignment: on the disk, and those of similar length before the reference."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from trl.trainer.dpo_config import DPOConfig

from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.config import Runtime
from wit.data.prepare import PREFERENCE_COLUMNS, TRAIN
from wit.data.splits import SplitFiles, read_split, split_file
from wit.losses import IGNORE_INDEX
from wit.models import load_model
from wit.tokenizers import load_tokenizer
from wit.training.alignment_trainer import AlignmentTrainer
from wit.training.arguments import training_arguments
from wit.training.reference import logps_in_batches
from wit.training.responses import longest_of

NUM_PAIRS, MOST_TOKENS, TOGETHER = 1000, 300, 16


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of all lengths. The first token of each is its number in the file."""
    out = tmp_path_factory.mktemp("preferences")
    rng = random.Random(0)
    with SplitFiles(out, PREFERENCE_COLUMNS) as files:
        for number in range(NUM_PAIRS):
            sides = {
                f"{side}_ids": [number] + [7] * rng.randint(1, MOST_TOKENS)
                for side in ("prompt", "chosen", "rejected")
            }
            pair = [{**sides, "row": number + 1, "source": ""}]
            files.write(TRAIN, pa.RecordBatch.from_pylist(pair, schema=PREFERENCE_COLUMNS))
    return out


class Numbers:
    """A model that finds of each response the number that the prompt begins with."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.seen: list[tuple[list[int], int, int]] = []  # lengths, their limit, bytes of Arrow

    def __call__(self, input_ids: Any, attention_mask: Any, labels: Any, **_: Any) -> Any:
        lengths = attention_mask.sum(-1).tolist()
        self.seen.append((lengths, input_ids.shape[1], pa.total_allocated_bytes()))
        is_target = labels[:, 1:] != IGNORE_INDEX
        per_token = input_ids[:, :1] / is_target.sum(-1, keepdim=True)
        return SimpleNamespace(log_probs=per_token * is_target)


def of_reference(preferences: Path) -> tuple[Numbers, np.ndarray]:
    model, rows = Numbers(), read_split(preferences, TRAIN)
    found = np.full((2, NUM_PAIRS), np.nan)
    for places, values in logps_in_batches(model, rows, ReferenceRecipe(), TOGETHER):
        found[places] = values
    return model, found


def test_pairs_stay_on_the_disk_while_they_are_trained_on(
    preferences: Path, base: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    size = split_file(preferences, TRAIN).stat().st_size
    assert size > NUM_PAIRS * MOST_TOKENS * 4
    before = pa.total_allocated_bytes()
    model, _ = of_reference(preferences)
    in_memory = [allocated for _, _, allocated in model.seen]
    recipe = DPORecipe(seed=0, objective="cpo")
    training = AlignmentTrainer(
        load_model(base),
        knobs=recipe,
        args=DPOConfig(
            **training_arguments(recipe, 0, Runtime(device="cpu"), tmp_path, NUM_PAIRS),
            precompute_ref_log_probs=True,
        ),
        train_dataset=read_split(preferences, TRAIN),
        processing_class=load_tokenizer(tokenizer_folder),
    )
    for _, _ in zip(training.get_train_dataloader(), range(20), strict=False):
        in_memory.append(pa.total_allocated_bytes())
    assert len(in_memory) > 80
    assert max(in_memory) - before < size / 20


def test_every_response_has_what_the_reference_found_of_it(preferences: Path) -> None:
    _, found = of_reference(preferences)
    assert found == pytest.approx(np.tile(np.arange(NUM_PAIRS), (2, 1)), rel=1e-4)


def test_the_reference_sees_pairs_of_similar_length_together_and_the_longest_first(
    preferences: Path,
) -> None:
    model, _ = of_reference(preferences)
    of_pairs = [
        max(lengths[start : start + 2])
        for lengths, *_ in model.seen
        for start in range(0, len(lengths), 2)
    ]
    assert of_pairs == sorted(longest_of(read_split(preferences, TRAIN)), reverse=True)
    assert {len(lengths) for lengths, *_ in model.seen[:-1]} == {TOGETHER}
    num_padded = sum(len(lengths) * width for lengths, width, _ in model.seen)
    assert num_padded < 1.05 * 2 * sum(of_pairs)
