"""What a study will make: every artifact with its fingerprint, before anything is made."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from wit.alignment_recipes import DPOKnobs, DPORecipe, ReferenceRecipe
from wit.artifact_store import store_of
from wit.artifacts import Artifact, Source
from wit.cell_plan import AlignedPlan, CellPlan
from wit.config import Cell, Runtime, Study, check_together
from wit.evaluation_recipes import (
    AlignmentEvaluation,
    BenchmarkEvaluation,
    BenchmarkRecipe,
    EvaluationRecipe,
    ForgettingEvaluation,
    ItemsRecipe,
    JudgeEvaluation,
    LikelihoodEvaluation,
    OverlapRecipe,
    Prompts,
    ResponsesEvaluation,
    SensitivityEvaluation,
)
from wit.files import check_writable
from wit.recipes import SFTRecipe, TokenizerRecipe
from wit.sensitivity.recipe import SensitivityKnobs
from wit.sharing import RESULTS, inputs_of
from wit.study_sources import (
    TRAINED_ON,
    base_sources,
    benchmarks_of,
    judged_files,
    prompts_of,
    rows_by_source,
    rows_of,
)

Measure = tuple[EvaluationRecipe, Mapping[str, Artifact | Source]]  # and what it is measured on


class _JudgedSet(NamedTuple):
    prompts: dict[str, Source]
    responses: ResponsesEvaluation
    judge: JudgeEvaluation
    references: dict[str, Source]


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
    cells: tuple[CellPlan, ...]
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
    def has_to_train(self) -> bool:
        """Whether a training is still to be made; else no machine is too small for it."""
        return not all(self.is_made(a) for a, _ in self.artifacts() if a.stage in ("sft", "dpo"))

    @property
    def alignment_of(self) -> dict[str, str]:
        """Of several alignments the name, by fingerprint of what is made of each and measured."""
        has_several = len(self.study.aligned_by) > 1
        aligned = (one for cell in self.cells for one in cell.aligned if has_several)
        return {a.fingerprint: one.alignment for one in aligned for a in one.artifacts}

    @property
    def labels(self) -> dict[str, str]:
        """What people read of each artifact of a cell; see ``CellPlan.label``."""
        names = self.alignment_of
        return {
            artifact.fingerprint: cell.label(names.get(artifact.fingerprint))
            for cell in self.cells
            for artifact in cell.artifacts
        }

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

    def cell(self, cell: Cell) -> CellPlan:
        """The artifacts of one of its cells."""
        return next(planned for planned in self.cells if planned.cell == cell)

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
    plan = _with_stored(_planned(study, root), runtime)
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

    measures = _measures(study, base, shared, benchmarks)
    judged = _judged_sets(study)

    def evaluations_of(
        model: Artifact | Source, measures: Iterable[Measure]
    ) -> tuple[Artifact, ...]:
        measured = {"model": model, "tokenizer": tokenizer}
        found = [
            Artifact(root=root, recipe=recipe, parents={**measured, **on})
            for recipe, on in measures
        ]
        for asked, answered, judge, compared in judged:
            responses = Artifact(root=root, recipe=answered, parents={**measured, **asked})
            on = {"model": model, "responses": responses, **compared}
            found += [responses, Artifact(root=root, recipe=judge, parents=on)]
        return tuple(found)

    def cell_plan(cell: Cell) -> CellPlan:
        recipe = SFTRecipe(**study.sft.model_dump(), weights=cell.weights, seed=cell.seed)
        sft = Artifact(
            root=root, recipe=recipe, parents={"base": base, "instructions": instructions}
        )
        starts: dict[str, Artifact | Source] = {"policy": sft, "preferences": preferences}
        after = partial(evaluations_of, measures=tuple(_beside(measures, sft)))
        references, aligned = _alignments(study, cell.seed, root, starts, after)
        return CellPlan(cell, sft, evaluations_of(sft, measures), references, aligned)

    return Plan(
        study=study,
        base=base,
        tokenizer=tokenizer,
        instructions=instructions,
        preferences=preferences,
        items=items,
        overlap=Artifact(root=root, recipe=OverlapRecipe(), parents={"items": items, **shared}),
        base_evaluations=evaluations_of(base, _on_base(measures)),
        cells=tuple(cell_plan(cell) for cell in study.cells),
    )


def _alignments(
    study: Study,
    seed: int,
    root: Path,
    starts: dict[str, Artifact | Source],
    evaluations_of: Callable[[Artifact], tuple[Artifact, ...]],
) -> tuple[tuple[Artifact, ...], tuple[AlignedPlan, ...]]:
    """What all objectives read of the reference, each once, and what each alignment makes."""
    made: dict[ReferenceRecipe, Artifact] = {}
    aligned = []
    for name, knobs in study.aligned_by.items():
        parents = dict(starts)
        for part, reference in _references(knobs).items():
            made.setdefault(reference, Artifact(root=root, recipe=reference, parents=starts))
            parents[part] = made[reference]
        recipe = DPORecipe(**knobs.model_dump(), seed=seed)
        dpo = Artifact(root=root, recipe=recipe, parents=parents)
        aligned.append(AlignedPlan(name, dpo, evaluations_of(dpo)))
    return tuple(made.values()), tuple(aligned)


def _references(knobs: DPOKnobs) -> dict[str, ReferenceRecipe]:
    """What an objective reads of the reference, by the part that it plays."""
    recipes = {}
    if knobs.has_reference:
        recipes["reference"] = ReferenceRecipe(precision=knobs.precision)
    if knobs.is_for_unpaired:
        recipes["mismatched"] = ReferenceRecipe(precision=knobs.precision, responses="mismatched")
    return recipes


def _with_stored(plan: Plan, runtime: Runtime) -> Plan:
    """The plan, and what of it the artifact store has; where there is none, as it is."""
    if (store := store_of(runtime)) is None:
        return plan
    stages = {artifact.stage for artifact, _ in plan.artifacts()}
    return replace(plan, stored=store.fingerprints(stages))


def _measures(
    study: Study, base: Source, data: Mapping[str, Artifact], benchmarks: Mapping[str, Source]
) -> list[Measure]:
    """What is measured on every model that is tuned, each with what it is measured on."""
    text = {} if study.text is None else {"text": rows_of(study, study.text, "text")}
    return [
        *(
            (BenchmarkEvaluation(benchmark=BenchmarkRecipe.of(benchmark)), {part: benchmarks[part]})
            for benchmark in study.benchmarks
            for part in [f"benchmark:{benchmark.name}"]
        ),
        (AlignmentEvaluation(), {"preferences": data["preferences"]}),
        (LikelihoodEvaluation(), {name: data[name] for name in TRAINED_ON}),
        (
            ForgettingEvaluation(text=study.text),
            {"base": base, "instructions": data["instructions"], **text},
        ),
        *_of_prompts(study),
    ]


def _of_prompts(study: Study) -> Iterator[Measure]:
    """What is measured on prompts that the study names."""
    if (wanted := study.sensitivity) is not None:
        knobs = SensitivityKnobs(**wanted.model_dump(exclude={"path"}))
        yield SensitivityEvaluation(knobs=knobs), {"prompts": prompts_of(study, "sensitivity")}
    if study.samples is not None:
        yield _responses(study.samples), {"prompts": prompts_of(study, "samples")}


def _judged_sets(study: Study) -> list[_JudgedSet]:
    """Every set that is judged; its files are read once, however many models there are."""
    if study.judge is None:
        return []
    sets = []
    for number, judged in enumerate(study.judged):
        prompts, references = judged_files(study, number)
        judge = JudgeEvaluation(name=judged.name, kind=judged.kind, judge=study.judge)
        sets.append(_JudgedSet(prompts, _responses(judged, judged.name), judge, references))
    return sets


def _responses(asked: Prompts, name: str = "") -> ResponsesEvaluation:
    return ResponsesEvaluation(
        name=name, max_new_tokens=asked.max_new_tokens, num_prompts=asked.num_prompts
    )


def _beside(measures: list[Measure], sft: Artifact) -> Iterator[Measure]:
    """What is measured on a model that was aligned: where that matters, beside its SFT parent."""
    for recipe, on in measures:
        is_beside = isinstance(recipe, AlignmentEvaluation)
        yield recipe, {**on, "reference": sft} if is_beside else on


def _on_base(measures: list[Measure]) -> Iterator[Measure]:
    """What is measured on the base, which has not gone from itself: there is no KL.

    Nor does it know how to answer: what it would draw says nothing.
    """
    for recipe, on in measures:
        if isinstance(recipe, AlignmentEvaluation):
            continue
        if not isinstance(recipe, ForgettingEvaluation):
            yield recipe, on
        elif recipe.text is not None:
            yield recipe, {part: on[part] for part in ("base", "text")}
