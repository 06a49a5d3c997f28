"""What an evaluation found, typed. lm-eval's result dictionaries end here.

* A ``Score`` is one metric of one benchmark, over all of its items or over none: a count that
  does not add up is an error, never a footnote.
* A ``BenchmarkRun`` says how the benchmark was put to the model.
* An ``EvaluationResult`` is what one evaluation measured on one model, kept as ``scores.json``.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from wit.config import Settings
from wit.errors import ArtifactError, StageError
from wit.evaluation.catalogue import ResolvedBenchmark
from wit.evaluation.clustered import clustered_share
from wit.evaluation.samples import Sample, empty_response_share, hash_of_samples
from wit.evaluation_recipes import BenchmarkRecipe

SCORES_FILE = "scores.json"
# Metrics that are a share of items; a value above 1 would be a percentage by mistake.
SHARES = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "accuracy", "exact_match"})
# Keys of lm-eval's result that hold no metric.
_NOT_METRICS = frozenset({"name", "alias", "sample_len", "sample_count"})


class Score(Settings):
    """One metric of one benchmark."""

    benchmark: str
    metric: str  # lm-eval's name for it, such as "exact_match"
    filter: str = "none"  # lm-eval's name for how the answer was cut out of the response
    value: float  # a fraction for accuracies, else in the metric's own unit
    stderr: NonNegativeFloat | None  # of the value; None where no closed form exists
    num_items: PositiveInt  # or units, where an item has several, as IFEval's instructions
    higher_is_better: bool
    is_main: bool  # the one score that stands for the benchmark
    limit: PositiveInt | None = None  # set: only the first items were asked

    @model_validator(mode="after")
    def _share_is_a_fraction(self) -> Self:
        if self.metric in SHARES and not 0 <= self.value <= 1:
            raise ValueError(f"{self.metric} is a fraction in [0, 1], not {self.value}")
        return self


class BenchmarkRun(Settings):
    """How one benchmark was put to the model, and what befell it."""

    version: str  # as its YAML says
    items_hash: str  # of all prompts and targets, as asked
    num_items: PositiveInt
    num_fewshot: NonNegativeInt
    is_chat: bool  # the chat template was applied
    empty_response_share: float | None  # of the responses; None where nothing is generated
    num_cut_prompts: NonNegativeInt  # lost their beginning: longer than the model's context


class Outcome(NamedTuple):
    """What one benchmark gave."""

    scores: tuple[Score, ...]  # the main one first
    run: BenchmarkRun
    samples: list[Sample]
    generation: list[dict[str, Any]]  # its knobs, as its tasks had them


class EvaluationResult(Settings):
    """What was measured on one model."""

    scores: tuple[Score, ...]
    runs: dict[str, BenchmarkRun] = Field(default_factory=dict)  # by benchmark

    def main_score(self, benchmark: str) -> Score:
        """The score that stands for the benchmark.

        Raises:
            KeyError: It was not among the benchmarks.
        """
        for score in self.scores:
            if score.benchmark == benchmark and score.is_main:
                return score
        raise KeyError(benchmark)

    def save(self, folder: Path) -> None:
        """Writes ``scores.json`` into ``folder``."""
        text = self.model_dump_json(indent=1)
        (folder / SCORES_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads ``scores.json`` of ``folder``.

        Raises:
            ArtifactError: It is missing, or not what ``save`` wrote.
        """
        path = folder / SCORES_FILE
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise ArtifactError(f"{path}: cannot be read: {error}") from None


def share_score(benchmark: str, metric: str, share: float, num_items: int) -> Score:
    """Score of a share of items, with the standard error of a mean of zeros and ones."""
    variance = share * (1 - share)
    return Score(
        benchmark=benchmark,
        metric=metric,
        value=share,
        stderr=math.sqrt(variance / (num_items - 1)) if num_items > 1 else None,
        num_items=num_items,
        higher_is_better=True,
        is_main=True,
    )


def outcome_from_lm_eval(
    found: Mapping[str, Any],
    benchmark: ResolvedBenchmark,
    recipe: BenchmarkRecipe,
    num_cut_prompts: int,
) -> Outcome:
    """What lm-eval found on one benchmark.

    Raises:
        StageError: Items are missing, or a value is not a number; nothing is scored then.
    """
    tasks = list(found["n-samples"])
    scored = next(iter(found["group_subtasks"] or tasks))  # a group comes before its parts
    scores = scores_from_lm_eval(
        benchmark.name,
        found["results"][scored],
        higher_is_better=found["higher_is_better"][scored],
        num_items=found["n-samples"].values(),
        limit=recipe.limit,
    )
    entries = [entry for task in tasks for entry in found["samples"][task]]
    check_counts(scores, entries)
    num_items = scores[0].num_items
    scores = tuple(_over_units(score, entries) for score in scores)
    main = [entry for entry in entries if entry["filter"] == scores[0].filter]
    samples = [sample_from_lm_eval(item, entry, scores[0]) for item, entry in enumerate(main)]
    run = BenchmarkRun(
        version=str(found["versions"].get(scored)),
        items_hash=hash_of_samples(samples),
        num_items=num_items,
        num_fewshot=recipe.num_fewshot,
        is_chat=benchmark.is_chat,
        empty_response_share=empty_response_share(samples),
        num_cut_prompts=num_cut_prompts,
    )
    configs = [found["configs"][task] for task in tasks]
    knobs = [c["generation_kwargs"] for c in configs if c["output_type"] == "generate_until"]
    once = [knob for number, knob in enumerate(knobs) if knob not in knobs[:number]]
    return Outcome(scores, run, samples, once)


def scores_from_lm_eval(
    benchmark: str,
    metrics: Mapping[str, Any],
    *,
    higher_is_better: Mapping[str, bool | None],
    num_items: Iterable[Mapping[str, int]],
    limit: int | None,
) -> tuple[Score, ...]:
    """Scores of one benchmark, the first one being its main score.

    Args:
        benchmark: Our name for it.
        metrics: lm-eval's ``results[task]``, with keys such as ``"acc,none"``.
        higher_is_better: lm-eval's ``higher_is_better[task]``, by metric.
        num_items: lm-eval's ``n-samples``, of the task or of every task of a group.
        limit: What was asked for on purpose: items per task. None: all.

    Raises:
        StageError: Items are missing, or a value is not a number; nothing is scored then.
    """
    asked = [_num_asked(benchmark, count, limit) for count in num_items]
    values = {}
    for key, value in metrics.items():
        metric, _, filter_name = key.partition(",")
        if key not in _NOT_METRICS and not metric.endswith("_stderr"):
            values[metric, filter_name or "none"] = value
    scores = []
    for (metric, filter_name), value in values.items():
        stderr = metrics.get(f"{metric}_stderr,{filter_name}")
        is_higher_better = higher_is_better.get(metric)
        if is_higher_better is None:
            raise StageError(
                f"benchmark {benchmark}: its file does not say whether a high {metric} is good; "
                "add 'higher_is_better' to that entry of its metric_list"
            )
        try:
            score = Score(
                benchmark=benchmark,
                metric=metric,
                filter=filter_name,
                value=value,
                stderr=stderr if isinstance(stderr, float | int) else None,
                num_items=sum(asked),
                higher_is_better=is_higher_better,
                is_main=not scores,
                limit=limit,
            )
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise StageError(f"benchmark {benchmark}: {metric} = {value!r}: {reason}") from None
        scores.append(score)
    if not scores:
        raise StageError(
            f"benchmark {benchmark}: has no score; if it is a group of lm-eval, name its parts"
        )
    return tuple(scores)


def _num_asked(benchmark: str, count: Mapping[str, int], limit: int | None) -> int:
    """Number of items that were scored, which must be all that were wanted."""
    wanted = count["original"] if limit is None else min(limit, count["original"])
    if count["effective"] != wanted:
        raise StageError(
            f"benchmark {benchmark}: {count['effective']} of {wanted} items were scored; "
            "a score over a part of them would not be comparable"
        )
    return wanted


def _over_units(score: Score, entries: Iterable[Mapping[str, Any]]) -> Score:
    """The same, over units where each item has several: IFEval's instructions, by prompt.

    Raises:
        StageError: The share of units is another than lm-eval's.
    """
    found = [entry[score.metric] for entry in entries if entry["filter"] == score.filter]
    if not all(isinstance(units, list) and units for units in found):
        return score
    share = clustered_share(found)
    if not math.isclose(share.value, score.value):
        raise StageError(
            f"benchmark {score.benchmark}: {score.metric} is {score.value}, but the share of its "
            f"{share.num_units} parts is {share.value}"
        )
    return score.model_copy(update={"stderr": share.stderr, "num_items": share.num_units})


def sample_from_lm_eval(item: int, entry: Mapping[str, Any], main: Score) -> Sample:
    """One of lm-eval's logged samples."""
    requests, answers = entry["arguments"], entry["resps"]
    is_generated = isinstance(answers[0][0], str)
    value, target = entry[main.metric], entry["target"]
    if isinstance(value, list) and value:
        value = sum(value) / len(value)
    if isinstance(target, int) and len(requests) > target >= 0:
        target = requests[target][-1]
    return Sample(
        item=item,
        prompt=requests[0][0],
        target=str(target),
        responses=tuple(answers[0] if is_generated else [request[-1] for request in requests]),
        logps=None if is_generated else tuple(_logp(answer[0]) for answer in answers),
        score=float(value) if isinstance(value, int | float) else None,
    )


def _logp(answer: Any) -> float:
    """From ``(log-probability, is it the greedy one)`` of a choice, or from that of a text."""
    return float(answer[0] if isinstance(answer, tuple | list) else answer)


def check_counts(scores: Iterable[Score], entries: Iterable[Mapping[str, Any]]) -> None:
    """Refuses a metric that only some items have; lm-eval would average it over those.

    Args:
        scores: Of one benchmark.
        entries: lm-eval's logged samples of it.

    Raises:
        StageError: Names the metric and both counts.
    """
    having = Counter((entry["filter"], metric) for entry in entries for metric in entry["metrics"])
    for score in scores:
        found = having[score.filter, score.metric]
        if found != score.num_items:
            raise StageError(
                f"benchmark {score.benchmark}: {score.metric} exists for {found} of "
                f"{score.num_items} items only"
            )
