"""The stage, on artifacts that the data stages really made."""

import gc
import json
import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from quiz_model import CHOICES, QUESTIONS, ROWS, WORDS

from wit import resident
from wit.artifacts import Artifact, Source
from wit.config import Runtime
from wit.data.prepare import make_instructions, make_preferences, make_tokenizer
from wit.errors import BaseModelError, StageError
from wit.evaluation.evaluate import evaluate
from wit.evaluation.results import EvaluationResult
from wit.evaluation.samples import read_samples
from wit.evaluation_recipes import (
    AlignmentEvaluation,
    BenchmarkEvaluation,
    BenchmarkRecipe,
    LikelihoodEvaluation,
    ResponsesEvaluation,
    SensitivityEvaluation,
)
from wit.lineage.outcome import outcome_of
from wit.recipes import InstructionsRecipe, PreferencesRecipe, TokenizerRecipe
from wit.score_names import ALIGNMENT
from wit.sensitivity.recipe import SensitivityKnobs
from wit.sensitivity.results import SensitivityResult

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
def out(tmp_path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def of(benchmark: str) -> BenchmarkEvaluation:
    return BenchmarkEvaluation(benchmark=BenchmarkRecipe(name=benchmark, num_fewshot=0, limit=None))


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    yield
    resident.release()


def test_a_benchmark_is_measured_and_its_items_are_kept(parents, out):
    result = evaluate(of("choice"), parents, out, RUNTIME)
    assert EvaluationResult.load(out) == result
    [score] = result.scores
    assert score.benchmark == "choice"
    written = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    assert written == ["how.json", "samples.parquet", "scores.json"]
    samples = read_samples(out)
    assert [sample.item for sample in samples] == list(range(len(ROWS)))
    assert sum(sample.score or 0 for sample in samples) / len(samples) == score.value
    assert all(len(sample.logps or ()) == len(sample.responses) == 3 for sample in samples)


def test_likelihoods_have_intervals_and_no_items(parents, out):
    result = evaluate(LikelihoodEvaluation(), parents, out, RUNTIME)
    by_name = {score.benchmark: score for score in result.scores}
    assert {"nll_prompt", "nll_response", "nll_stop", "preference_accuracy"} <= by_name.keys()
    assert all(score.stderr for name, score in by_name.items() if name.startswith("nll_"))
    assert 0 < by_name["preference_accuracy"].num_items < len(ROWS)
    assert sorted(file.name for file in out.iterdir()) == ["how.json", "scores.json"]


def test_an_aligned_model_is_measured_beside_the_one_it_started_from(parents, model, out, tmp_path):
    parents = {part: parents[part] for part in ("model", "tokenizer", "preferences")}
    before = evaluate(AlignmentEvaluation(max_new_tokens=4), parents, out, RUNTIME)
    start = tmp_path / "start"
    model.save_pretrained(start)
    model.lm_head.weight.data.mul_(1.2)
    model.save_pretrained(parents["model"].path)
    recipe = AlignmentEvaluation(max_new_tokens=4)
    sft = Source(kind="model", fingerprint="1" * 12, location=str(start))
    artifact = Artifact(root=tmp_path, recipe=recipe, parents={**parents, "reference": sft})
    with artifact.lock(), artifact.writing() as folder:
        found = evaluate(recipe, artifact.parents, folder, RUNTIME)
    by_name = {score.benchmark: score for score in found.scores}
    assert set(by_name) == set(ALIGNMENT)
    assert by_name["log_ratio_chosen"].value != 0
    start_scores = {score.benchmark: score.value for score in before.scores}
    assert set(start_scores) < set(by_name)
    nll = by_name["nll_chosen"]
    assert nll.value != start_scores["nll_chosen"]
    # MLflow has the figures, their errors, and what they are of.
    outcome = outcome_of(artifact)
    assert outcome.metrics["kl_reference"] == by_name["kl_reference"].value
    assert outcome.metrics["log_ratio_margin_stderr"] == by_name["log_ratio_margin"].stderr
    assert outcome.measured_on["kl_reference"].digest == parents["preferences"].fingerprint
    [how] = artifact.record()["made"]["how"]["generation"]
    assert how == {"do_sample": True, "temperature": 1, "max_new_tokens": 4}


def test_the_record_has_the_limit_that_was_used(parents, model, out):
    parents = {part: parents[part] for part in ("model", "tokenizer", "preferences")}
    context = model.config.max_position_embeddings
    evaluate(AlignmentEvaluation(max_new_tokens=2 * context), parents, out, RUNTIME)
    [how] = json.loads((out / "how.json").read_text())["generation"]
    assert how["max_new_tokens"] == context // 2


@pytest.mark.parametrize("recipe", [of("quiz"), of("choice"), LikelihoodEvaluation()])
def test_another_batch_size_says_the_same(parents, recipe, out):
    first = evaluate(recipe, parents, out, RUNTIME)
    wider = RUNTIME.model_copy(update={"evaluation_batch_size": 64})
    second = evaluate(recipe, parents, out, wider)
    assert first.runs == second.runs
    for one, other in zip(first.scores, second.scores, strict=True):
        assert other.value == pytest.approx(one.value, abs=1e-5)
        assert other.num_items == one.num_items


def test_a_model_is_loaded_once_and_another_takes_its_place(parents, model, tmp_path):
    folder, device = parents["model"].path, torch.device("cpu")
    first = resident.resident_model(folder, "0" * 12, device)
    assert resident.resident_model(folder, "0" * 12, device) is first
    model.lm_head.weight.data.mul_(2)
    model.save_pretrained(folder)
    second = resident.resident_model(folder, "1" * 12, device)
    assert torch.equal(second.lm_head.weight, 2 * first.lm_head.weight), "of what is there now"
    held = weakref.ref(first)
    del first
    gc.collect()
    assert held() is None, "two would take twice the memory"
    resident.release()
    assert resident.resident_model(folder, "1" * 12, device) is not second


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_no_number_is_refused(parents, out, model, value):
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = value
    model.save_pretrained(parents["model"].path)
    with pytest.raises(StageError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        evaluate(of("quiz"), parents, out, RUNTIME)
    assert list(out.iterdir()) == []


def test_finite_weights_with_infinite_outputs_are_refused(parents, out, model):
    model.lm_head.weight.data.fill_(torch.finfo(torch.float32).max)
    model.save_pretrained(parents["model"].path)
    for recipe in (of("quiz"), LikelihoodEvaluation()):
        with pytest.raises(StageError, match="outputs are NaN or infinite"):
            evaluate(recipe, parents, out, RUNTIME)
    assert list(out.iterdir()) == []


def test_a_failing_benchmark_leaves_nothing_behind(parents, out, tmp_path):
    (tmp_path / "choice.jsonl").write_text('{"question": "Say fox!"}\n')
    with pytest.raises(StageError, match="benchmark choice"):
        evaluate(of("choice"), parents, out, RUNTIME)
    assert list(out.iterdir()) == []
    evaluate(of("quiz"), parents, out, RUNTIME)


def test_a_folder_without_a_model_is_refused(parents, out, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    parents["model"] = Source(kind="model", fingerprint="0" * 12, location=str(empty))
    with pytest.raises(BaseModelError, match="empty"):
        evaluate(of("quiz"), parents, out, RUNTIME)


def test_a_trained_model_is_found_in_its_artifact(parents, out, model, tmp_path):
    source = parents["model"]
    trained = Artifact(root=tmp_path, recipe=TokenizerRecipe(), parents={"base": source})
    with trained.lock(), trained.writing() as folder:
        model.save_pretrained(folder / "model")
    expected = evaluate(of("quiz"), parents, out, RUNTIME).scores
    assert evaluate(of("quiz"), parents | {"model": trained}, out, RUNTIME).scores == expected


def test_responses_are_kept_and_counted(parents, out, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": q}) + "\n" for q in QUESTIONS))
    there = parents | {"prompts": Source(kind="rows", fingerprint="1" * 12, location=str(prompts))}
    recipe = ResponsesEvaluation(name="", max_new_tokens=4, num_prompts=2)
    by_name = {s.benchmark: s for s in evaluate(recipe, there, out, RUNTIME).scores}
    rows = [json.loads(line) for line in (out / "responses.jsonl").read_text().splitlines()]
    assert [row["prompts"] for row in rows] == [[question] for question in QUESTIONS[:2]]
    assert by_name["response_tokens"].value == sum(sum(r["num_tokens"]) for r in rows) / 2
    unended = sum(not is_ended for row in rows for is_ended in row["stopped"]) / 2
    assert by_name["unended_responses"].value == unended
    assert not by_name["empty_responses"].higher_is_better
    judged = recipe.model_copy(update={"name": "bench"})
    [cut] = evaluate(judged, there, out, RUNTIME).scores
    assert (cut.benchmark, cut.metric, cut.value, cut.is_main) == ("bench", "cut_prompts", 0, False)


def test_sensitivity_is_measured_on_the_prompts_that_are_named(parents, out, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    rows = [
        {"prompt": q, "paraphrases": [f"{q}!"], "target": w}
        for q, w in zip(QUESTIONS, WORDS, strict=True)
    ]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    there = parents | {"prompts": Source(kind="rows", fingerprint="1" * 12, location=str(prompts))}
    knobs = SensitivityKnobs(kinds=("paraphrase", "template"), num_variants=2, max_new_tokens=4)
    found = evaluate(SensitivityEvaluation(knobs=knobs), there, out, RUNTIME)
    by_name = {score.benchmark: score for score in found.scores}
    kept = SensitivityResult.load(out)
    # Without a mixture, the first kind stands for all.
    assert by_name["sensitivity"].value == kept.kinds[0].posix.value
    assert by_name["sensitivity_template"].value == kept.kinds[1].posix.value
    assert by_name["worst_wording"].value <= by_name["mean_wording"].value
    assert by_name["mean_wording"].value <= by_name["best_wording"].value
