"""The model that is being measured, kept in this process until another one is wanted.

Each thing that is measured on a model is a stage of its own. They follow each other in one process,
so the model is loaded once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wit.files import Stamp, stamps_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class _Resident(NamedTuple):
    folder: Path
    fingerprint: str
    device: "torch.device"
    files: tuple[Stamp, ...]  # as they were when it was loaded
    model: "PreTrainedModel"


_kept: list[_Resident] = []  # one at most


def resident_model(folder: Path, fingerprint: str, device: "torch.device") -> "PreTrainedModel":
    """The model of that folder, in evaluation mode; loaded unless it is the one that is kept.

    Args:
        folder: Of the model.
        fingerprint: Of what is in the folder.
        device: Where it shall be.

    Raises:
        BaseModelError: As ``load_model``.
        TrainingError: As ``load_model``.
        StageError: Its outputs are not finite.
    """
    from wit.models import check_outputs, load_model

    files = stamps_of(sorted(folder.iterdir())) if folder.is_dir() else ()
    for kept in _kept:
        if kept[:4] == (folder, fingerprint, device, files):
            return kept.model
    release()  # there may be no room for two
    model = load_model(folder, device)
    check_outputs(model, folder)
    _kept.append(_Resident(folder, fingerprint, device, files, model))
    return model


def release() -> None:
    """Gives back the memory of the model that is kept, if there is one."""
    if not _kept:
        return
    _kept.clear()
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
