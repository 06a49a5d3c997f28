"""Why a model was chosen, kept beside the artifacts: its card says so without asking MLflow."""

import json
import logging
from collections.abc import Sequence

from pydantic import ValidationError

from wit.files import write_durably
from wit.records import Kept
from wit.settings import Settings

REASONS = "chosen.json"  # in the folder of the study
_log = logging.getLogger(__name__)


class Reasons(Settings):
    """The model that a study chose last."""

    fingerprint: str
    sentences: tuple[str, ...]


def keep_reasons(model: Kept, study: str, sentences: Sequence[str]) -> None:
    """Keeps them with the study, in the place of those of an earlier choice."""
    file = model.root / "studies" / study / REASONS
    reasons = Reasons(fingerprint=model.fingerprint, sentences=tuple(sentences))
    content = json.dumps(reasons.model_dump(mode="json"), indent=1, ensure_ascii=False)
    aside = file.with_suffix(".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(aside, content.encode())
        aside.replace(file)
    except OSError as error:  # the registry has them too
        _log.warning("%s: cannot be written (%s)", file, error.strerror or error)


def reasons_of(model: Kept) -> tuple[str, ...]:
    """Why studies beside the model chose it; nothing where none did, or none said so."""
    found: list[str] = []
    for file in sorted((model.root / "studies").glob(f"*/{REASONS}")):
        try:
            reasons = Reasons.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, ValidationError) as error:
            _log.warning("left out: %s: cannot be read (%s)", file, error)
            continue
        if reasons.fingerprint == model.fingerprint:
            found += reasons.sentences
    return tuple(found)
