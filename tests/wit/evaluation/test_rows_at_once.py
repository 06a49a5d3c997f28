"""How many rows the memory holds is found once for a model, and stands in the record alone."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from quiz_model import CHOICES, QUESTIONS, ROWS, WORDS
from transformers import PreTrainedModel

from wit import resident
from wit.artifacts import Artifact, Source
from wit.config import Runtime
from wit.data.prepare import make_instructions, make_preferences, make_tokenizer
from wit.evaluation.evaluate import evaluate
from wit.evaluation_recipes import (
    AlignmentEvaluation,
    BenchmarkEvaluation,
    BenchmarkRecipe,
    EvaluationRecipe,
    ForgettingEvaluation,
    LikelihoodEvaluation,
    ResponsesEvaluation,
    SensitivityEvaluation,
)
from wit.lineage.outcome import outcome_of
from wit.memory import is_out_of_memory
from wit.recipes import InstructionsRecipe, PreferencesRecipe, TokenizerRecipe
from wit.sensitivity.recipe import SensitivityKnobs

RUNTIME = Runtime(device="cpu", evaluation_batch_size=8)
NUM_FITTING = 1  # row
ROUNDING = 1e-6  # of sums over tokens and rows, which other batches take in another order
CHOICE_ROWS = [{"question": q, "choices": WORDS[:3], "label": 1} for q in QUESTIONS]
SAME_BYTES = (BenchmarkEvaluation, ResponsesEvaluation)
Parents = dict[str, Artifact | Source]


def of(benchmark: str) -> BenchmarkEvaluation:
    return BenchmarkEvaluation(benchmark=BenchmarkRecipe(name=benchmark, num_fewshot=0, limit=None))


ALL: tuple[EvaluationRecipe, ...] = (
    of("quiz"),
    of("choice"),
    LikelihoodEvaluation(),
    ForgettingEvaluation(),
    ResponsesEvaluation(name="", max_new_tokens=4, num_prompts=None),
    SensitivityEvaluation(
        knobs=SensitivityKnobs(kinds=("paraphrase",), num_variants=2, max_new_tokens=4)
    ),
    AlignmentEvaluation(max_new_tokens=4),
)


def in_file(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def source(path: Path, kind: str, fingerprint: str = "1" * 12) -> Source:
    values = {"kind": kind, "fingerprint": fingerprint, "location": str(path)}
    return Source.model_validate(values)


def prepared(recipe: Any, folder: Path, make: Callable[[Path], object]) -> Artifact:
    artifact = Artifact(root=folder, recipe=recipe, parents={})
    with artifact.lock(), artifact.writing() as out:
        make(out)
    return artifact


@pytest.fixture
def parents(model, tokenizer, write_benchmark, tmp_path: Path) -> Parents:
    for name in ("model", "base"):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        model.lm_head.weight.data.mul_(1.1)
    own = prepared(
        TokenizerRecipe(),
        tmp_path,
        lambda out: make_tokenizer(TokenizerRecipe(), tmp_path / "base", out),
    )
    words = list(zip(QUESTIONS, WORDS, strict=True))
    rows = in_file(tmp_path / "rows.jsonl", [{"prompt": q, "response": w} for q, w in words])
    pairs = [{"prompt": q, "chosen": w, "rejected": w + "!"} for q, w in words]
    pairs = in_file(tmp_path / "pairs.jsonl", pairs)
    reworded = [{"prompt": q, "paraphrases": [f"{q}!"], "target": w} for q, w in words]
    instructions = InstructionsRecipe(path=str(rows), held_out_fraction=0.5)
    preferences = PreferencesRecipe(path=str(pairs), held_out_fraction=0.5)
    quizzes = [write_benchmark(ROWS)[0], write_benchmark(CHOICE_ROWS, name="choice", **CHOICES)[0]]
    return {
        "model": source(tmp_path / "model", "model", "0" * 12),
        "base": source(tmp_path / "base", "model"),
        "tokenizer": own,
        "instructions": prepared(
            instructions,
            tmp_path,
            lambda out: make_instructions(instructions, rows, own.path, out),
        ),
        "preferences": prepared(
            preferences,
            tmp_path,
            lambda out: make_preferences(preferences, pairs, own.path, out),
        ),
        "prompts": source(in_file(tmp_path / "prompts.jsonl", reworded), "rows"),
        **{f"benchmark:{b.name}": source(b.yaml_path, "benchmark") for b in quizzes},
    }


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    yield
    resident.release()


class SmallMemory:
    """Has a model ask torch for more memory than there is, whenever it is given too many rows."""

    def __init__(self, model: PreTrainedModel, num_fitting: int) -> None:
        self.num_fitting = num_fitting
        self.refused: list[int] = []  # numbers of rows
        model.register_forward_pre_hook(self._check, with_kwargs=True)

    def _check(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs["input_ids"]
        if len(ids) > self.num_fitting:
            self.refused.append(len(ids))
            torch.empty(2**60)


def loaded(parents: Parents) -> PreTrainedModel:
    model = parents["model"]
    return resident.resident_model(model.path, model.fingerprint, torch.device("cpu"))


def made(recipe: EvaluationRecipe, parents: Parents, root: Path, runtime: Runtime) -> Artifact:
    artifact = Artifact(root=root, recipe=recipe, parents=parents)
    with artifact.lock(), artifact.writing() as out:
        evaluate(recipe, parents, out, runtime)
    return artifact.verified()


def how(artifact: Artifact) -> dict[str, Any]:
    return artifact.record()["made"]["how"]


def test_memory_that_holds_few_rows_is_found_out_once_for_all_that_is_measured(parents, tmp_path):
    memory = SmallMemory(loaded(parents), NUM_FITTING)
    first, *others = ALL
    found = [made(first, parents, tmp_path / "small", RUNTIME)]
    assert memory.refused == [8, 4, 2], "halved until they fit"
    memory.refused.clear()
    found += [made(recipe, parents, tmp_path / "small", RUNTIME) for recipe in others]
    assert memory.refused == [], "nothing is tried again that did not fit"
    assert [how(artifact)["rows_at_once"] for artifact in found] == [NUM_FITTING] * len(ALL)


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.measures)
def test_whatever_is_measured_first_finds_it(parents, tmp_path, recipe):
    memory = SmallMemory(loaded(parents), NUM_FITTING)
    artifact = made(recipe, parents, tmp_path / "small", RUNTIME)
    assert memory.refused
    assert how(artifact)["rows_at_once"] == NUM_FITTING


def numbers_in(value: Any) -> Any:
    """What a file says, with numbers that are equal to others but for rounding."""
    if isinstance(value, dict):
        return {key: numbers_in(below) for key, below in value.items()}
    if isinstance(value, list):
        return [numbers_in(below) for below in value]
    return pytest.approx(value, rel=ROUNDING, abs=ROUNDING) if isinstance(value, float) else value


def content(file: Path) -> list[Any]:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    text = file.read_text()
    return (
        [json.loads(text)] if file.suffix == ".json" else list(map(json.loads, text.splitlines()))
    )


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.measures)
def test_another_number_leaves_the_same_files(parents, tmp_path, recipe):
    """To the byte where it counts right answers or holds answers; to rounding where it sums."""
    large = made(recipe, parents, tmp_path / "large", RUNTIME)
    SmallMemory(loaded(parents), NUM_FITTING)
    small = made(recipe, parents, tmp_path / "small", RUNTIME)
    assert small.fingerprint == large.fingerprint
    assert (how(large)["rows_at_once"], how(small)["rows_at_once"]) == (8, NUM_FITTING)
    files = sorted(small.record()["files"])
    assert files == sorted(large.record()["files"])
    assert "scores.json" in files
    for name in files:
        one, other = small.path / name, large.path / name
        assert content(one) == [numbers_in(row) for row in content(other)], name
        if isinstance(recipe, SAME_BYTES) and name in ("scores.json", "responses.jsonl"):
            assert one.read_bytes() == other.read_bytes(), name


def test_another_model_begins_with_all_that_are_wanted(parents, tmp_path):
    SmallMemory(loaded(parents), NUM_FITTING)
    made(of("choice"), parents, tmp_path / "one", RUNTIME)
    resident.release()
    other = made(of("choice"), parents, tmp_path / "two", RUNTIME)
    assert how(other)["rows_at_once"] == RUNTIME.evaluation_batch_size


def test_where_not_one_row_fits_the_memory_is_what_is_said(parents, tmp_path):
    memory = SmallMemory(loaded(parents), 0)
    with pytest.raises(Exception, match="memory") as caught:
        made(of("quiz"), parents, tmp_path / "none", RUNTIME)
    assert is_out_of_memory(caught.value)
    assert memory.refused[-1] == 1


def test_other_faults_are_not_taken_for_too_many_rows(parents, tmp_path):
    calls: list[int] = []

    def fail(module: Any, args: Any) -> None:
        calls.append(1)
        raise ValueError("broken")

    loaded(parents).register_forward_pre_hook(fail)
    with pytest.raises(Exception, match="broken"):
        made(LikelihoodEvaluation(), parents, tmp_path / "none", RUNTIME)
    assert len(calls) == 1


def test_mlflow_is_told_what_the_record_says_of_how_it_was_asked(parents, tmp_path):
    artifact = made(of("quiz"), parents, tmp_path / "root", RUNTIME)
    assert json.loads(outcome_of(artifact).tags["wit.how"]) == how(artifact)


def test_the_record_says_where_and_how_it_was_asked(parents, tmp_path):
    said = how(made(of("quiz"), parents, tmp_path / "root", RUNTIME))
    assert (said["device"], said["precision"], said["rows_at_once"]) == ("cpu", "float32", 8)
    [knobs] = said["generation"]
    assert knobs == {"max_gen_toks": 12, "until": ["<end>"], "do_sample": False}
    assert how(made(of("choice"), parents, tmp_path / "root", RUNTIME))["generation"] == []
    responses = how(made(ALL[4], parents, tmp_path / "root", RUNTIME))
    assert responses["generation"] == [{"do_sample": False, "max_new_tokens": 4}]
