"""What a study will make: every artifact with its fingerprint, before anything is made."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from wit.artifact_store import store_of
from wit.artifacts import Artifact, Source
from wit.cell_plan import CellPlan
from wit.compatibility import check_together
from wit.config import Cell, Runtime, Study
from wit.evaluation_recipes import BenchmarkRecipe, ItemsRecipe, OverlapRecipe
from wit.files import check_writable
from wit.lineage.cells import Begun
from wit.measurements import Measurements
from wit.recipes import TokenizerRecipe
from wit.search_plan import Search, replay
from wit.sharing import RESULTS, inputs_of
from wit.study_sources import (
    TRAINED_ON,
    base_sources,
    benchmarks_of,
    reward_models_of,
    rows_by_source,
)


@dataclass(frozen=True)
class Plan:
    """All artifacts of a study."""

    study: Study
    base: Source
    tokenizer: Artifact
    instructions: Artifact
    preferences: Artifact
    items: Artifact  # of the benchmarks
    overlap: Artifact  # of items and training rows
    base_evaluations: tuple[Artifact, ...]
    cells: tuple[CellPlan, ...]  # of a search those that it has begun
    candidates: tuple[CellPlan, ...] = ()  # of a search all that it may try
    search: Search | None = None  # how far it has come
    stored: frozenset[str] = frozenset()  # fingerprints of what the artifact store had

    @property
    def data(self) -> tuple[Artifact, ...]:
        """What all cells share."""
        return (self.tokenizer, self.instructions, self.preferences)

    @property
    def shared(self) -> tuple[Artifact, ...]:
        """What belongs to no cell, parents first; no cell waits for the overlap."""
        tokenizer, *rows = self.data
        return (tokenizer, self.items, *rows, self.overlap, *self.base_evaluations)

    @property
    def to_make(self) -> list[Artifact]:
        """What is not made yet; of a search all that it may come to make."""
        return [a for a, _ in self.at_most.artifacts() if not self.is_made(a)]

    @property
    def has_to_train(self) -> bool:
        """Whether a training is still to be made; else no machine is too small for it."""
        return any(artifact.stage in ("rung", "sft", "dpo") for artifact in self.to_make)

    @property
    def alignment_of(self) -> dict[str, str]:
        """Of several alignments the name, by fingerprint; see ``CellPlan.alignment_of``."""
        return {step: name for cell in self.cells for step, name in cell.alignment_of.items()}

    @property
    def labels(self) -> dict[str, str]:
        """What people read of each artifact of a cell; see ``CellPlan.labels``."""
        return {step: label for cell in self.cells for step, label in cell.labels.items()}

    def is_made(self, artifact: Artifact) -> bool:
        """Whether it is reused: it is here, or the artifact store has it."""
        return artifact.exists() or artifact.fingerprint in self.stored

    def downloads(self) -> list[Artifact]:
        """What a run brings from the store: what open stages read, and what a report is of."""
        planned = [artifact for artifact, _ in self.artifacts()]
        wanted = {a.fingerprint: a for a in planned if a.stage in RESULTS}
        for stage in planned:
            if not self.is_made(stage):
                wanted |= {a.fingerprint: a for a in inputs_of(stage)}
        return [a for a in wanted.values() if a.fingerprint in self.stored and not a.exists()]

    def replayed(self, tried: Collection[str] = frozenset()) -> "Plan":
        """The plan with what the search has begun by now; without a search, as it is.

        Args:
            tried: See ``replay``.
        """
        if self.study.search is None:
            return self
        found = replay(self.study, self.candidates, tried)
        return replace(self, cells=found.cells, search=found)

    @property
    def begun(self) -> Begun | None:
        """Which cells a search has begun; None: all cells of the study are made."""
        if self.search is None:
            return None
        names = tuple(str(one.cell) for one in self.cells)
        unaligned = tuple(str(one.cell) for one in self.cells if not one.aligned)
        untuned = tuple(str(one.cell) for one in self.cells if not one.is_tuned)
        return Begun(cells=names, unaligned=unaligned, untuned=untuned)

    @property
    def fingerprints(self) -> frozenset[str]:
        """Of all its artifacts; a search that goes on has others."""
        return frozenset(artifact.fingerprint for artifact, _ in self.artifacts())

    @property
    def at_most(self) -> "Plan":
        """The plan with as many cells as a search may begin; without one, as it is.

        Those to come are the ones of which least is made: what it does instead costs no more.
        """
        if self.search is None or self.search.is_over:
            return self
        by_name = {str(planned.cell): planned for planned in self.candidates}
        begun, stopped = (
            {str(cell) for cell in cells}
            for cells in ([planned.cell for planned in self.cells], self.search.stopped)
        )
        others = [planned for name, planned in by_name.items() if name not in begun]
        others.sort(key=lambda planned: sum(map(self.is_made, planned.artifacts)))
        num_more = self.search.knobs.budget - len(begun)
        cells = (
            planned if str(planned.cell) in stopped else by_name[str(planned.cell)]
            for planned in self.cells
        )
        return replace(self, cells=(*cells, *others[:num_more]))

    @property
    def trained(self) -> "Plan":
        """The plan with the cells of a search that have models; without one, as it is.

        To measure something else on them: by other scores the search would try other cells.
        """
        if self.search is None:
            return self
        cells = (
            planned
            if any(self.is_made(one.model) for one in planned.aligned)
            else replace(planned, aligned=())
            for planned in (replace(candidate, rungs=()) for candidate in self.candidates)
            if self.is_made(planned.sft)
        )
        return replace(self, cells=tuple(cells), search=replace(self.search, is_over=True))

    @property
    def of_main_tuning(self) -> "Plan":
        """The plan with the cells of the study's first way of SFT."""
        main = next(iter(self.study.tuned_by))
        return replace(self, cells=tuple(one for one in self.cells if one.cell.tuning == main))

    @property
    def every(self) -> "Plan":
        """The plan with all cells that a search may try; without one, as it is."""
        return self if self.search is None else replace(self, cells=self.candidates)

    @property
    def whole(self) -> tuple[Artifact, ...]:
        """All that belongs to the study, whatever a search comes to try: its identity."""
        return tuple(artifact for artifact, _ in self.every.artifacts())

    def artifacts(self) -> Iterator[tuple[Artifact, Cell | None]]:
        """Every artifact with its cell, parents first."""
        for artifact in self.shared:
            yield artifact, None
        for cell in self.cells:
            for artifact in cell.artifacts:
                yield artifact, cell.cell


def make_plan(study: Study, runtime: Runtime) -> Plan:
    """The artifacts of a study; reads what is needed to know their identity, writes nothing.

    Raises:
        InputError: What the study names is missing or unknown, or does not go with the runtime;
            says where the study names it. Or the artifact store cannot be asked.
    """
    root = runtime.artifact_root.resolve()
    check_writable(root)
    plan = _with_stored(_planned(study, root).replayed(), runtime)
    if plan.has_to_train:
        check_together(study, runtime)
    return plan


def _planned(study: Study, root: Path) -> Plan:
    """The artifacts of a study below ``root``."""
    base, tokenizer_files = base_sources(study)
    recipe = TokenizerRecipe(template=study.base.template)
    tokenizer = Artifact(root=root, recipe=recipe, parents={"base": tokenizer_files})
    benchmarks = benchmarks_of(study)
    # The same items, however many worked examples stand before each.
    asked = tuple(BenchmarkRecipe.of(benchmark).items for benchmark in study.benchmarks)
    items = Artifact(root=root, recipe=ItemsRecipe(benchmarks=asked), parents={**benchmarks})
    instructions, preferences = (
        Artifact(
            root=root,
            recipe=getattr(study, name),
            parents={"tokenizer": tokenizer, **rows_by_source(study, name)}
            # Only then do other benchmarks make other rows.
            | ({"items": items} if getattr(study, name).overlap == "remove" else {}),
        )
        for name in TRAINED_ON
    )
    shared = {"tokenizer": tokenizer, "instructions": instructions, "preferences": preferences}

    measured = Measurements.of(study, root, base, shared, benchmarks)
    data = {**shared, **reward_models_of(study)}
    cells = tuple(CellPlan.of(study, cell, base, data, measured) for cell in study.cells)
    return Plan(
        study=study,
        base=base,
        tokenizer=tokenizer,
        instructions=instructions,
        preferences=preferences,
        items=items,
        overlap=Artifact(root=root, recipe=OverlapRecipe(), parents={"items": items, **shared}),
        base_evaluations=measured.on_base(),
        cells=cells,
        candidates=cells if study.search is not None else (),
    )


def _with_stored(plan: Plan, runtime: Runtime) -> Plan:
    """The plan, and what of it the artifact store has; where there is none, as it is."""
    if (store := store_of(runtime)) is None:
        return plan
    stages = {artifact.stage for artifact in plan.whole}
    return replace(plan, stored=store.fingerprints(stages))
