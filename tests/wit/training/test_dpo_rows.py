"""The pairs of a DPO training: on the disk, and those of similar length before the reference."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from trl.trainer.dpo_config import DPOConfig

from wit.config import Runtime
from wit.data.prepare import PREFERENCE_COLUMNS, TRAIN
from wit.data.splits import SplitFiles, read_split, split_file
from wit.models import load_model
from wit.recipes import DPORecipe
from wit.tokenizers import load_tokenizer
from wit.training.arguments import training_arguments
from wit.training.dpo import CheckedDPOTrainer, lengths_of_pairs

NUM_PAIRS, MOST_TOKENS, TOGETHER = 1000, 300, 16


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of all lengths. The first chosen token of each is its number in the file."""
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


class Reference(CheckedDPOTrainer):
    """Finds of a chosen answer its number, and of a rejected one the negative of it."""

    seen: list[tuple[list[int], int, int]]  # of each batch: lengths, their limit, bytes of Arrow

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = inputs["attention_mask"].sum(-1)
        of_pairs = torch.maximum(*lengths.chunk(2)).tolist()
        self.seen.append((of_pairs, inputs["input_ids"].shape[1], pa.total_allocated_bytes()))
        numbers = inputs["input_ids"][: len(of_pairs), 0].float()
        return numbers, -numbers


def trainer(preferences: Path, base: Path, tokenizer: Path, out: Path) -> Reference:
    recipe = DPORecipe(seed=0)
    arguments = training_arguments(recipe, 0, Runtime(device="cpu"), out, NUM_PAIRS)
    Reference.seen = []
    return Reference(
        model=load_model(base),
        args=DPOConfig(
            **arguments, precompute_ref_log_probs=True, precompute_ref_batch_size=TOGETHER
        ),
        train_dataset=read_split(preferences, TRAIN),
        processing_class=load_tokenizer(tokenizer),
    )


def test_pairs_stay_on_the_disk_while_they_are_trained_on(
    preferences: Path, base: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    size = split_file(preferences, TRAIN).stat().st_size
    assert size > NUM_PAIRS * MOST_TOKENS * 4
    before = pa.total_allocated_bytes()
    training = trainer(preferences, base, tokenizer_folder, tmp_path)
    in_memory = [allocated for _, _, allocated in training.seen]
    for _, _ in zip(training.get_train_dataloader(), range(20), strict=False):
        in_memory.append(pa.total_allocated_bytes())
    assert len(in_memory) > 80
    assert max(in_memory) - before < size / 20


def test_every_pair_has_what_the_reference_found_of_it(
    preferences: Path, base: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    pairs = trainer(preferences, base, tokenizer_folder, tmp_path).train_dataset
    assert pairs["row"][:] == list(range(1, NUM_PAIRS + 1))
    assert pairs["ref_chosen_logps"][:] == list(range(NUM_PAIRS))
    assert pairs["ref_rejected_logps"][:] == [-n for n in range(NUM_PAIRS)]


def test_the_reference_sees_pairs_of_similar_length_together_and_the_longest_first(
    preferences: Path, base: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    training = trainer(preferences, base, tokenizer_folder, tmp_path)
    lengths = [length for of_pairs, _, _ in training.seen for length in of_pairs]
    assert lengths == sorted(lengths_of_pairs(read_split(preferences, TRAIN)), reverse=True)
    assert {len(of_pairs) for of_pairs, _, _ in training.seen[:-1]} == {TOGETHER}
    num_padded = sum(len(of_pairs) * width for of_pairs, width, _ in training.seen)
    assert num_padded < 1.05 * sum(lengths)
