"""Which round on policy an artifact is of."""

from wit.alignment_recipes import DPORecipe
from wit.artifacts import Artifact
from wit.on_policy.recipes import PairsRecipe


def round_of(artifact: Artifact) -> int | None:
    """Counted from 1, of pairs, of the reference's log-probabilities of them, and of DPO on them.

    None for all else, also for what is measured.
    """
    match artifact.recipe:
        case PairsRecipe(round=number):
            return number
        case DPORecipe(on_policy=knobs):
            return knobs and knobs.rounds
    pairs = artifact.parents.get("preferences") if artifact.stage == "reference" else None
    return round_of(pairs) if isinstance(pairs, Artifact) else None
