"""What a model card says of measurements: the model beside its relatives."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from wit.alignment_recipes import DPORecipe
from wit.analysis.intervals import half_width, item_stderr
from wit.evaluation.judged import JUDGEMENTS_FILE
from wit.evaluation.results import BenchmarkRun, EvaluationResult, Score
from wit.item_scores import hash_of_questions, judged_by
from wit.records import Kept, evaluations_by_model, kept
from wit.score_names import (
    LOG_RATIOS,
    OF_PAIRS,
    OF_SAMPLED,
    PREFERENCE_ACCURACY,
    SAMPLED_CUT,
)
from wit.weights import PRESETS, TokenWeights

THIS = "this model"
Key = tuple[str, str, str]  # benchmark, hash of its items, metric: what may stand in one row


class Row(NamedTuple):
    """One benchmark or judged set, and every model's score on the same items of it."""

    benchmark: str
    role: str
    metric: str
    items: str
    cells: list[str]


class Measured(NamedTuple):
    """All that was measured on one model."""

    scores: dict[Key, tuple[Score, BenchmarkRun | None]]  # None: a judge's
    likelihoods: dict[str, str]  # by role, and all else that is no benchmark's and no judge's


class Scoreboard(NamedTuple):
    """A model beside its SFT model, instruction tuning of the same seed, and the base."""

    models: dict[str, Measured]  # by what they are to the model; without those not measured

    @classmethod
    def of_model(cls, model: Kept, sft: Kept | None) -> "Scoreboard":
        """Collects every evaluation that is kept beside the model."""
        beside = {THIS: model.fingerprint}
        if sft is not None:
            if sft.fingerprint != model.fingerprint:
                beside["SFT before it"] = sft.fingerprint
            usual = _instruction_tuning_beside(model, sft)
            if usual is not None:
                beside["instruction tuning (0, 1), same seed"] = usual.fingerprint
            beside["base"] = sft.parents["base"]["fingerprint"]
        evaluations = evaluations_by_model(model.root)
        data = _data_of(model, sft, evaluations.get(model.fingerprint, []))
        measured = {name: _measured(evaluations.get(f, []), data) for name, f in beside.items()}
        return cls({name: found for name, found in measured.items() if any(found)})

    @property
    def own(self) -> dict[Key, tuple[Score, BenchmarkRun | None]]:
        """Main scores of the model itself."""
        return self.models[THIS].scores if THIS in self.models else {}

    def rows(self, roles: Mapping[str, str]) -> list[Row]:
        """One for each benchmark, and for each set that was judged."""
        return [
            Row(
                benchmark,
                roles.get(benchmark, "not known"),
                metric if score.higher_is_better else f"{metric} (less is better)",
                f"first {score.num_items}" if score.limit else str(score.num_items),
                [_score(found.scores.get(key)) for found in self.models.values()],
            )
            for key, (score, _) in sorted(self.own.items())
            for benchmark, _, metric in [key]
        ]

    def likelihoods(self) -> dict[str, list[str]]:
        """A cell for every model, by what was measured."""
        names = {name: None for found in self.models.values() for name in found.likelihoods}
        return {
            name: [found.likelihoods.get(name, "") for found in self.models.values()]
            for name in names
        }

    def limits(self, roles: Mapping[str, str]) -> Iterator[str]:
        """What is not to be read from these scores."""
        if not self.own:
            yield "It was not evaluated."
        for score, run in self.own.values():
            name = score.benchmark
            if score.limit:
                yield f"{name}: only its first {score.num_items} items were asked."
            if score.stderr is None:
                yield f"{name}: no standard error is known, so the score has no interval."
            if run is None:
                continue
            if run.num_cut_prompts:
                yield f"{name}: {run.num_cut_prompts} prompts lost their beginning, being too long."
            if run.empty_response_share:
                yield f"{name}: {100 * run.empty_response_share:.1f} % of the responses were empty."
        unknown = sorted({name for name, *_ in self.own} - set(roles))
        if unknown:
            yield (
                f"Whether {', '.join(unknown)} had a say in the choice of the weights is not "
                "recorded beside the model."
            )


def _data_of(model: Kept, sft: Kept | None, own: Sequence[Kept]) -> dict[str, str]:
    """Fingerprints of the held-out rows that all models of the card are compared on, by part.

    Of preferences those that it was aligned with. Of an SFT model, which several studies may share,
    and of one that was not measured on those, the ones that it was measured on last.
    """
    found = {} if sft is None else {"instructions": sft.parents["instructions"]["fingerprint"]}
    measured = [e.parents["preferences"]["fingerprint"] for e in own if "preferences" in e.parents]
    if measured:
        aligned = _fingerprints(model).get("preferences")
        found["preferences"] = aligned if aligned in measured else measured[-1]
    return found


def _measured(evaluations: list[Kept], data: Mapping[str, str]) -> Measured:
    """Of evaluations of one model, the newer of which counts; likelihoods on the same rows only."""
    scores: dict[Key, tuple[Score, BenchmarkRun | None]] = {}
    likelihoods: dict[str, str] = {}
    for evaluation in evaluations:
        result = EvaluationResult.load(evaluation.path)
        is_same_data = all(
            evaluation.parents[part]["fingerprint"] == data.get(part)
            for part in ("instructions", "preferences")
            if part in evaluation.parents
        )
        is_judged = (evaluation.path / JUDGEMENTS_FILE).is_file()
        for score in result.scores:
            run = result.runs.get(score.benchmark)
            if score.is_main and run is not None:
                scores[score.benchmark, run.items_hash, score.metric] = (score, run)
            elif score.is_main and is_judged:
                metric = judged_by(evaluation.recipe, score.metric)
                scores[score.benchmark, hash_of_questions(evaluation), metric] = (score, None)
            elif score.is_main and is_same_data:
                likelihoods[_diagnostic_name(score)] = _value(score)
    return Measured(scores, likelihoods)


def _diagnostic_name(score: Score) -> str:
    counted = "tokens" if score.metric.startswith(("nll", "KL")) else "items"
    counted = "pairs" if score.benchmark in (PREFERENCE_ACCURACY, *OF_PAIRS) else counted
    counted = "responses" if score.benchmark in (*LOG_RATIOS, *OF_SAMPLED) else counted
    counted = "prompts" if score.benchmark == SAMPLED_CUT else counted
    name = score.benchmark.removeprefix("nll_").replace("_", " ")
    return f"{name}, {score.num_items} {counted}"


def _score(found: tuple[Score, BenchmarkRun | None] | None) -> str:
    return "" if found is None else _value(found[0])


def _value(score: Score) -> str:
    known = math.nan if score.stderr is None else score.stderr
    stderr = item_stderr(score.value, known, score.num_items)
    width = None if math.isnan(stderr) else half_width(None, stderr, 0)
    return f"{score.value:.3f}" + ("" if width is None else f" ± {width:.3f}")


def _instruction_tuning_beside(model: Kept, sft: Kept) -> Kept | None:
    """What the usual weights gave with all else equal, if it is another model and is kept."""
    usual = TokenWeights.model_validate(PRESETS["instruction-tuning"])
    if TokenWeights.model_validate(sft.recipe["weights"]) == usual:
        return None
    for other in kept(model.root, "sft"):
        if TokenWeights.model_validate(other.recipe["weights"]) != usual:
            continue
        if _without(other.recipe, "weights") != _without(sft.recipe, "weights"):
            continue
        if _fingerprints(other) == _fingerprints(sft):
            return _aligned(model, other)
    return None


def _aligned(model: Kept, other_sft: Kept) -> Kept | None:
    """What the same alignment, in as many rounds, made of another SFT model; of SFT, that one."""
    if model.stage == "sft":
        return other_sft
    before = model.parent("policy")
    policy = None if before is None else _aligned(before, other_sft)
    if policy is None:
        return None
    wanted = _fingerprints(model) | {"policy": policy.fingerprint}
    for other in kept(model.root, "dpo"):
        if _fingerprints(other) == wanted and _is_same_alignment(other.recipe, model.recipe):
            return other
    return None


def _is_same_alignment(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """A record of an older wit lacks the knobs that there were not yet."""
    try:
        first, second = (DPORecipe.model_validate(recipe).identity() for recipe in (one, other))
    except ValidationError:  # it has some that are no more
        return one == other
    return first == second


def _fingerprints(artifact: Kept) -> dict[str, str]:
    """Of what it was made of; what a reference says follows from its policy.

    So do pairs that a policy made; they count by the preferences whose prompts it answered.
    """
    found = {
        part: parent["fingerprint"]
        for part, parent in artifact.parents.items()
        if parent["kind"] != "reference"
    }
    pairs = artifact.parent("preferences")
    if pairs is not None and pairs.stage == "pairs":
        found["preferences"] = pairs.parents["preferences"]["fingerprint"]
    return found


def _without(recipe: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in recipe.items() if name != key}
