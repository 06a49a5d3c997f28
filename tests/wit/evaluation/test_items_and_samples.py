"""An item has one number: where training rows are searched for it, and among scored answers."""

from pathlib import Path

import pytest
import yaml
from quiz_model import ROWS

from wit.evaluation.catalogue import ResolvedBenchmark, resolve_benchmark
from wit.evaluation.harness import read_items, run_benchmarks
from wit.evaluation_recipes import BenchmarkRecipe

EXACT = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
FILTERS = [  # two ways to cut the answer out, so that lm-eval logs every item twice
    {"name": name, "filter": [{"function": "take_first"}]} for name in ("one", "other")
]


def numbered(model, tokenizer, benchmark: ResolvedBenchmark, limit: int | None):
    """Number and question of each item, and number and prompt of each sample."""
    recipe = BenchmarkRecipe(name=benchmark.name, num_fewshot=0, limit=limit)
    outcome = run_benchmarks(model, tokenizer, [(benchmark, recipe)], batch_size=3, seed=0)
    items = [(item.item, item.text) for item in read_items(benchmark, limit)]
    return items, [(s.item, s.prompt, s.target) for s in outcome[benchmark.name].samples]


def assert_alike(items: list, samples: list, num_items: int) -> None:
    assert len(items) == len(samples) == num_items
    for place, ((item, text), (sample, prompt, target)) in enumerate(
        zip(items, samples, strict=True)
    ):
        question, _, answer = text.rpartition("\n")
        assert item == sample == place
        assert question in prompt
        assert answer == target
    assert len({text for _, text in items}) == num_items


@pytest.mark.parametrize("limit", [None, 4])
def test_a_benchmark_numbers_its_items_alike(
    model, tokenizer, write_benchmark, limit: int | None
) -> None:
    benchmark, _ = write_benchmark(ROWS, filter_list=FILTERS)
    items, samples = numbered(model, tokenizer, benchmark, limit)
    assert_alike(items, samples, limit or len(ROWS))


def test_a_group_numbers_the_items_of_its_tasks_one_after_the_other(
    model, tokenizer, write_benchmark, tmp_path: Path
) -> None:
    """Tasks whose names are not in the order in which the group has them, and of two lengths."""
    members = []
    for name, rows in (("zebra", ROWS[:5]), ("ant", ROWS[5:])):
        path = write_benchmark(rows, name=name, filter_list=FILTERS)[0].yaml_path
        config = yaml.safe_load(path.read_text())
        files = {"test": str(tmp_path / f"{name}.jsonl")}
        members.append({**config, "dataset_kwargs": {"data_files": files}})
    metric = {**EXACT, "weight_by_size": True, "filter_list": ["one", "other"]}
    metric.pop("higher_is_better")
    path = tmp_path / "both.yaml"
    path.write_text(
        yaml.safe_dump({"group": "both", "task": members, "aggregate_metric_list": [metric]})
    )
    benchmark = resolve_benchmark("both", path)
    items, samples = numbered(model, tokenizer, benchmark, None)
    assert_alike(items, samples, len(ROWS))
    items, samples = numbered(model, tokenizer, benchmark, 2)
    assert_alike(items, samples, 4)  # two of each task
