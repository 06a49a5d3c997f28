"""Which weights a reference's log-probabilities are of, noted beside them."""

import json
from pathlib import Path
from typing import Any

from wit.alignment_recipes import ReferenceRecipe
from wit.artifacts import Artifact
from wit.errors import ArtifactError

POLICY = "policy.json"


def weights_of(record: dict[str, Any]) -> dict[str, str]:
    """Sha256 of every file of weights of a model artifact, by name, from its record."""
    files: dict[str, Any] = record["files"]
    return {
        name: entry["sha256"]
        for name, entry in sorted(files.items())
        if name.endswith(".safetensors")
    }


def note_policy(record: dict[str, Any], out: Path) -> None:
    """Notes which weights the log-probabilities are of."""
    text = json.dumps(weights_of(record), indent=1)
    (out / POLICY).write_text(f"{text}\n", encoding="utf-8")


def is_of_policy(folder: Path, record: dict[str, Any]) -> bool:
    """Whether log-probabilities are of the weights that the policy has now."""
    try:
        noted = json.loads((folder / POLICY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return noted == weights_of(record)


def is_stale(artifact: Artifact) -> bool:
    """Whether it holds log-probabilities of weights that its policy no longer has.

    A training that is made anew may end with other bits, under the same fingerprint. Nothing else
    than log-probabilities would be wrong then and look right.
    """
    policy = artifact.parents.get("policy")
    if not isinstance(artifact.recipe, ReferenceRecipe) or not artifact.exists():
        return False
    if not isinstance(policy, Artifact) or not policy.exists():
        return False
    return not is_of_policy(artifact.path, policy.record())


def check_policy(reference: Artifact) -> None:
    """Refuses log-probabilities of other weights than the SFT model has now.

    Raises:
        ArtifactError: Says which, and the remedy.
    """
    policy = reference.parents["policy"]
    assert isinstance(policy, Artifact)
    if not is_of_policy(reference.path, policy.record()):
        raise ArtifactError(
            f"{reference.path}: its log-probabilities are of other weights than {policy.path} has "
            f"now. Delete {reference.path} and run again: it will be made anew"
        )
