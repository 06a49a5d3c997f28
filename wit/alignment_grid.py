"""Several alignments of one study: what they share, what tells them apart, and their identity."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from wit.adapter_recipes import by_name
from wit.alignment.objectives import KNOBS, NAMES, OBJECTIVES, defaults_of
from wit.alignment_recipes import DPOKnobs
from wit.study_checks import check_differ

ONLY_ALIGNMENT = "dpo"  # name of the alignment of a study that names none
TAKEN = ("base", "sft")  # names of other models


def with_shared_knobs(study: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a study, in which every alignment says what ``dpo`` says for it too.

    What belongs to an objective is for alignments of the same objective alone: ``beta``,
    ``loss_weights``, the knobs that only some have, and whatever either of the two objectives has
    otherwise than DPO. All else is for every alignment. ``loss_weights``, ``adapter`` and
    ``on_policy`` are replaced whole. Where ``dpo`` itself is wrong nothing is shared: it is
    complained of once.
    """
    alignments = study.get("alignments")
    if not isinstance(alignments, dict):
        return {**study}
    try:
        shared = DPOKnobs.model_validate(study.get("dpo") or {})
    except ValidationError:
        return {**study}
    whole = {
        name: {**_shared_with(own or {}, shared), **(own or {})}
        if isinstance(own or {}, dict)
        else own
        for name, own in alignments.items()
    }
    return {**study, "alignments": whole}


def _shared_with(own: Mapping[str, Any], shared: DPOKnobs) -> dict[str, Any]:
    """What an alignment takes over.

    Stated or not: a study that is stored and read again says every knob. Of those that are taken
    over, both objectives have the same defaults.
    """
    name = own.get("objective", shared.objective)
    if name == shared.objective:
        terms = own.get("loss_weights", shared.loss_weights) or {name: 1.0}
        used = [OBJECTIVES[one].knobs for one in NAMES if isinstance(terms, dict) and one in terms]
        of_objective = KNOBS.difference(*used)
    else:
        of_own = defaults_of(name) if name in NAMES else {}
        of_objective = {"beta", *KNOBS, *defaults_of(shared.objective), *of_own}
    if (by_name(own.get("adapter", shared.adapter)) is None) != (shared.adapter is None):
        of_objective = {*of_objective, "learning_rate"}  # adapters have their own
    values = shared.model_dump(mode="json")
    return {knob: value for knob, value in values.items() if knob not in of_objective}


def check_alignments(alignments: Mapping[str, DPOKnobs]) -> None:
    """Passes if every name is free, and no two stand for one model.

    Raises:
        ValueError: They do not.
    """
    for name in alignments:
        if name in TAKEN:
            raise ValueError(f"{name!r} is what another model is called; choose another name")
    check_differ({name: alignment_id(knobs) for name, knobs in alignments.items()}, "model")


def alignment_id(knobs: DPOKnobs) -> str:
    """Twelve hex digits over the knobs, whatever a study calls them, and without the seed."""
    values = {name: value for name, value in knobs.identity().items() if name != "seed"}
    if knobs.on_policy is not None and (where := knobs.on_policy.reward_model) is not None:
        values["reward_model"] = where.model_dump(mode="json")  # no part of the identity
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
