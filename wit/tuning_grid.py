"""Several ways of SFT in one study: what they share, what tells them apart, and their identity."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from wit.adapter_recipes import FASTER, by_name
from wit.places import Key
from wit.recipes import SFTKnobs
from wit.study_checks import check_differ

EPOCHS = "num_epochs"


def with_shared_sft(study: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a study, in which every tuning says what ``sft`` says for it too.

    One whose ``num_epochs`` is a list is as many tunings: ``full: {num_epochs: [1, 4]}`` is
    ``full-e1`` and ``full-e4``. ``adapter`` is replaced whole. A learning rate that only ``sft``
    names is ``FASTER`` times as high for a tuning with an adapter where ``sft`` has none, and so
    much lower the other way round. Where ``sft`` itself is wrong nothing is shared: it is
    complained of once.

    Raises:
        ValueError: Two tunings would have one name, or a list of epochs is none, or has one twice.
    """
    tunings = study.get("tunings")
    if not isinstance(tunings, dict):
        return {**study}
    try:
        shared = SFTKnobs.model_validate(study.get("sft") or {})
    except ValidationError:
        shared = None
    whole: dict[str, Any] = {}
    for name, own in (one for tuning in tunings.items() for one in _by_epochs(*tuning)):
        if name in whole:
            _, holder = written_tunings(study)["tunings", name]
            raise ValueError(
                f"tunings: {name!r} is there twice: 'tunings.{holder}.{EPOCHS}' stands for one of "
                "that name; name the other one otherwise, or leave it out"
            )
        is_settings = own is None or isinstance(own, dict)
        whole[name] = _shared_with(own or {}, shared) | (own or {}) if is_settings else own
    return {**study, "tunings": whole}


def written_tunings(study: Mapping[str, Any]) -> dict[Key, Key]:
    """By the key of a tuning that a list of epochs stands for, and of its epochs: what is written.

    Args:
        study: As its file has it.
    """
    found: dict[Key, Key] = {}
    tunings = study.get("tunings")
    for name, own in tunings.items() if isinstance(tunings, dict) else ():
        for place, number in enumerate(_epochs_of(own) or ()):
            made = ("tunings", _called(name, number))
            found[made] = ("tunings", name)
            found[(*made, EPOCHS)] = ("tunings", name, EPOCHS, place)
    return found


def _by_epochs(name: str, own: Any) -> Iterator[tuple[str, Any]]:
    epochs = _epochs_of(own)
    if epochs is None:
        yield name, own
        return
    if not epochs:
        raise ValueError(f"tunings.{name}.{EPOCHS} names no number; such as [1, 2, 4]")
    for number in epochs:
        if epochs.count(number) > 1:
            raise ValueError(f"tunings.{name}.{EPOCHS} names {number} twice; once is enough")
        yield _called(name, number), {**own, EPOCHS: number}


def _epochs_of(own: Any) -> list[Any] | None:
    """Of a tuning that stands for several."""
    epochs = own.get(EPOCHS) if isinstance(own, dict) else None
    return epochs if isinstance(epochs, list) else None


def _called(name: str, num_epochs: Any) -> str:
    return f"{name}-e{num_epochs}"


def _shared_with(own: Mapping[str, Any], shared: SFTKnobs | None) -> dict[str, Any]:
    """What a tuning takes over; nothing of an ``sft`` that is wrong.

    Stated or not: a study that is stored and read again says every knob.
    """
    if shared is None:
        return {}
    values = shared.model_dump(mode="json")
    is_adapted = by_name(own.get("adapter", shared.adapter)) is not None
    if is_adapted != (shared.adapter is not None):
        factor = FASTER if is_adapted else 1 / FASTER
        values["learning_rate"] = float(f"{factor * shared.learning_rate:.12g}")
    return values


def check_tunings(tunings: Mapping[str, SFTKnobs]) -> None:
    """Passes if no two stand for one training.

    Raises:
        ValueError: They do.
    """
    check_differ({name: tuning_id(knobs) for name, knobs in tunings.items()}, "training")


def tuning_id(knobs: SFTKnobs) -> str:
    """Twelve hex digits over the knobs, whatever a study calls them, without weights and seed."""
    values = {name: v for name, v in knobs.identity().items() if name in SFTKnobs.model_fields}
    if knobs.adapter is None:
        values["adapter"] = None  # what ``identity`` says instead is of fingerprints
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def curves_of(tunings: Mapping[str, SFTKnobs]) -> dict[str, list[str]]:
    """Tunings that differ in epochs alone, fewest first, by what their names have in common."""
    by_rest: dict[str, list[str]] = {}
    for name, knobs in tunings.items():
        rest = tuning_id(knobs.model_copy(update={EPOCHS: 1}))
        by_rest.setdefault(rest, []).append(name)
    found: dict[str, list[str]] = {}
    for names in by_rest.values():
        names.sort(key=lambda name: tunings[name].num_epochs)
        first = names[0]
        common = first.removesuffix(f"-e{tunings[first].num_epochs}")
        found[common if len(names) > 1 and common not in found else first] = names
    return found
