"""What a study makes of one cell: an SFT model, and every alignment of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from wit.alignment_recipes import DPOKnobs, DPORecipe, ReferenceRecipe
from wit.artifacts import Artifact, Source
from wit.config import Cell, Study
from wit.measurements import Measurements
from wit.on_policy.recipes import PairsRecipe
from wit.on_policy.rounds import round_of
from wit.recipes import RungRecipe, SFTRecipe

Parents = Mapping[str, Artifact | Source]


@dataclass(frozen=True)
class AlignedPlan:
    """What one alignment makes of the SFT model of a cell."""

    alignment: str  # its name
    made: tuple[Artifact, ...]  # parents first: references, pairs, earlier rounds; its model last
    evaluations: tuple[Artifact, ...]

    @property
    def model(self) -> Artifact:
        """The aligned model."""
        return self.made[-1]

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All that is made, and what is measured on its model."""
        return (*self.made, *self.evaluations)

    @property
    def references(self) -> tuple[Artifact, ...]:
        """What its objective reads of the reference."""
        return tuple(artifact for artifact in self.made if artifact.stage == "reference")


@dataclass(frozen=True)
class CellPlan:
    """The artifacts of one cell."""

    cell: Cell
    sft: Artifact
    sft_evaluations: tuple[Artifact, ...]
    aligned: tuple[AlignedPlan, ...]  # the main one first
    rungs: tuple[Artifact, ...] = ()  # of a search, within SFT
    is_tuned: bool = True  # else it ends with the last of them

    @classmethod
    def of(
        cls, study: Study, cell: Cell, base: Source, data: Parents, measured: Measurements
    ) -> Self:
        """What a study makes of a cell.

        Args:
            study: Of which it is a cell.
            cell: Weights and seed.
            base: The model before tuning.
            data: What all cells share: ``tokenizer``, ``instructions``, ``preferences``, and of
                alignments that read one ``reward_model:NAME``.
            measured: What is measured on every model.
        """
        knobs = study.tuned_by[cell.tuning].model_dump()
        recipe = SFTRecipe(**knobs, weights=cell.weights, seed=cell.seed)
        parents = {"base": base, "instructions": data["instructions"]}
        sft = Artifact(root=measured.root, recipe=recipe, parents=parents)
        aligned = []
        for name, knobs in study.aligned_by.items():
            if knobs.on_policy is None:
                made = _trained(knobs, cell.seed, sft, sft, data["preferences"])
            else:
                made = _in_rounds(study, name, cell.seed, sft, data)
            aligned.append(AlignedPlan(name, made, measured.on_aligned(made[-1], sft)))
        stop = None if study.search is None else study.search.stop
        rungs = (
            RungRecipe(**recipe.model_dump(), share=share)
            for share in (() if stop is None else stop.sft_rungs)
        )
        at_rungs = (Artifact(root=measured.root, recipe=rung, parents=parents) for rung in rungs)
        return cls(cell, sft, measured.on_sft(sft), tuple(aligned), tuple(at_rungs))

    def up_to(self, rung: int) -> Self:
        """What a search makes of the cell to decide at a rung whether it goes on.

        Args:
            rung: From 0; those within SFT come first, then the SFT model and what is measured on
                it.
        """
        if rung >= len(self.rungs):
            return replace(self, aligned=())
        return replace(self, aligned=(), rungs=self.rungs[: rung + 1], is_tuned=False)

    @property
    def trainings(self) -> tuple[Artifact, ...]:
        """SFT, after its beginnings at which a search looks; one goes on from the other."""
        return (*self.rungs, self.sft) if self.is_tuned else self.rungs

    @property
    def dpo(self) -> Artifact:
        """The model of the main alignment."""
        return self.aligned[0].model

    @property
    def dpo_evaluations(self) -> tuple[Artifact, ...]:
        """What is measured on it; nothing where a search has stopped the cell before."""
        return self.aligned[0].evaluations if self.aligned else ()

    @property
    def alignment_steps(self) -> tuple[Artifact, ...]:
        """All that is made on the way to the aligned models, and they: each once, parents first."""
        return _once(artifact for one in self.aligned for artifact in one.made)

    @property
    def references(self) -> tuple[Artifact, ...]:
        """What any objective reads of the reference."""
        return tuple(step for step in self.alignment_steps if step.stage == "reference")

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All of them, parents first."""
        aligned = (artifact for one in self.aligned for artifact in one.artifacts)
        measured = self.sft_evaluations if self.is_tuned else ()
        return _once((*self.trainings, *measured, *aligned))

    @property
    def measured(self) -> tuple[tuple[Artifact, str, tuple[Artifact, ...]], ...]:
        """Every model, what people call it, and what is measured on it."""
        if not self.is_tuned:
            return ()
        aligned = ((o.model, f"dpo {self.label(o.alignment)}", o.evaluations) for o in self.aligned)
        return ((self.sft, f"sft {self.label()}", self.sft_evaluations), *aligned)

    @property
    def alignment_of(self) -> dict[str, str]:
        """Of several alignments the name, by fingerprint of what belongs to one of them.

        That is its model, what is measured on it, and what no other alignment reads.
        """
        if len(self.aligned) == 1:
            return {}
        owners: dict[str, set[str]] = {}
        for one in self.aligned:
            for artifact in one.made:
                owners.setdefault(artifact.fingerprint, set()).add(one.alignment)
        names = {step: name for step, (name, *others) in owners.items() if not others}
        for one in self.aligned:
            own = (one.model, *one.evaluations)
            names |= dict.fromkeys((artifact.fingerprint for artifact in own), one.alignment)
        return names

    @property
    def labels(self) -> dict[str, str]:
        """What people read of each artifact, by fingerprint; see ``label``."""
        names, found = self.alignment_of, {}
        for artifact in self.artifacts:
            label, number = self.label(names.get(artifact.fingerprint)), round_of(artifact)
            label += "" if number is None else f" round {number}"
            if isinstance(artifact.recipe, RungRecipe):
                label += f" to {artifact.recipe.share:.0%}"
            found[artifact.fingerprint] = label
        return found

    def label(self, alignment: str | None = None) -> str:
        """Names the cell, and the alignment if there are several."""
        has_several = alignment is not None and len(self.aligned) > 1
        return f"{self.cell} {alignment}" if has_several else str(self.cell)


def _trained(
    knobs: DPOKnobs,
    seed: int,
    sft: Artifact,
    policy: Artifact,
    preferences: Artifact | Source,
) -> tuple[Artifact, ...]:
    """What the reference finds of the preferences, and training with them, its model last."""
    root = sft.root
    reference: Parents = {"policy": sft, "preferences": preferences}
    read = {
        part: Artifact(root=root, recipe=recipe, parents={**reference})
        for part, recipe in _references(knobs).items()
    }
    recipe = DPORecipe(**knobs.model_dump(), seed=seed)
    parents = {"policy": policy, "preferences": preferences, **read}
    return *read.values(), Artifact(root=root, recipe=recipe, parents=parents)


def _references(knobs: DPOKnobs) -> dict[str, ReferenceRecipe]:
    """What an objective reads of the reference, by the part that it plays."""
    recipes = {}
    if knobs.has_reference:
        recipes["reference"] = ReferenceRecipe(precision=knobs.precision)
    if knobs.is_for_unpaired:
        recipes["mismatched"] = ReferenceRecipe(precision=knobs.precision, responses="mismatched")
    return recipes


def _in_rounds(
    study: Study, name: str, seed: int, sft: Artifact, data: Parents
) -> tuple[Artifact, ...]:
    """Pairs of the policy's own responses and training with them, as often as is asked."""
    knobs = study.aligned_by[name]
    assert knobs.on_policy is not None
    asked: Parents = {part: data[part] for part in ("preferences", "tokenizer")}
    if knobs.on_policy.reward_model is not None:
        asked = {**asked, "reward_model": data[f"reward_model:{name}"]}
    made: list[Artifact] = []
    policy = sft
    for number in range(1, knobs.on_policy.rounds + 1):
        recipe = PairsRecipe.of(knobs.on_policy, number, seed, study.judge)
        pairs = Artifact(root=sft.root, recipe=recipe, parents={"policy": policy, **asked})
        trained = _trained(knobs.of_round(number), seed, sft, policy, pairs)
        made += [pairs, *trained]
        policy = trained[-1]
    return tuple(made)


def _once(artifacts: Iterable[Artifact]) -> tuple[Artifact, ...]:
    """Each artifact once, where it comes first."""
    found: dict[str, Artifact] = {}
    for artifact in artifacts:
        found.setdefault(artifact.fingerprint, artifact)
    return tuple(found.values())
