"""What a study makes of one cell: an SFT model, and every alignment of it."""

from dataclasses import dataclass

from wit.artifacts import Artifact
from wit.config import Cell


@dataclass(frozen=True)
class AlignedPlan:
    """What one alignment makes of the SFT model of a cell."""

    alignment: str  # its name
    model: Artifact
    evaluations: tuple[Artifact, ...]

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The model, and what is measured on it."""
        return (self.model, *self.evaluations)

    @property
    def references(self) -> tuple[Artifact, ...]:
        """What its objective reads of the reference."""
        parents = self.model.parents.values()
        return tuple(p for p in parents if isinstance(p, Artifact) and p.stage == "reference")


@dataclass(frozen=True)
class CellPlan:
    """The artifacts of one cell."""

    cell: Cell
    sft: Artifact
    sft_evaluations: tuple[Artifact, ...]
    references: tuple[Artifact, ...]  # that any objective reads
    aligned: tuple[AlignedPlan, ...]  # the main one first

    @property
    def dpo(self) -> Artifact:
        """The model of the main alignment."""
        return self.aligned[0].model

    @property
    def dpo_evaluations(self) -> tuple[Artifact, ...]:
        """What is measured on it."""
        return self.aligned[0].evaluations

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All of them, parents first."""
        aligned = (artifact for one in self.aligned for artifact in one.artifacts)
        return (self.sft, *self.sft_evaluations, *self.references, *aligned)

    @property
    def measured(self) -> tuple[tuple[Artifact, str, tuple[Artifact, ...]], ...]:
        """Every model, what people call it, and what is measured on it."""
        aligned = ((o.model, f"dpo {self.label(o.alignment)}", o.evaluations) for o in self.aligned)
        return ((self.sft, f"sft {self.label()}", self.sft_evaluations), *aligned)

    def label(self, alignment: str | None = None) -> str:
        """Names the cell, and the alignment if there are several."""
        has_several = alignment is not None and len(self.aligned) > 1
        return f"{self.cell} {alignment}" if has_several else str(self.cell)
