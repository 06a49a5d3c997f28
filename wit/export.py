"""A model as a plain Hugging Face folder, which transformers loads without this package.

An artifact's ``model`` folder is one already: whole weights (adapters are merged when a training
ends), configuration, tokenizer and chat template. Export verifies it, copies it byte for byte and
adds the model card.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from wit.adapter_recipes import as_now
from wit.alignment_recipes import DPOKnobs, DPORecipe
from wit.artifacts import RECORD, verify
from wit.config import Study
from wit.errors import ArtifactError, InputError
from wit.files import LEAST_FREE_BYTES, size_text
from wit.model_card import model_card
from wit.reasons import reasons_of
from wit.recipes import InstructionsRecipe, SFTRecipe
from wit.records import MODEL, MODELS, Kept, find
from wit.weights import TokenWeights

CARD = "README.md"  # where Hugging Face looks for it


class Exported(NamedTuple):
    """A folder that was written."""

    folder: Path
    stage: str
    fingerprint: str
    num_bytes: int
    has_reasons: bool  # the card says why a study chose it


def export(identifier: str, folder: Path, root: Path) -> Exported:
    """Writes a Hugging Face folder with the weights, tokenizer and card of a model.

    It is written aside and renamed: complete or absent. After a kill a hidden folder beside it,
    which ends in ``.partial``, may stay.

    Args:
        identifier: Fingerprint of an SFT or DPO artifact, or at least its first 4 digits.
        folder: To be written; must not exist, or be empty.
        root: Where the artifacts are.

    Raises:
        InputError: There is no such model, it is damaged, or the folder cannot be written.
    """
    model = model_of(find(root, identifier))
    folder = folder.absolute()
    _check_is_free(folder)
    verify(model.path)
    files = {
        name.removeprefix(f"{MODEL}/"): figures["size"]
        for name, figures in model.record["files"].items()
        if name.startswith(f"{MODEL}/")
    }
    num_bytes = sum(files.values())
    reasons = reasons_of(model)
    card = model_card(model, known_roles(model), reasons)
    with _written_aside(folder, num_bytes) as aside:
        for name in files:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.path / MODEL / name, aside / name)  # with ordinary permissions
        (aside / CARD).write_text(card, encoding="utf-8")
    return Exported(folder, model.stage, model.fingerprint, num_bytes, bool(reasons))


def model_of(artifact: Kept) -> Kept:
    """Itself, if it is a model.

    Raises:
        InputError: It is not; names the models that it belongs to.
    """
    if artifact.stage in MODELS:
        return artifact
    hint = ""
    parent = artifact.parents.get("model", {})
    if parent.get("kind") in MODELS:
        hint = f" That one measured {parent['fingerprint']} ({parent['kind']})."
    raise InputError(
        f"{artifact.fingerprint} is no model but {artifact.stage}; only SFT and DPO artifacts can "
        f"be exported.{hint}"
    )


def _check_is_free(folder: Path) -> None:
    """Refuses a place where something is, or that is part of an artifact."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder}: is there and is no folder; name one that does not exist yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty; name a folder that does not exist yet")
    inside = next((p for p in folder.resolve().parents if (p / RECORD).is_file()), None)
    if inside is not None:
        raise InputError(f"{folder}: is inside the artifact {inside}, which it would damage")


@contextlib.contextmanager
def _written_aside(folder: Path, num_bytes: int) -> Iterator[Path]:
    """A folder that becomes ``folder`` only if the block succeeds; else nothing is left of it."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < num_bytes + LEAST_FREE_BYTES:
            raise InputError(
                f"{folder}: needs {size_text(num_bytes)}, and {size_text(free)} are free there"
            )
        shutil.rmtree(aside, ignore_errors=True)  # of a dead process with the same number
        aside.mkdir()
        yield aside
        aside.rename(folder)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{folder}: cannot be written: {reason}; choose another place") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def known_roles(model: Kept) -> dict[str, str]:
    """Roles of what is scored in the studies beside the artifacts that the model belongs to.

    One that selects in any of them selects.
    """
    roles: dict[str, str] = {}
    for file in sorted((model.root / "studies").glob("*/study.yaml")):
        try:
            study = Study.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError, yaml.YAMLError):
            continue  # of another version: what it says is not known
        if _belongs_to(model, study):
            for scored in (*study.benchmarks, *study.judged):
                if roles.get(scored.name) != "select":
                    roles[scored.name] = scored.role
    return roles


def _belongs_to(model: Kept, study: Study) -> bool:
    sft = model.sft
    data = None if sft is None else sft.parent("instructions")
    if sft is None or data is None:
        return False
    try:
        weights = TokenWeights.model_validate(sft.recipe["weights"])
        seed = sft.recipe["seed"]
        if weights not in study.weights or seed not in study.seeds:
            return False
        recipes = [
            SFTRecipe(**knobs.model_dump(), weights=weights, seed=seed)
            for knobs in study.tuned_by.values()
        ]
        rows = InstructionsRecipe.model_validate(data.recipe)
        # Validated, for the record of an older wit lacks the knobs that there were not yet.
        trained = SFTRecipe.model_validate(as_now(sft.recipe))
        own = DPORecipe.model_validate(as_now(model.recipe)) if model.stage == "dpo" else None
    except ValidationError as error:
        raise ArtifactError(f"{model.path}: a recipe cannot be read: {error}") from None
    return (
        (own is None or own.identity() in _alignments(study, seed))
        and trained.identity() in [recipe.identity() for recipe in recipes]
        and rows.identity() == study.instructions.identity()
    )


def _alignments(study: Study, seed: int) -> list[dict[str, Any]]:
    """What a study tells every alignment, and every round of it."""
    found: list[DPOKnobs] = []
    for knobs in study.aligned_by.values():
        rounds = range(1, knobs.on_policy.rounds + 1) if knobs.on_policy else ()
        found += [knobs.of_round(number) for number in rounds] or [knobs]
    return [DPORecipe(**knobs.model_dump(), seed=seed).identity() for knobs in found]
