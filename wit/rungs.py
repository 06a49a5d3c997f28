"""The beginning of an SFT that a search may end: it goes on from where it paused, or is dropped.

A rung is an artifact that says how far the training was and how likely held-out rows were to it.
The checkpoint is none: it is handed to the scratch directory of the SFT, which resumes from it as
from one of its own, and where it is lost the training begins anew. Either way the SFT is the one
that it would have been without a rung.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from wit.artifacts import CHECKPOINTS, PAUSED, TOGETHER, Artifact
from wit.config import Runtime
from wit.errors import ArtifactError
from wit.recipes import RungRecipe, SFTRecipe
from wit.training.checkpoints import resumable_checkpoint

CARD = "card.json"
HISTORY = "history.jsonl"


class HeldError(Exception):
    """Another study trains the SFT, which may take hours: nobody waits for that here."""


def leave() -> None:
    """What a lock does between two attempts to get it: there is one.

    Raises:
        HeldError: Always.
    """
    raise HeldError


def sft_of(rung: Artifact) -> Artifact:
    """The whole training."""
    assert isinstance(rung.recipe, RungRecipe)
    return Artifact(root=rung.root, recipe=rung.recipe.of, parents=rung.parents)


def tune(artifact: Artifact, out: Path, runtime: Runtime, log: Callable[..., None]) -> None:
    """Trains an SFT model, or its beginning up to a rung. Hold the artifact's lock.

    Args:
        artifact: What is made.
        out: Its scratch directory.
        runtime: Where and how fast.
        log: Of figures and the step that they are of.

    Raises:
        WitError: The training failed.
    """
    from wit.data.prepare import TRAIN, read_split
    from wit.training.arguments import step_of

    recipe, instructions = artifact.recipe, artifact.parents["instructions"]
    assert isinstance(recipe, SFTRecipe)
    assert isinstance(instructions, Artifact)
    if runtime.num_processes > 1:
        from wit.training.ranks import train_sft_on_ranks as train_sft
    else:
        from wit.training.sft import train_sft

    def train() -> None:
        base, tokenizer = artifact.parents["base"].path, instructions.parents["tokenizer"].path
        train_sft(recipe, base, instructions.path, tokenizer, out, runtime, log)

    if not isinstance(recipe, RungRecipe):
        (out / PAUSED).unlink(missing_ok=True)
        # Its history begins anew, so those whom it was trained with cannot go on together.
        shutil.rmtree(out / TOGETHER, ignore_errors=True)
        train()
        return
    sft = sft_of(artifact)
    if not (out / CARD).exists():  # else it was killed when it had come there
        _take(sft, out, step_of(recipe, len(read_split(instructions.path, TRAIN))))
        train()
    _hand_over(out, sft)


def held_out_nll_at(rung: Artifact) -> float:
    """The likelihood of a held-out response token there, in nats.

    Raises:
        ArtifactError: It cannot be read.
    """
    try:
        return float(json.loads((rung.path / CARD).read_text(encoding="utf-8"))["nll_response"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{rung.path}: {CARD} cannot be read ({error})") from None


def drop(sft: Artifact) -> None:
    """Deletes what was begun of a training that a search has ended, unless somebody went on."""
    if not sft.is_paused():
        return
    with suppress(HeldError), sft.lock(pause=leave):
        if sft.is_paused():
            _delete(sft.scratch)


def _take(sft: Artifact, out: Path, step: int) -> None:
    """Goes on from an earlier rung, if its checkpoint is there still."""
    if not sft.is_paused():
        return
    with suppress(HeldError), sft.lock(pause=leave):
        if sft.is_paused() and _step_in(out) < _step_in(sft.scratch) < step:
            _move(sft.scratch, out)
            _delete(sft.scratch)


def _hand_over(out: Path, sft: Artifact) -> None:
    """Moves the checkpoint, and what was logged up to it, to where SFT goes on from it."""
    with suppress(HeldError), sft.lock(pause=leave):
        if not sft.exists() and _step_in(sft.scratch) < _step_in(out):
            is_new = not sft.is_resumable()
            sft.scratch.mkdir(parents=True, exist_ok=True)
            if is_new:  # else an attempt to train all of it has begun
                (sft.scratch / PAUSED).touch()
            _move(out, sft.scratch)
    (out / HISTORY).unlink(missing_ok=True)


def _step_in(scratch: Path) -> int:
    return resumable_checkpoint(scratch)[1]


def _delete(scratch: Path) -> None:
    """The checkpoint first: else a kill may leave one whose history is gone."""
    if (scratch / CHECKPOINTS).exists():
        shutil.rmtree(scratch / CHECKPOINTS)
    shutil.rmtree(scratch)


def _move(here: Path, there: Path) -> None:
    """The history first: what it tells of steps after the last checkpoint is dropped."""
    if (here / HISTORY).exists():  # else an attempt before was killed between the two
        (here / HISTORY).replace(there / HISTORY)
    newest, _ = resumable_checkpoint(here)
    assert newest is not None
    (there / CHECKPOINTS).mkdir(exist_ok=True)
    Path(newest).rename(there / CHECKPOINTS / Path(newest).name)
