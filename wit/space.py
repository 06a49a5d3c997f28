"""Whether the disk has room for a stage, known before the stage writes anything."""

import os
from pathlib import Path

from wit.alignment_recipes import DPORecipe
from wit.artifacts import Artifact, Source
from wit.errors import BaseModelError, DiskFullError
from wit.files import LEAST_FREE_BYTES, free_bytes, size_text
from wit.model_size import model_size, weights_in
from wit.recipes import DataRecipe, SFTRecipe
from wit.records import MODEL
from wit.study_sources import row_files

BYTES_PER_WEIGHT = 4  # float32, in artifacts and in checkpoints
CHECKPOINT = 3  # weights, and the two moments of AdamW
BYTES_PER_TOKEN = 6  # its id, its role, and what is beside a row
# Of prepared rows, as a multiple of their files; parquet is packed.
GROWTH = {".parquet": 10}
USUAL_GROWTH = 2


def check_space(artifact: Artifact, num_alike: int = 1) -> None:
    """Refuses to begin a stage that would fill the disk of the artifact root.

    Stages that leave little are never refused: a full disk says so itself, and some file systems
    do not say how full they are.

    Args:
        artifact: That is made.
        num_alike: How many are made at once, it among them.

    Raises:
        DiskFullError: Says what the stage needs, what is free, and the remedy.
    """
    wanted = peak_bytes(artifact)
    if wanted is None:
        return
    missing = wanted * num_alike - _written(artifact.scratch)
    free = free_bytes(artifact.root)
    if missing < LEAST_FREE_BYTES or free is None or missing <= free:
        return
    raise DiskFullError(
        f"{artifact.root}: {artifact.stage} {artifact.fingerprint} needs {size_text(missing)} more "
        f"disk space while it is made, and {size_text(free)} are free. 'wit gc' lists what no "
        "study needs; or choose another place with --set-runtime artifact_root=DIR"
    )


def peak_bytes(artifact: Artifact) -> int | None:
    """What a stage has on the disk at most, roughly; None: it is little, or unknown."""
    recipe, parents = artifact.recipe, artifact.parents
    if isinstance(recipe, SFTRecipe | DPORecipe):
        num_weights = _num_weights(parents["base" if isinstance(recipe, SFTRecipe) else "policy"])
        is_adapted = recipe.adapter is not None
        if num_weights is None:
            return None
        in_checkpoints = bytes_while_training(num_weights, is_adapted=is_adapted)
        return max(in_checkpoints, in_checkpoints // 2 + bytes_of_model(num_weights))
    if isinstance(recipe, DataRecipe):
        return _prepared_bytes(artifact, recipe)
    return None


def bytes_of_model(num_weights: int) -> int:
    """Of what a training leaves."""
    return BYTES_PER_WEIGHT * num_weights


def bytes_while_training(num_weights: int, *, is_adapted: bool = False) -> int:
    """Of checkpoints: the last complete one, and that which is being written.

    Adapters are little beside the model that they are of.
    """
    return 0 if is_adapted else 2 * CHECKPOINT * BYTES_PER_WEIGHT * num_weights


def _num_weights(model: Artifact | Source) -> int | None:
    try:
        if isinstance(model, Artifact):
            return weights_in(model.path / MODEL)
        size = model_size(model)
    except BaseModelError:  # whoever loads it says more
        return None
    return size and size.num_weights


def _prepared_bytes(artifact: Artifact, recipe: DataRecipe) -> int | None:
    files = row_files(artifact).values()
    if len(files) < len(recipe.by_source()):
        return None  # some are on the hub
    wanted = sum(_growth(file) * file.stat().st_size for file in files)
    if recipe.max_rows is None:
        return wanted
    sides = 2 if artifact.stage == "preferences" else 1
    return min(wanted, recipe.max_rows * recipe.max_tokens * sides * BYTES_PER_TOKEN)


def _growth(file: Path) -> int:
    return GROWTH.get(file.suffix.lower(), USUAL_GROWTH)


def _written(folder: Path) -> int:
    """Bytes of what an earlier attempt has left."""
    return sum(
        (Path(place) / name).lstat().st_size
        for place, _, names in os.walk(folder)
        for name in names
    )
