"""The stage: everything that is measured on one model, with the model loaded once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from wit.artifacts import Artifact, Source
from wit.config import Runtime
from wit.errors import StageError
from wit.evaluation.catalogue import ResolvedBenchmark, resolve_benchmark
from wit.evaluation.results import (
    PREFERENCES,
    SAMPLES_FOLDER,
    EvaluationResult,
    Sample,
    share_score,
)
from wit.recipes import EvaluationRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Parents = Mapping[str, Artifact | Source]


def evaluate(
    recipe: EvaluationRecipe, parents: Parents, out: Path, runtime: Runtime
) -> EvaluationResult:
    """Measures one model and writes ``scores.json`` and ``samples/NAME.jsonl`` into ``out``.

    Args:
        recipe: The benchmarks.
        parents: ``model``, ``tokenizer`` and ``benchmark:NAME`` for each; held-out rows are
            measured where ``instructions`` and ``preferences`` are given.
        out: Existing folder; nothing is written into it before all is measured.
        runtime: Device and batch size.

    Raises:
        BaseModelError: The model or its tokenizer cannot be loaded.
        StageError: Weights or outputs of the model are not finite, or a benchmark was not scored
            on all of its items.
    """
    from wit.evaluation.harness import run_benchmarks
    from wit.likelihood import held_out_nll, preference_accuracy
    from wit.models import choose_device, load_model
    from wit.tokenizers import load_tokenizer

    benchmarks = [(benchmark_of(b.name, parents), b) for b in recipe.benchmarks]
    folder = _model_folder(parents)
    model = load_model(folder, choose_device(runtime.device))
    tokenizer = load_tokenizer(parents["tokenizer"].path)
    _check_outputs(model, folder)
    batch_size = runtime.evaluation_batch_size
    nll, preferred = {}, None
    if instructions := parents.get("instructions"):
        try:
            nll = held_out_nll(model, instructions.path, batch_size=batch_size)
        except ValidationError as error:
            raise StageError(f"{folder}: held-out NLL is not a number: {error}") from None
    if preferences := parents.get("preferences"):
        share, num_pairs = preference_accuracy(model, preferences.path, batch_size=batch_size)
        if num_pairs:
            preferred = share_score(PREFERENCES, "accuracy", share, num_pairs)
    outcomes = run_benchmarks(model, tokenizer, benchmarks, batch_size=batch_size, seed=recipe.seed)
    result = EvaluationResult(
        scores=tuple(score for outcome in outcomes.values() for score in outcome.scores),
        runs={name: outcome.run for name, outcome in outcomes.items()},
        held_out_nll=nll,
        preference_accuracy=preferred,
    )
    for name, outcome in outcomes.items():
        _write_samples(out / SAMPLES_FOLDER / f"{name}.jsonl", outcome.samples)
    result.save(out)
    return result


def benchmark_of(name: str, parents: Parents) -> ResolvedBenchmark:
    """The benchmark of that name, as the parent ``benchmark:NAME`` says where it is."""
    source = parents[f"benchmark:{name}"]
    assert isinstance(source, Source)
    is_file = source.location.endswith((".yaml", ".yml"))
    return resolve_benchmark(name, source.location if is_file else None)


def _model_folder(parents: Parents) -> Path:
    model = parents["model"]
    return model.path / "model" if isinstance(model, Artifact) else model.path


def _check_outputs(model: "PreTrainedModel", folder: Path) -> None:
    """Finite weights can overflow on their way; NaN would then count as an ordinary wrong answer.

    Raises:
        StageError: The output after some token is NaN or infinite.
    """
    import torch

    tokens = torch.arange(min(model.config.vocab_size, 16), device=model.device)
    with torch.no_grad():
        logits = model(tokens[None]).logits
    if not logits.isfinite().all():
        raise StageError(
            f"{folder}: the model's outputs are NaN or infinite though its weights are not, so it "
            "cannot be evaluated; its training diverged. Try a smaller learning rate."
        )


def _write_samples(path: Path, samples: Sequence[Sample]) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = [sample.model_dump_json() + "\n" for sample in samples]
    path.write_text("".join(lines), encoding="utf-8")
