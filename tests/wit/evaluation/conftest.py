"""A tiny random Llama, and benchmarks written on the spot."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from held_out_pairs import RECIPE, random_pairs, save
from quiz_model import CONTEXT, END, ByHand, make_byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from wit.evaluation.alignment_scores import alignment_scores
from wit.evaluation.catalogue import ResolvedBenchmark, resolve_benchmark
from wit.evaluation.results import Score
from wit.evaluation_recipes import AlignmentEvaluation, BenchmarkRecipe

Administered = tuple[ResolvedBenchmark, BenchmarkRecipe]
Write = Callable[..., Administered]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make a tiny model ten times slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_byte_tokenizer()


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.4,  # wide, so that the two best tokens are never nearly equal
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def write_benchmark(tmp_path: Path) -> Write:
    """Writes a benchmark of questions and answers, and resolves it."""

    def write(
        rows: list[dict[str, Any]],
        *,
        name: str = "quiz",
        num_fewshot: int = 0,
        limit: int | None = None,
        **changes: Any,
    ) -> Administered:
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{answer}}",
            "target_delimiter": "",
            "generation_kwargs": {"max_gen_toks": 12, "until": [END]},
            "metric_list": [
                {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
            ],
            "metadata": {"version": 3},
        }
        yaml_path = tmp_path / f"{name}.yaml"
        yaml_path.write_text(yaml.safe_dump({**config, **changes}))
        recipe = BenchmarkRecipe(name=name, num_fewshot=num_fewshot, limit=limit)
        return resolve_benchmark(name, yaml_path), recipe

    return write


@pytest.fixture
def by_hand(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> ByHand:
    return ByHand(model, tokenizer)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return save(tmp_path / "pairs", random_pairs())


@pytest.fixture
def aligned(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The model, gone a little way."""
    other = copy.deepcopy(model)
    torch.manual_seed(1)
    for weights in other.parameters():
        weights.data += 0.02 * torch.randn_like(weights)
    return other


@pytest.fixture
def measure(model: LlamaForCausalLM, tokenizer: Any) -> Any:
    def scores(
        one: LlamaForCausalLM,
        folder: Path,
        *,
        batch_size: int = 4,
        recipe: AlignmentEvaluation = RECIPE,
        beside: LlamaForCausalLM | None = model,
    ) -> dict[str, Score]:
        found = alignment_scores(
            recipe, one, beside, preferences=folder, tokenizer=tokenizer, batch_size=batch_size
        )
        return {score.benchmark: score for score in found}

    return scores
