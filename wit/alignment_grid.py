"""Several alignments of one study: what they share, what tells them apart, and their identity."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from wit.alignment.objectives import KNOBS, defaults_of
from wit.alignment_recipes import DPOKnobs

ONLY_ALIGNMENT = "dpo"  # name of the alignment of a study that names none
TAKEN = ("base", "sft")  # names of other models


def with_shared_knobs(study: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a study, in which every alignment says what ``dpo`` says for all.

    A knob that neither says is left to the objective. ``loss_weights``, ``lora`` and ``on_policy``
    are replaced whole. Where ``dpo`` itself is wrong nothing is shared: it is complained of once.
    """
    shared, alignments = study.get("dpo"), study.get("alignments")
    if isinstance(shared, DPOKnobs):
        shared = shared.model_dump(mode="json", exclude_none=True)
    if not isinstance(shared or {}, dict) or not isinstance(alignments, dict):
        return {**study}
    try:
        knobs = DPOKnobs.model_validate(shared or {})
    except ValidationError:
        return {**study}
    # What its objective has anyway is not for others, such as the {dpo: 1.0} of a stored study.
    anyway = defaults_of(knobs.objective)
    of_objective = {
        name for name in (*KNOBS, "loss_weights") if getattr(knobs, name) == anyway.get(name)
    }
    of_all = {name: value for name, value in (shared or {}).items() if name not in of_objective}
    whole = {
        name: {**of_all, **(own or {})} if isinstance(own or {}, dict) else own
        for name, own in alignments.items()
    }
    return {**study, "alignments": whole}


def check_alignments(alignments: Mapping[str, DPOKnobs]) -> None:
    """Passes if every name is free, and no two stand for one model.

    Raises:
        ValueError: They do not.
    """
    by_id: dict[str, str] = {}
    for name, knobs in alignments.items():
        if name in TAKEN:
            raise ValueError(f"{name!r} is what another model is called; choose another name")
        first = by_id.setdefault(alignment_id(knobs), name)
        if first != name:
            raise ValueError(
                f"{first!r} and {name!r} have the same knobs, so they would be one model; leave "
                "one of them out"
            )


def alignment_id(knobs: DPOKnobs) -> str:
    """Twelve hex digits over the knobs, whatever a study calls them, and without the seed."""
    values = {name: value for name, value in knobs.identity().items() if name != "seed"}
    if knobs.on_policy is not None and (where := knobs.on_policy.reward_model) is not None:
        values["reward_model"] = where.model_dump(mode="json")  # no part of the identity
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
