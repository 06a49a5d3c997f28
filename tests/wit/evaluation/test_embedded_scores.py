"""The embedded base on the embedded benchmarks: nothing of how they are asked changes a score."""

import json
import random

import pytest
import torch
import yaml
from quiz_model import run_one

from wit.builtin import BASE_DIR
from wit.evaluation.catalogue import SHIPPED, resolve_benchmark
from wit.evaluation_recipes import BenchmarkRecipe
from wit.models import load_model
from wit.tokenizers import load_tokenizer

# Of 255 items: a batch of 32 and one that is not full where responses are generated, else three,
# in which some are wrong.
LIMITS = {"wit_seen": 40, "wit_unseen": 40, "wit_choice": 96, "wit_cloze": 96}
NAMES = tuple(LIMITS)


@pytest.fixture(scope="module")
def base():
    return load_model(BASE_DIR).eval(), load_tokenizer(BASE_DIR)


def asked(base, name, batch_size, path=None):
    recipe = BenchmarkRecipe(name=name, num_fewshot=0, limit=LIMITS[name])
    return run_one(*base, (resolve_benchmark(name, path), recipe), batch_size=batch_size)


@pytest.fixture(scope="module")
def expected(base):
    return {name: asked(base, name, 32) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_size", [1, 7])
def test_batches_of_1_7_and_32_give_the_same_to_the_last_item(base, expected, name, batch_size):
    found = asked(base, name, batch_size)
    assert found.scores == expected[name].scores
    assert found.run == expected[name].run
    for one, other in zip(found.samples, expected[name].samples, strict=True):
        assert one.responses == other.responses
        assert one.score == other.score
        # Sums of another order: some 1e-7 of each of a few tens of tokens.
        assert one.logps == (other.logps and pytest.approx(other.logps, abs=1e-4))


@pytest.mark.parametrize("name", NAMES)
def test_another_order_of_requests_gives_the_same_to_the_last_item(base, expected, name, tmp_path):
    config = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    rows = (SHIPPED / config["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
    rows = rows[: LIMITS[name]]
    order = random.Random(3).sample(range(len(rows)), len(rows))
    (tmp_path / "rows.jsonl").write_text("".join(rows[index] + "\n" for index in order))
    config["dataset_kwargs"]["data_files"]["test"] = "rows.jsonl"
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
    found = asked(base, name, 32, tmp_path / f"{name}.yaml")
    for one, other in zip(found.scores, expected[name].scores, strict=True):
        assert (one.value, one.num_items) == (other.value, other.num_items)
        assert one.stderr == pytest.approx(other.stderr, rel=1e-12)  # the items' sum rounds
    for place, index in enumerate(order):
        one, other = found.samples[place], expected[name].samples[index]
        assert (one.prompt, one.responses, one.score) == (
            other.prompt,
            other.responses,
            other.score,
        )


def test_the_base_says_different_things(expected):
    """Else equal responses would prove nothing. Untuned, it answers few requests rightly."""
    for name in NAMES:
        assert len({sample.responses for sample in expected[name].samples}) > LIMITS[name] / 5, name
    for name in ("wit_choice", "wit_cloze"):
        assert 0.2 < expected[name].scores[0].value < 0.99, name


def test_a_batch_that_memory_does_not_hold_is_halved_once_for_all_benchmarks(
    base, expected, caplog
):
    """The memory is made to hold ten rows: what a GPU raises is raised where it would be."""
    model, tokenizer = base
    sizes = []

    def hold_ten(_module, args, kwargs):
        ids = args[0] if args else kwargs["input_ids"]
        sizes.append(len(ids))
        if len(ids) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = model.register_forward_pre_hook(hold_ten, with_kwargs=True)
    try:
        first, second = (asked((model, tokenizer), name, 32) for name in ("wit_seen", "wit_choice"))
    finally:
        hook.remove()
    assert first.scores == expected["wit_seen"].scores
    assert second.scores == expected["wit_choice"].scores
    assert [size for size in sizes if size > 10] == [32, 16]
    assert max(sizes[2:]) == 8
    assert "16 rows do not fit into memory; now 8" in caplog.text


def test_a_system_text_stands_before_every_prompt(base, expected):
    recipe = BenchmarkRecipe(name="wit_seen", num_fewshot=0, limit=3)
    from wit.evaluation.harness import run_benchmarks

    benchmark = resolve_benchmark("wit_seen")
    found = run_benchmarks(*base, [(benchmark, recipe)], batch_size=4, seed=1, system="Be short.")[
        "wit_seen"
    ]
    for one, other in zip(found.samples, expected["wit_seen"].samples, strict=False):
        assert one.prompt.count("Be short.") == 1
        assert "Be short." not in other.prompt
    assert json.dumps(found.run.items_hash) != json.dumps(expected["wit_seen"].run.items_hash)
