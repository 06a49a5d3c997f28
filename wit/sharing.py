"""What this machine takes from the artifact store that its runtime names, and gives to it.

What a report is written from is brought here as soon as it is reused. All else, models above all,
stays in the store until a stage that is to be made reads it; of what stays there, small files are
brought aside where somebody asks what is in it.
"""

import logging
from collections.abc import Iterable, Iterator

from wit.artifact_store import store_of
from wit.artifacts import Artifact, Source
from wit.config import Runtime
from wit.errors import InputError
from wit.evaluation_recipes import JudgeEvaluation

RESULTS = ("evaluation", "overlap", "rung")  # what a report is written from, or a search goes by
OUTLINES = "outlines"  # folder of the artifact root; artifacts without their large files
# What MLflow and a report say of a model or of rows.
OUTLINE = ("card.json", "history.jsonl")
_log = logging.getLogger(__name__)


def read_by(artifact: Artifact) -> Iterator[Artifact | Source]:
    """The parents that a stage reads: a judge reads a model's responses, and not the model."""
    is_judge = isinstance(artifact.recipe, JudgeEvaluation)
    yield from (p for part, p in artifact.parents.items() if not (is_judge and part == "model"))


def inputs_of(artifact: Artifact) -> Iterator[Artifact]:
    """The artifacts among these, and with rows the tokenizer of their ids."""
    for parent in read_by(artifact):
        if isinstance(parent, Artifact):
            yield parent
            tokenizer = parent.parents.get("tokenizer")
            if isinstance(tokenizer, Artifact):
                yield tokenizer


def is_stored(artifact: Artifact, runtime: Runtime) -> bool:
    """Whether the store, if there is one, has it; a store that gives no answer has not."""
    return runtime.artifact_store is None or _has(artifact, runtime)


def is_found(artifact: Artifact, runtime: Runtime) -> bool:
    """Whether it need not be made: it is here, or in the store."""
    return artifact.exists() or (runtime.artifact_store is not None and _has(artifact, runtime))


def stays_in_store(artifact: Artifact, runtime: Runtime) -> bool:
    """Whether it is reused without being here: the stage that reads it brings it."""
    if artifact.exists() or artifact.stage in RESULTS or runtime.artifact_store is None:
        return False
    return _has(artifact, runtime)


def _has(artifact: Artifact, runtime: Runtime) -> bool:
    try:
        store = store_of(runtime)
        return store is not None and store.has(artifact)
    except InputError as error:
        _log.warning("%s", error)
        return False


def not_here(artifacts: Iterable[Artifact], runtime: Runtime) -> list[Artifact]:
    """Those that only the store has.

    Raises:
        InputError: The store refuses, or is away.
    """
    missing = [artifact for artifact in artifacts if not artifact.exists()]
    store = store_of(runtime) if missing else None
    if store is None:
        return []
    there = store.fingerprints({artifact.stage for artifact in missing})
    return [artifact for artifact in missing if artifact.fingerprint in there]


def reuse(artifact: Artifact, runtime: Runtime) -> bool:
    """Whether the store has it; what a report is written from is brought here.

    Hold the artifact's lock around it.

    Raises:
        InputError: It is damaged there, the store refuses or is away, or the root is unwritable.
    """
    store = store_of(runtime)
    if store is None:
        return False
    return store.download(artifact) if artifact.stage in RESULTS else store.has(artifact)


def bring(artifact: Artifact, runtime: Runtime) -> None:
    """Brings an artifact here, if it is missing and the store has it.

    Raises:
        InputError: As ``reuse``.
    """
    store = store_of(runtime)
    if store is None or artifact.exists():
        return
    with artifact.lock():
        if not artifact.exists():
            store.download(artifact)


def bring_inputs(artifact: Artifact, runtime: Runtime) -> None:
    """Brings what a stage reads, as far as it is missing here and the store has it.

    Raises:
        InputError: As ``reuse``.
    """
    for parent in inputs_of(artifact):
        bring(parent, runtime)


def outline(artifact: Artifact, runtime: Runtime) -> Artifact:
    """The artifact if it is here, else its record and its card in a folder of their own.

    Not for stages: of what the store has, only small files are brought. Where that has nothing,
    the outline does not exist.

    Raises:
        InputError: As ``reuse``.
    """
    store = store_of(runtime)
    if store is None or artifact.exists():
        return artifact
    aside = artifact.model_copy(update={"root": artifact.root / OUTLINES})
    if not aside.exists():
        with aside.lock():
            if not aside.exists():
                store.download(aside, only=OUTLINE)
    return aside


def upload(artifact: Artifact, runtime: Runtime, *, is_new: bool = False) -> None:
    """Has the store keep it, too. Hold the artifact's lock around it.

    What is made is not lost because it cannot be uploaded: it stays here, and is uploaded when it
    is used the next time.

    Args:
        artifact: It is complete.
        runtime: Names the store.
        is_new: It was made just now. If another machine was quicker and made other bits, those
            take its place: what is made of it, here or there, is then made of the same.
    """
    try:
        store = store_of(runtime)
        if store is None or store.upload(artifact):
            return
        taken = "it takes the place of ours" if is_new else "ours stays here"
        _log.warning(
            "%s: another machine has made it before, with other bits; that one stays in %s, and %s",
            artifact.path,
            runtime.artifact_store,
            taken,
        )
        if is_new:
            store.download(artifact)
    except InputError as error:
        _log.warning("%s: is not uploaded yet: %s", artifact.path, error)
