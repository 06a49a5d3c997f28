"""What people see of a study's texts: cards of its sets, test items in them, sample responses.

Kept beside the report, so that the page can be written again without the artifacts.
"""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from wit.analysis.answers import Samples
from wit.analysis.drawn_pairs import DrawnPairs, drawn_pairs
from wit.analysis.without_overlap import WithoutOverlap, without_overlap
from wit.config import Settings
from wit.data.card import read_card
from wit.data.overlap import Overlap
from wit.errors import ArtifactError
from wit.files import replace_durably
from wit.plan import Plan

DATA = "data.json"


class DataSummary(Settings):
    """Cards, overlap and samples, as far as they are made."""

    cards: dict[str, dict[str, Any]] = Field(default_factory=dict)  # by set
    overlap: Overlap | None = None
    # By benchmark of which any item stands in the training rows.
    without_overlap: dict[str, WithoutOverlap] = Field(default_factory=dict)
    samples: Samples | None = None
    pairs: tuple[DrawnPairs, ...] = ()  # made on policy

    @classmethod
    def of_plan(cls, plan: Plan) -> Self:
        """That of the artifacts that exist; a damaged one is left out, as its own stage says so.

        Of several tunings what was made by the main one.
        """
        plan = plan.of_main_tuning
        cards: dict[str, dict[str, Any]] = {}
        for artifact in (plan.instructions, plan.preferences):
            try:
                cards[artifact.stage] = read_card(artifact.path)
            except (OSError, ValueError):
                continue
        found = cls(cards=cards, samples=Samples.of_plan(plan), pairs=drawn_pairs(plan))
        try:
            overlap = Overlap.load(plan.overlap.path)
        except ArtifactError:
            return found
        rest = without_overlap(plan, overlap)
        return found.model_copy(update={"overlap": overlap, "without_overlap": rest})

    def save(self, folder: Path, version: str | None = None) -> None:
        """Writes ``data.json`` into ``folder``, with the version of the study that it is of."""
        content = {"version": version, **self.model_dump(mode="json")}
        replace_durably(folder / DATA, f"{json.dumps(content)}\n".encode())

    @classmethod
    def load(cls, folder: Path, version: str | None = None) -> Self | None:
        """What ``save`` wrote; nothing if there is none, or another version of wit wrote it.

        Args:
            folder: Of the study.
            version: Of the study; nothing either, if it is of another one. None: of any.
        """
        try:
            content = json.loads((folder / DATA).read_text(encoding="utf-8"))
            found = content.pop("version", None)
            is_other = None not in (version, found) and version != found
            return None if is_other else cls.model_validate(content)
        except (OSError, ValueError, AttributeError, TypeError):
            return None
