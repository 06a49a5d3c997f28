"""What a study measures on its models, and on what."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from wit.artifacts import Artifact, Source
from wit.config import Study
from wit.evaluation_recipes import (
    AlignmentEvaluation,
    BenchmarkEvaluation,
    BenchmarkRecipe,
    EvaluationRecipe,
    ForgettingEvaluation,
    JudgeEvaluation,
    LikelihoodEvaluation,
    Prompts,
    ResponsesEvaluation,
    SensitivityEvaluation,
)
from wit.sensitivity.recipe import SensitivityKnobs
from wit.study_sources import TRAINED_ON, judged_files, prompts_of, rows_of

Measure = tuple[EvaluationRecipe, Mapping[str, Artifact | Source]]  # and what it is measured on


class JudgedSet(NamedTuple):
    """Prompts whose responses are judged."""

    prompts: dict[str, Source]
    responses: ResponsesEvaluation
    judge: JudgeEvaluation
    references: dict[str, Source]


@dataclass(frozen=True)
class Measurements:
    """All that a study measures; its files are read once, however many models there are."""

    root: Path
    base: Source
    tokenizer: Artifact
    measures: tuple[Measure, ...]  # of every model that is tuned
    judged: tuple[JudgedSet, ...]

    @classmethod
    def of(
        cls,
        study: Study,
        root: Path,
        base: Source,
        data: Mapping[str, Artifact],
        benchmarks: Mapping[str, Source],
    ) -> Self:
        """What the study names.

        Args:
            study: That names it.
            root: Of artifacts.
            base: The model before tuning.
            data: The artifacts that all cells share, by stage.
            benchmarks: Their files.

        Raises:
            InputError: A file is not there or cannot be used; says where it stands.
        """
        measures = _measures(study, base, data, benchmarks)
        return cls(root, base, data["tokenizer"], tuple(measures), tuple(_judged_sets(study)))

    def on_base(self) -> tuple[Artifact, ...]:
        """Of the base, which has not gone from itself: there is no KL.

        Nor does it know how to answer: what it would draw says nothing.
        """
        return self._on(self.base, _on_base(self.measures))

    def on_sft(self, sft: Artifact) -> tuple[Artifact, ...]:
        """Of an SFT model."""
        return self._on(sft, self.measures)

    def on_aligned(self, model: Artifact, sft: Artifact) -> tuple[Artifact, ...]:
        """Of a model that was aligned; where that matters, beside the SFT model before it."""
        return self._on(model, _beside(self.measures, sft))

    def _on(self, model: Artifact | Source, measures: Iterable[Measure]) -> tuple[Artifact, ...]:
        measured = {"model": model, "tokenizer": self.tokenizer}
        found = [
            Artifact(root=self.root, recipe=recipe, parents={**measured, **on})
            for recipe, on in measures
        ]
        for asked, answered, judge, compared in self.judged:
            responses = Artifact(root=self.root, recipe=answered, parents={**measured, **asked})
            on = {"model": model, "responses": responses, **compared}
            found += [responses, Artifact(root=self.root, recipe=judge, parents=on)]
        return tuple(found)


def _measures(
    study: Study, base: Source, data: Mapping[str, Artifact], benchmarks: Mapping[str, Source]
) -> Iterator[Measure]:
    """What is measured on every model that is tuned, each with what it is measured on."""
    text = {} if study.text is None else {"text": rows_of(study, study.text, "text")}
    for benchmark in study.benchmarks:
        part = f"benchmark:{benchmark.name}"
        recipe = BenchmarkEvaluation(benchmark=BenchmarkRecipe.of(benchmark))
        yield recipe, {part: benchmarks[part]}
    yield AlignmentEvaluation(), {"preferences": data["preferences"]}
    yield LikelihoodEvaluation(), {name: data[name] for name in TRAINED_ON}
    instructions = {"instructions": data["instructions"]}
    yield ForgettingEvaluation(text=study.text), {"base": base, **instructions, **text}
    yield from _of_prompts(study)


def _of_prompts(study: Study) -> Iterator[Measure]:
    """What is measured on prompts that the study names."""
    if (wanted := study.sensitivity) is not None:
        knobs = SensitivityKnobs(**wanted.model_dump(exclude={"path"}))
        yield SensitivityEvaluation(knobs=knobs), {"prompts": prompts_of(study, "sensitivity")}
    if study.samples is not None:
        yield _responses(study.samples), {"prompts": prompts_of(study, "samples")}


def _judged_sets(study: Study) -> Iterator[JudgedSet]:
    if study.judge is None:
        return
    for number, judged in enumerate(study.judged):
        prompts, references = judged_files(study, number)
        judge = JudgeEvaluation(name=judged.name, kind=judged.kind, judge=study.judge)
        yield JudgedSet(prompts, _responses(judged, judged.name), judge, references)


def _responses(asked: Prompts, name: str = "") -> ResponsesEvaluation:
    return ResponsesEvaluation(
        name=name, max_new_tokens=asked.max_new_tokens, num_prompts=asked.num_prompts
    )


def _beside(measures: Iterable[Measure], sft: Artifact) -> Iterator[Measure]:
    for recipe, on in measures:
        is_beside = isinstance(recipe, AlignmentEvaluation)
        yield recipe, {**on, "reference": sft} if is_beside else on


def _on_base(measures: Iterable[Measure]) -> Iterator[Measure]:
    for recipe, on in measures:
        if isinstance(recipe, AlignmentEvaluation):
            continue
        if not isinstance(recipe, ForgettingEvaluation):
            yield recipe, on
        elif recipe.text is not None:
            yield recipe, {part: on[part] for part in ("base", "text")}
