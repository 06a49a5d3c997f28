"""Making one artifact: which code makes which stage, tracked, locked and all or nothing."""

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from wit import lineage, resident, rungs, sharing
from wit.alignment.policy import check_policy, is_stale, note_policy
from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.artifacts import Artifact, Source
from wit.config import Runtime
from wit.errors import ArtifactError, OutOfMemoryError
from wit.evaluation_recipes import EvaluationRecipe, ItemsRecipe, JudgeEvaluation, OverlapRecipe
from wit.failed_attempt import after_failure
from wit.making import Log, bring_parents, making, share
from wit.memory import lessened, release, said_of
from wit.on_policy.recipes import PairsRecipe
from wit.recipes import InstructionsRecipe, PreferencesRecipe, SFTRecipe, TokenizerRecipe
from wit.records import MODEL
from wit.study_sources import row_files

Outcome = Literal["made", "reused"]
_log = logging.getLogger(__name__)


def make_artifact(
    artifact: Artifact,
    runtime: Runtime,
    study: lineage.StudyRun | None = None,
    telling: lineage.Telling | None = None,
) -> Outcome:
    """Makes the artifact unless it exists; of several processes one makes it, the others wait.

    A killed attempt leaves its scratch directory, and the next one resumes from it; so does one
    that had been training when it failed, unless the training itself was at fault. After one that
    ran out of memory the next one takes half as many rows at once. What the artifact store has is
    not made again, and what it lacks is uploaded.

    Args:
        artifact: What to make.
        runtime: Where and how.
        study: For whom.
        telling: Who tells MLflow, and when; unset: at once. No other process makes the artifact or
            tells of it before that is done.

    Raises:
        WitError: The stage failed, or a parent is damaged.
    """
    telling = telling or lineage.Telling()
    with ExitStack() as held:
        held.enter_context(artifact.lock())
        if is_stale(artifact):
            _log.warning("%s: is of weights that its policy had before", artifact.path)
            shutil.rmtree(artifact.path)
        if artifact.exists():
            sharing.upload(artifact.verified(), runtime)
            return "reused"
        if sharing.reuse(artifact, runtime):
            return "reused"
        _make(artifact, runtime, study, telling)
        share(artifact, runtime, telling, held)
    return "made"


def _make(
    artifact: Artifact,
    runtime: Runtime,
    study: lineage.StudyRun | None,
    telling: lineage.Telling,
) -> None:
    bring_parents(artifact, runtime)
    less = lessened(artifact, runtime)
    if less != runtime:
        _log.warning("%s %s: %s", artifact.stage, artifact.fingerprint, said_of(artifact, runtime))
    try:
        with making(artifact, runtime, study, telling) as (out, log):
            maker(artifact, less, log)(out)
    except Exception as error:
        failure = after_failure(artifact, runtime, error)
        if isinstance(failure, OutOfMemoryError):
            release(error)
        if failure is error:
            raise
        raise failure from error


def maker(artifact: Artifact, runtime: Runtime, log: Log) -> Callable[[Path], Any]:
    """The function that fills the artifact's directory; imports what it needs and no more."""
    recipe, parents = artifact.recipe, artifact.parents
    measures = EvaluationRecipe | ReferenceRecipe | PairsRecipe
    if not isinstance(recipe, measures) or isinstance(recipe, JudgeEvaluation):
        resident.release()  # what was measured before; whoever trains now needs the memory

    def path(part: str) -> Path:
        return parents[part].path

    match recipe:
        case TokenizerRecipe():
            from wit.data.prepare import make_tokenizer

            return lambda out: make_tokenizer(recipe, path("base"), out)
        case InstructionsRecipe() | PreferencesRecipe():
            from wit.data.overlap import holds_items
            from wit.data.prepare import make_instructions, make_preferences

            rows: Any = recipe
            make = make_instructions if artifact.stage == "instructions" else make_preferences
            return lambda out: make(
                rows,
                row_files(artifact),
                path("tokenizer"),
                out,
                num_workers=data_workers(runtime),
                overlaps=holds_items(path("items")) if "items" in parents else None,
            )
        case ItemsRecipe():
            from wit.evaluation.items import write_items

            return lambda out: write_items(recipe, parents, out)
        case OverlapRecipe():
            from wit.data.overlap import find_overlap

            data = {name: path(name) for name in ("instructions", "preferences")}
            return lambda out: find_overlap(recipe, path("items"), data, path("tokenizer"), out)
        case SFTRecipe() | PairsRecipe() | ReferenceRecipe() | DPORecipe():
            return _training(recipe, artifact, runtime, log)
        case EvaluationRecipe():
            from wit.evaluation.evaluate import evaluate

            return lambda out: evaluate(recipe, parents, out, runtime)
        case _:
            raise TypeError(f"no stage makes {type(recipe).__name__}")


def _training(
    recipe: SFTRecipe | PairsRecipe | ReferenceRecipe | DPORecipe,
    artifact: Artifact,
    runtime: Runtime,
    log: Log,
) -> Callable[[Path], Any]:
    match recipe:
        case SFTRecipe():
            return lambda out: rungs.tune(artifact, out, runtime, log)
        case PairsRecipe():
            from wit.on_policy.stage import write_pairs

            _check_same_tokenizer(artifact)
            return lambda out: write_pairs(recipe, artifact, out, runtime)
        case ReferenceRecipe():
            _check_same_tokenizer(artifact)
            return _reference(recipe, artifact, runtime)
        case DPORecipe():
            _check_same_tokenizer(artifact)
            return _alignment(recipe, artifact, runtime, log)


def _reference(
    recipe: ReferenceRecipe, artifact: Artifact, runtime: Runtime
) -> Callable[[Path], Any]:
    from wit.training.reference import write_reference

    policy, preferences = (artifact.parents[part] for part in ("policy", "preferences"))
    assert isinstance(policy, Artifact)

    def make(out: Path) -> None:
        model = policy.path / MODEL
        write_reference(recipe, model, policy.fingerprint, preferences.path, out, runtime)
        note_policy(policy.record(), out)

    return make


def _alignment(
    recipe: DPORecipe, artifact: Artifact, runtime: Runtime, log: Log
) -> Callable[[Path], Any]:
    from wit.training.dpo import train_dpo

    policy, preferences = (artifact.parents[part] for part in ("policy", "preferences"))
    assert isinstance(policy, Artifact)
    references = [p for p in artifact.parents.values() if isinstance(p, Artifact)]
    references = [parent for parent in references if parent.stage == "reference"]
    for reference in references:
        check_policy(reference)
    of_sft: Any = sft_of(artifact).recipe
    return lambda out: train_dpo(
        recipe,
        policy.path,
        preferences.path,
        [reference.path for reference in references],
        out,
        runtime,
        log,
        base=policy.parents["base"].path if recipe.continues_adapter else None,
        adapter=of_sft.adapter,
        starts_at_reference=all(r.parents["policy"] == policy for r in references),
    )


def data_workers(runtime: Runtime) -> int:
    """Processes that tokenise; by default stages that run at the same time share the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return runtime.data_workers or max(1, (cores or 1) // runtime.num_workers)


def _check_same_tokenizer(alignment: Artifact) -> None:
    """SFT and DPO must share tokenizer, template and stop token, or they speak past each other.

    Raises:
        ArtifactError: They do not.
    """
    of_sft = _parent_of(sft_of(alignment), "instructions", "tokenizer").fingerprint
    of_preferences = _parent_of(alignment, "preferences", "tokenizer").fingerprint
    if of_sft != of_preferences:
        raise ArtifactError(
            f"SFT was trained with tokenizer and template {of_sft}, the preferences were prepared "
            f"with {of_preferences}; prepare both with the same base and template"
        )


def sft_of(alignment: Artifact) -> Artifact:
    """The SFT model at which alignment began, however many rounds ago."""
    while alignment.stage != "sft":
        policy = alignment.parents["policy"]
        assert isinstance(policy, Artifact)
        alignment = policy
    return alignment


def _parent_of(artifact: Artifact, part: str, part_of_parent: str) -> Artifact | Source:
    parent = artifact.parents[part]
    assert isinstance(parent, Artifact)
    return parent.parents[part_of_parent]
