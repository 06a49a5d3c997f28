"""The stage, on artifacts that the data stages really made."""

import json
import math
from pathlib import Path

import pytest
import torch
from quiz_model import CHOICES, QUESTIONS, ROWS, WORDS

from wit.artifacts import Artifact, Source
from wit.config import Runtime
from wit.data.prepare import make_instructions, make_preferences, make_tokenizer
from wit.errors import BaseModelError, StageError
from wit.evaluation.evaluate import evaluate
from wit.evaluation.results import EvaluationResult
from wit.recipes import EvaluationRecipe, InstructionsRecipe, PreferencesRecipe, TokenizerRecipe

RUNTIME = Runtime(device="cpu", evaluation_batch_size=3)
CHOICE_ROWS = [{"question": q, "choices": WORDS[:3], "label": 1} for q in QUESTIONS]


def make_data(kind, make, rows, folder: Path, tokenizer: Path) -> Artifact:
    """An artifact with about half of its rows held out."""
    rows_file = folder / f"{kind.stage}.jsonl"
    rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = kind(path=str(rows_file), held_out_fraction=0.5)
    artifact = Artifact(root=folder, recipe=recipe, parents={})
    with artifact.lock(), artifact.writing() as out:
        make(recipe, rows_file, tokenizer, out)
    return artifact


@pytest.fixture
def parents(model, tokenizer, write_benchmark, tmp_path) -> dict[str, Artifact | Source]:
    base = tmp_path / "base"
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    prepared = Artifact(root=tmp_path, recipe=TokenizerRecipe(), parents={})
    with prepared.lock(), prepared.writing() as out:
        make_tokenizer(prepared.recipe, base, out)
    rows = [{"prompt": q, "response": w} for q, w in zip(QUESTIONS, WORDS, strict=True)]
    rows_of_words = zip(QUESTIONS, WORDS, strict=True)
    pairs = [{"prompt": q, "chosen": w, "rejected": w + "!"} for q, w in rows_of_words]
    quiz, _ = write_benchmark(ROWS)
    choice, _ = write_benchmark(CHOICE_ROWS, name="choice", **CHOICES)
    return {
        "model": Source(kind="model", fingerprint="0" * 12, location=str(base)),
        "tokenizer": prepared,
        "instructions": make_data(
            InstructionsRecipe, make_instructions, rows, tmp_path, prepared.path
        ),
        "preferences": make_data(
            PreferencesRecipe, make_preferences, pairs, tmp_path, prepared.path
        ),
        **{
            f"benchmark:{b.name}": Source(
                kind="benchmark", fingerprint=b.fingerprint, location=str(b.yaml_path)
            )
            for b in (quiz, choice)
        },
    }


@pytest.fixture
def recipe() -> EvaluationRecipe:
    benchmarks = [{"name": name, "num_fewshot": 0, "limit": None} for name in ("quiz", "choice")]
    return EvaluationRecipe.model_validate({"benchmarks": benchmarks})


@pytest.fixture
def out(tmp_path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_everything_is_measured_and_written(parents, recipe, out):
    result = evaluate(recipe, parents, out, RUNTIME)
    assert EvaluationResult.load(out) == result
    assert [score.benchmark for score in result.scores] == ["quiz", "choice"]
    assert {"prompt", "response", "stop"} <= set(result.held_out_nll)
    accuracy = result.preference_accuracy
    assert accuracy is not None
    assert 0 < accuracy.num_items < len(ROWS)
    written = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    assert written == ["samples/choice.jsonl", "samples/quiz.jsonl", "scores.json"]
    for score in result.scores:
        lines = (out / "samples" / f"{score.benchmark}.jsonl").read_text().splitlines()
        items = [json.loads(line) for line in lines]
        assert [item["item"] for item in items] == list(range(len(ROWS)))
        assert sum(item["score"] for item in items) / len(items) == score.value


def test_a_second_evaluation_and_another_batch_size_say_the_same(parents, recipe, out):
    first = evaluate(recipe, parents, out, RUNTIME)
    wider = RUNTIME.model_copy(update={"evaluation_batch_size": 64})
    second = evaluate(recipe, parents, out, wider)
    assert first.scores == second.scores
    assert first.runs == second.runs
    for role, found in first.held_out_nll.items():
        assert second.held_out_nll[role].nll == pytest.approx(found.nll, abs=1e-5)


def test_without_held_out_rows_only_benchmarks_are_measured(parents, recipe, out):
    bare = {k: v for k, v in parents.items() if k not in ("instructions", "preferences")}
    result = evaluate(recipe, bare, out, RUNTIME)
    assert result.held_out_nll == {}
    assert result.preference_accuracy is None
    assert result.scores == evaluate(recipe, parents, out, RUNTIME).scores


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_no_number_is_refused(parents, recipe, out, model, value):
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = value
    model.save_pretrained(parents["model"].path)
    with pytest.raises(StageError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        evaluate(recipe, parents, out, RUNTIME)
    assert list(out.iterdir()) == []


def test_finite_weights_with_infinite_outputs_are_refused(parents, recipe, out, model):
    model.lm_head.weight.data.fill_(torch.finfo(torch.float32).max)
    model.save_pretrained(parents["model"].path)
    with pytest.raises(StageError, match="outputs are NaN or infinite"):
        evaluate(recipe, parents, out, RUNTIME)
    assert list(out.iterdir()) == []


def test_a_failing_benchmark_leaves_nothing_behind(parents, recipe, out, tmp_path):
    (tmp_path / "choice.jsonl").write_text('{"question": "Say fox!"}\n')
    with pytest.raises(StageError, match="benchmark choice"):
        evaluate(recipe, parents, out, RUNTIME)
    assert list(out.iterdir()) == []


def test_a_folder_without_a_model_is_refused(parents, recipe, out, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    parents["model"] = Source(kind="model", fingerprint="0" * 12, location=str(empty))
    with pytest.raises(BaseModelError, match="empty"):
        evaluate(recipe, parents, out, RUNTIME)


def test_a_trained_model_is_found_in_its_artifact(parents, recipe, out, model, tmp_path):
    source = parents["model"]
    trained = Artifact(root=tmp_path, recipe=TokenizerRecipe(), parents={"base": source})
    with trained.lock(), trained.writing() as folder:
        model.save_pretrained(folder / "model")
    expected = evaluate(recipe, parents, out, RUNTIME).scores
    assert evaluate(recipe, parents | {"model": trained}, out, RUNTIME).scores == expected
