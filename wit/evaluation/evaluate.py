"""The stage: one thing that is measured on one model, which other measurements may share."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wit.artifacts import Artifact, Source, say_how
from wit.config import Runtime
from wit.evaluation.catalogue import ResolvedBenchmark, resolve_benchmark
from wit.evaluation.results import EvaluationResult, Outcome
from wit.evaluation.samples import write_samples
from wit.evaluation_recipes import (
    AlignmentEvaluation,
    BenchmarkEvaluation,
    BenchmarkRecipe,
    EvaluationRecipe,
    ForgettingEvaluation,
    JudgeEvaluation,
    LikelihoodEvaluation,
    ResponsesEvaluation,
    SensitivityEvaluation,
)
from wit.resident import resident_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Parents = Mapping[str, Artifact | Source]


def evaluate(
    recipe: EvaluationRecipe, parents: Parents, out: Path, runtime: Runtime
) -> EvaluationResult:
    """Measures one thing on one model; writes ``scores.json``, and what single items gave.

    How it was asked, and with how many rows at once, the artifact's record says.

    Args:
        recipe: What is measured.
        parents: ``model``, ``tokenizer`` and what the recipe measures it on.
        out: Existing folder; nothing is written into it before all is measured.
        runtime: Device and batch size.

    Raises:
        BaseModelError: The model or its tokenizer cannot be loaded.
        DataError: What it is to be measured on cannot be read.
        StageError: Weights or outputs of the model are not finite, or a benchmark was not scored
            on all of its items.
    """
    if isinstance(recipe, JudgeEvaluation):
        result = _judged(recipe, parents, out, runtime)
        result.save(out)
        return result
    from wit.evaluation.batch_size import fitting_batch_size
    from wit.models import choose_device

    device = choose_device(runtime.device)
    model = resident_model(model_folder(parents["model"]), parents["model"].fingerprint, device)
    outcome: Outcome | None = None
    match recipe:
        case BenchmarkEvaluation():
            outcome = _benchmark(recipe, model, parents, runtime)
            result = EvaluationResult(
                scores=outcome.scores, runs={recipe.benchmark.name: outcome.run}
            )
        case LikelihoodEvaluation():
            result = _likelihood(model, parents, runtime)
        case AlignmentEvaluation():
            result = _alignment(recipe, model, parents, runtime)
        case ForgettingEvaluation():
            result = _forgetting(recipe, model, parents, runtime)
        case SensitivityEvaluation():
            result = _sensitivity(recipe, model, parents, out, runtime)
        case ResponsesEvaluation():
            result = _responses(recipe, model, parents, out, runtime)
        case _:
            raise TypeError(f"nothing measures {type(recipe).__name__}")
    if outcome is not None and outcome.samples:
        write_samples(out, outcome.samples)
    result.save(out)
    say_how(
        out,
        device=str(model.device),
        precision=str(model.dtype).removeprefix("torch."),
        rows_at_once=fitting_batch_size(model, runtime.evaluation_batch_size),
        generation=_generation(recipe, model, outcome),
    )
    return result


def _generation(
    recipe: EvaluationRecipe, model: "PreTrainedModel", outcome: Outcome | None
) -> list[dict[str, Any]]:
    """Its settings, whatever files say; none where nothing is generated."""
    match recipe:
        case AlignmentEvaluation():
            from wit.evaluation.alignment_scores import response_limit

            limit = response_limit(recipe, model)
            return [{"do_sample": True, "temperature": 1, "max_new_tokens": limit}]
        case ResponsesEvaluation(max_new_tokens=limit):
            return [{"do_sample": False, "max_new_tokens": limit}]
        case SensitivityEvaluation(knobs=knobs):
            return [{"do_sample": False, "max_new_tokens": knobs.max_new_tokens}]
    return [] if outcome is None else outcome.generation


def _benchmark(
    recipe: BenchmarkEvaluation, model: "PreTrainedModel", parents: Parents, runtime: Runtime
) -> Outcome:
    from wit.evaluation.harness import run_benchmarks
    from wit.tokenizers import load_tokenizer

    asked: BenchmarkRecipe = recipe.benchmark
    outcomes = run_benchmarks(
        model,
        load_tokenizer(parents["tokenizer"].path),
        [(benchmark_of(asked, parents), asked)],
        batch_size=runtime.evaluation_batch_size,
        seed=recipe.seed,
        system=asked.system,
    )
    return outcomes[asked.name]


def _likelihood(model: "PreTrainedModel", parents: Parents, runtime: Runtime) -> EvaluationResult:
    from wit.evaluation.batch_size import with_as_many_as_fit
    from wit.evaluation.likelihood_scores import likelihood_scores

    folders = [parents[name].path for name in ("instructions", "preferences")]
    scores = with_as_many_as_fit(
        model,
        runtime.evaluation_batch_size,
        lambda num_rows: likelihood_scores(model, *folders, batch_size=num_rows),
    )
    return EvaluationResult(scores=scores)


def _alignment(
    recipe: AlignmentEvaluation, model: "PreTrainedModel", parents: Parents, runtime: Runtime
) -> EvaluationResult:
    from wit.evaluation.alignment_scores import alignment_scores
    from wit.evaluation.batch_size import with_as_many_as_fit
    from wit.models import load_model
    from wit.tokenizers import load_tokenizer

    sft = parents.get("reference")
    reference = None if sft is None else load_model(model_folder(sft), model.device)
    tokenizer = load_tokenizer(parents["tokenizer"].path)
    scores = with_as_many_as_fit(
        model,
        runtime.evaluation_batch_size,
        lambda num_rows: alignment_scores(
            recipe,
            model,
            reference,
            preferences=parents["preferences"].path,
            tokenizer=tokenizer,
            batch_size=num_rows,
        ),
    )
    return EvaluationResult(scores=scores)


def _forgetting(
    recipe: ForgettingEvaluation, model: "PreTrainedModel", parents: Parents, runtime: Runtime
) -> EvaluationResult:
    from wit.data.text import read_text
    from wit.evaluation.batch_size import with_as_many_as_fit
    from wit.evaluation.forgetting import forgetting_scores
    from wit.models import load_model
    from wit.tokenizers import load_tokenizer

    is_base = parents["model"].fingerprint == parents["base"].fingerprint
    base = None if is_base else load_model(model_folder(parents["base"]), model.device)
    source = parents.get("text")
    is_hub = isinstance(source, Source) and source.revision is not None
    if recipe.text is None or source is None:
        text = None
    else:
        text = read_text(recipe.text, None if is_hub else source.path)
    tokenizer = load_tokenizer(parents["tokenizer"].path)
    scores = with_as_many_as_fit(
        model,
        runtime.evaluation_batch_size,
        lambda num_rows: forgetting_scores(
            recipe,
            model,
            base,
            instructions=parents["instructions"].path if base else None,
            text=text,
            tokenizer=tokenizer,
            batch_size=num_rows,
        ),
    )
    return EvaluationResult(scores=scores)


def _sensitivity(
    recipe: SensitivityEvaluation,
    model: "PreTrainedModel",
    parents: Parents,
    out: Path,
    runtime: Runtime,
) -> EvaluationResult:
    from wit.evaluation.batch_size import with_as_many_as_fit
    from wit.evaluation.sensitivity_scores import sensitivity_scores
    from wit.sensitivity.measure import measure_sensitivity
    from wit.sensitivity.wordings import read_reworded
    from wit.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(parents["tokenizer"].path)
    prompts = read_reworded(parents["prompts"].path)
    found = with_as_many_as_fit(
        model,
        runtime.evaluation_batch_size,
        lambda num_rows: measure_sensitivity(
            model, tokenizer, prompts, recipe.knobs, batch_size=num_rows
        ),
    )
    found.result.save(out, found.sets)
    return EvaluationResult(scores=sensitivity_scores(found.result))


def _responses(
    recipe: ResponsesEvaluation,
    model: "PreTrainedModel",
    parents: Parents,
    out: Path,
    runtime: Runtime,
) -> EvaluationResult:
    from wit.evaluation.batch_size import with_as_many_as_fit
    from wit.evaluation.responses import response_scores, save_responses
    from wit.generation.answers import answer
    from wit.generation.questions import read_questions
    from wit.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(parents["tokenizer"].path)
    questions = read_questions(parents["prompts"].path)[: recipe.num_prompts]
    answers = with_as_many_as_fit(
        model,
        runtime.evaluation_batch_size,
        lambda num_rows: answer(
            model,
            tokenizer,
            questions,
            max_new_tokens=recipe.max_new_tokens,
            batch_size=num_rows,
        ),
    )
    save_responses(out, answers.rows)
    return EvaluationResult(scores=response_scores(answers, recipe.name))


def _judged(
    recipe: JudgeEvaluation, parents: Parents, out: Path, runtime: Runtime
) -> EvaluationResult:
    from wit.evaluation.judged import judge_responses
    from wit.evaluation.responses import RESPONSES_FILE

    references = parents.get("references")
    responses = parents["responses"].path / RESPONSES_FILE
    where = None if references is None else references.path
    return EvaluationResult(scores=judge_responses(recipe, responses, where, out, runtime))


def benchmark_of(asked: BenchmarkRecipe, parents: Parents) -> ResolvedBenchmark:
    """The benchmark that is asked, as the parent ``benchmark:NAME`` says where it is."""
    source = parents[f"benchmark:{asked.name}"]
    assert isinstance(source, Source)
    is_file = source.location.endswith((".yaml", ".yml"))
    path = source.location if is_file else None
    return resolve_benchmark(asked.name, path, asked.data, asked.revision)


def model_folder(model: Artifact | Source) -> Path:
    """Where the weights are, of a base or of a model that was made."""
    return model.path / "model" if isinstance(model, Artifact) else model.path
