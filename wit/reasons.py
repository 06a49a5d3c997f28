"""Why a model was chosen, kept beside the artifacts: its card says so without asking MLflow."""

import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from wit.files import write_durably
from wit.records import Kept
from wit.settings import Settings

REASONS = "chosen.json"  # in the folder of the study
_log = logging.getLogger(__name__)


class Reasons(Settings):
    """The model that a study chose last."""

    fingerprint: str
    sentences: tuple[str, ...]
    comparison: str | None = None  # with the champion before it; None: there was none


def keep_reasons(
    model: Kept, study: str, sentences: Sequence[str], comparison: str | None = None
) -> None:
    """Keeps them with the study, in the place of those of an earlier choice.

    What comparing said when the same model was registered stays where nothing is compared now.
    Call this while no other registration of the study goes on.
    """
    file = model.root / "studies" / study / REASONS
    before = _read(file)
    if comparison is None and before and before.fingerprint == model.fingerprint:
        comparison = before.comparison
    reasons = Reasons(
        fingerprint=model.fingerprint, sentences=tuple(sentences), comparison=comparison
    )
    if reasons == before:
        return
    content = json.dumps(reasons.model_dump(mode="json"), indent=1, ensure_ascii=False)
    aside = file.with_name(f".{file.name}.{os.getpid()}")  # other stores may share the root
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(aside, content.encode())
        aside.replace(file)
    except OSError as error:  # the registry has them too
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        _log.warning("%s: cannot be written (%s)", file, error.strerror or error)


def reasons_of(model: Kept) -> tuple[str, ...]:
    """Why studies beside the model chose it; nothing where none did, or none said so."""
    found: list[str] = []
    for file in sorted((model.root / "studies").glob(f"*/{REASONS}")):
        reasons = _read(file)
        if reasons and reasons.fingerprint == model.fingerprint:
            found += [*reasons.sentences, *([reasons.comparison] if reasons.comparison else [])]
    return tuple(found)


def _read(file: Path) -> Reasons | None:
    """What was kept; None where nothing was, or nothing that can be read."""
    try:
        return Reasons.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("left out: %s: cannot be read (%s)", file, error)
        return None
