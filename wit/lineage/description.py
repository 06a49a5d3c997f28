"""What MLflow is told about an artifact before it is made: a name, params, tags.

Pure functions of artifacts; nothing here knows MLflow.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from wit.alignment_grid import alignment_id
from wit.alignment_recipes import DPOKnobs, DPORecipe
from wit.artifacts import Artifact, Source
from wit.config import Study, TokenWeights
from wit.evaluation_recipes import EvaluationRecipe
from wit.lineage.terms import BASE, PRINCIPAL
from wit.on_policy.recipes import PairsRecipe
from wit.on_policy.rounds import round_of
from wit.recipes import SFTRecipe
from wit.tuning_grid import tuning_id

USUAL = ("dpo", 0.1)  # objective and beta, which no name need say


class CellIdentity(NamedTuple):
    """Which model of a study an artifact is, or was measured on."""

    model_stage: str  # base, rung, sft, pairs, reference or dpo
    weights: TokenWeights | None  # None: the base
    seed: int | None
    alignment: DPORecipe | None = None  # None: it is not aligned
    round: int | None = None  # on policy, from 1; None: it is of none
    tuning: str | None = None  # how its SFT was told to train, see ``tuning_id``

    def __str__(self) -> str:
        return BASE if self.weights is None else f"{self.weights}-s{self.seed}"

    @property
    def label(self) -> str:
        """The cell, and how it was aligned where that is not as usual."""
        label = str(self)
        if self.alignment is not None and _of(self.alignment) != USUAL:
            label += f" {self.alignment.objective} beta {self.alignment.beta:g}"
        return label if self.round is None else f"{label} round {self.round}"


def _of(knobs: DPOKnobs) -> tuple[str, float]:
    return knobs.objective, knobs.beta


def cell_of(artifact: Artifact | Source) -> CellIdentity | None:
    """The cell of a model or of an evaluation; None for data, which all cells share."""
    if isinstance(artifact, Source):
        return CellIdentity(BASE, None, None)
    if isinstance(artifact.recipe, SFTRecipe):
        recipe = artifact.recipe
        return CellIdentity(artifact.stage, recipe.weights, recipe.seed, tuning=tuning_id(recipe))
    if artifact.stage not in ("pairs", "reference", "dpo", "evaluation"):
        return None
    principal = artifact.parents.get(PRINCIPAL[artifact.stage])
    cell = None if principal is None else cell_of(principal)
    if cell is None or artifact.stage == "evaluation":
        return cell
    cell = cell._replace(model_stage=artifact.stage, round=round_of(artifact))
    is_aligned = isinstance(artifact.recipe, DPORecipe)
    return cell._replace(alignment=artifact.recipe) if is_aligned else cell


def run_name(artifact: Artifact, names: Mapping[str, str] | None = None) -> str:
    """What the run is called, such as ``wit_choice dpo p0.2-r1-s0`` of an evaluation.

    Args:
        artifact: Made by it.
        names: Of several tunings, and of alignments that objective and beta do not tell apart, by
            identity.
    """
    cell, names = cell_of(artifact), names or {}
    if cell is None:
        return f"{artifact.stage} {artifact.fingerprint[:6]}"
    identities = (cell.tuning, cell.alignment and alignment_id(cell.alignment))
    label = " ".join([cell.label, *(names[one] for one in identities if one and one in names)])
    if not isinstance(artifact.recipe, EvaluationRecipe):
        return f"{artifact.stage} {label}"
    model = f"{cell.model_stage} {label}" if cell.weights else BASE
    return f"{artifact.recipe.measures} {model}"


def run_params(artifact: Artifact) -> dict[str, str]:
    """The recipe, flat, and the cell: enough for one query to compare models without joins."""
    params = flat(artifact.recipe.model_dump(mode="json", exclude_none=True))
    cell = cell_of(artifact)
    if cell is None:
        return params
    params["model_stage"] = cell.model_stage
    if cell.weights is not None:
        params["prompt_weight"] = f"{cell.weights.prompt:g}"
        params["response_weight"] = f"{cell.weights.response:g}"
        params["weights"] = str(cell.weights)
        params["seed"] = str(cell.seed)
        params["tuning"] = str(cell.tuning)
    for made in (artifact, *artifact.parents.values()):
        if isinstance(made, Artifact) and isinstance(made.recipe, PairsRecipe):
            params["pairs"] = pairs_id(made.recipe)
    if cell.alignment is not None:
        params["alignment"] = alignment_id(cell.alignment)
        params["objective"] = cell.alignment.objective
        params["beta"] = json.dumps(cell.alignment.beta)
    return params


def pairs_id(recipe: PairsRecipe) -> str:
    """Twelve hex digits over how a round's pairs are made, for whatever cell."""
    values = recipe.model_dump(mode="json", exclude={"seed"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def run_tags(artifact: Artifact) -> dict[str, str]:
    """Identity, and the parents by the part that each plays."""
    tags = {
        "wit.fingerprint": artifact.fingerprint,
        "wit.stage": artifact.stage,
        "wit.path": str(artifact.path),
        "wit.ancestors": " ".join(sorted(ancestors(artifact))),
    }
    cell = cell_of(artifact)
    if cell is not None:
        tags["wit.cell"] = str(cell)
    for part, parent in artifact.parents.items():
        tags[f"wit.parent.{part}"] = parent.fingerprint
        if isinstance(parent, Source):
            tags[f"wit.source.{part}"] = f"{parent.kind} {parent.location}"
    return tags


def ancestors(artifact: Artifact) -> set[str]:
    """Fingerprints of all that it was made of, so that one query finds all that came of a thing."""
    found = {parent.fingerprint for parent in artifact.parents.values()}
    for parent in artifact.parents.values():
        if isinstance(parent, Artifact):
            found |= ancestors(parent)
    return found


def study_params(study: Study) -> dict[str, str]:
    """The study, flat; the benchmarks by their names, so that their role can be looked up."""
    values = study.model_dump(mode="json", exclude_none=True, exclude={"benchmarks", "judged"})
    scored = (*study.benchmarks, *study.judged)
    by_name = {one.name: one.model_dump(mode="json", exclude={"name"}) for one in scored}
    return flat(values | {"benchmarks": by_name})


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values under dotted names; a list stays together, as JSON."""
    result: dict[str, str] = {}
    for key, value in values.items():
        name = re.sub(r"[^\w\-. :/]", "_", f"{prefix}{key}")  # MLflow refuses other signs
        if isinstance(value, Mapping):
            result |= flat(value, f"{name}.")
        else:
            result[name] = value if isinstance(value, str) else json.dumps(value)
    return result
