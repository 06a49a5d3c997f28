"""What people see of a study's data: the cards of its sets, and the test items that stand in them.

Kept beside the report, so that the page can be written again without the artifacts.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError

from wit.config import Settings
from wit.data.card import read_card
from wit.data.overlap import Overlap
from wit.errors import ArtifactError
from wit.plan import Plan

DATA = "data.json"


class DataSummary(Settings):
    """Cards and overlap, as far as they are made."""

    cards: dict[str, dict[str, Any]] = Field(default_factory=dict)  # by set
    overlap: Overlap | None = None

    @classmethod
    def of_plan(cls, plan: Plan) -> Self:
        """That of the artifacts that exist; a damaged one is left out, as its own stage says so."""
        cards: dict[str, dict[str, Any]] = {}
        for artifact in (plan.instructions, plan.preferences):
            try:
                cards[artifact.stage] = read_card(artifact.path)
            except (OSError, ValueError):
                continue
        try:
            return cls(cards=cards, overlap=Overlap.load(plan.overlap.path))
        except ArtifactError:
            return cls(cards=cards)

    def save(self, folder: Path) -> None:
        """Writes ``data.json`` into ``folder``."""
        text = self.model_dump_json(indent=1)
        (folder / DATA).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """What ``save`` wrote; nothing if there is none, or it is from another version."""
        try:
            return cls.model_validate_json((folder / DATA).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError):
            return None
