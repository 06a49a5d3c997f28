"""Memorising pairs of UUIDs: what is drawn, what is counted, and that methods differ in no more."""

import json
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import torch
from commands import wit
from rich.console import Console
from tiny import make_tiny_base

from wit.adapter_recipes import AdapterKnobs
from wit.bench.memorisation import METHODS, Method, best_rate, looks_of, measure, work_of
from wit.bench.memorisation_figure import write_figure
from wit.bench.memorisation_pairs import (
    accuracy_without_keys,
    character_accuracy,
    draw_pairs,
)
from wit.bench.memorisation_results import Memorisation, Training, mean_of, show
from wit.bench.memorisation_training import Prepared, Size, prepare, rank_of, train
from wit.data.prepare import TRAIN, read_split
from wit.data.schema import Message
from wit.errors import StageError
from wit.generation.encoding import PromptEncoder
from wit.models import load_model
from wit.roles import Role
from wit.tokenizers import load_tokenizer
from wit.training.adapters import num_trained

NUM_PAIRS, NUM_STEPS = 2, 80
RIGHT = "01234567-89ab-4def-8123-456789abcdef"
FEW = {
    "full": Method(None, (1e-2,)),
    "lora-8": METHODS["lora-8"]._replace(learning_rates=(1e-4, 1e-2)),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def found(base: Path) -> Memorisation:
    return measure(NUM_PAIRS, NUM_STEPS, 2, methods=FEW, base=base, num_uuids=40)


@pytest.fixture(scope="module")
def prepared(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(draw_pairs(NUM_PAIRS, 7), 7, base, tmp_path_factory.mktemp("prepared") / "new")


def test_the_seed_alone_decides_the_pairs() -> None:
    assert draw_pairs(50, 3) == draw_pairs(50, 3)
    assert draw_pairs(50, 3)[:20] == draw_pairs(20, 3)
    assert not set(draw_pairs(50, 3)) & set(draw_pairs(50, 4))


def test_what_is_drawn_are_uuids_and_no_two_are_equal() -> None:
    drawn = [uuid for pair in draw_pairs(200, 0) for uuid in pair]
    assert len(set(drawn)) == len(drawn) == 400
    assert all(str(UUID(uuid)) == uuid and UUID(uuid).version == 4 for uuid in drawn)


@pytest.mark.parametrize(
    ("response", "share"),
    [
        (RIGHT, 1),
        (RIGHT.upper(), 21 / 32),  # eleven of its digits are letters
        (RIGHT + "0", 1),
        (RIGHT[:9], 8 / 32),
        ("", 0),
        (" " + RIGHT, 0),  # all of it is one place off, and no digit equals its neighbour
        ("f" * 36, 2 / 32),  # a dash is no digit, neither missing nor in the way
        (RIGHT.replace("-", "x"), 1),
        ("1" + RIGHT[1:], 31 / 32),
    ],
)
def test_characters_count_at_their_place(response: str, share: float) -> None:
    assert character_accuracy([response], [RIGHT]) == pytest.approx(share)
    assert character_accuracy([response, RIGHT], [RIGHT, RIGHT]) == pytest.approx((share + 1) / 2)


def test_without_keys_the_most_frequent_digit_of_each_place_is_the_best_response() -> None:
    other = "f" + RIGHT[1:]
    assert accuracy_without_keys([RIGHT]) == 1
    assert accuracy_without_keys([RIGHT, other]) == pytest.approx(1 - 0.5 / 32)
    assert accuracy_without_keys([RIGHT, other, other]) == pytest.approx(1 - 1 / 3 / 32)


def test_models_are_asked_exactly_as_they_were_trained(prepared: Prepared) -> None:
    tokenizer = load_tokenizer(prepared.folder / "tokenizer")
    rows: list[Any] = [*read_split(prepared.folder / TRAIN, TRAIN)]
    assert len(rows) == NUM_PAIRS
    for pair in prepared.pairs:
        prompt = PromptEncoder(tokenizer).ids((Message("user", pair.key),))
        [row] = [row for row in rows if row["input_ids"][: len(prompt)] == prompt]
        roles = row["roles"][len(prompt) :]
        partner = [
            token
            for token, role in zip(row["input_ids"][len(prompt) :], roles, strict=True)
            if role == Role.RESPONSE
        ]
        assert Role.RESPONSE not in row["roles"][: len(prompt)]
        assert tokenizer.decode(partner) == pair.partner


def test_full_tuning_learns_a_few_pairs_and_the_result_has_every_training(
    found: Memorisation,
) -> None:
    assert found.steps == (10, 20, 30, 40, 50, 60, 70, 80)
    assert [curve.method for curve in found.curves] == list(FEW)
    assert {training.seed for training in found.sweep} == {0}
    assert [(t.method, t.seed) for t in found.trainings] == [(m, s) for s in (1, 2) for m in FEW]
    full = found.curves[0]
    assert full.accuracies[-1].value > 0.75 > found.without_keys.value
    assert full.accuracies[0].value < 0.6
    assert all(len(curve.accuracies) == len(found.steps) for curve in found.curves)
    floors = [accuracy_without_keys([p.partner for p in draw_pairs(NUM_PAIRS, s)]) for s in (1, 2)]
    assert found.without_keys.value == pytest.approx(sum(floors) / 2)


def test_every_method_did_the_same_work(found: Memorisation) -> None:
    assert found.same_work["steps"] == NUM_STEPS
    assert found.same_work["rows"] == NUM_STEPS * found.pairs_per_step
    lazy = found.trainings[0].model_copy(update={"work": {**found.same_work, "rows": 1}})
    with pytest.raises(StageError, match="rows"):
        work_of([lazy, *found.trainings[1:]])


@pytest.mark.parametrize("name", METHODS)
def test_as_many_weights_are_trained_as_the_method_says(name: str, prepared: Prepared) -> None:
    model = load_model(prepared.base)
    shapes = [
        (layer.in_features, layer.out_features)
        for place, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and place != "lm_head"
    ]
    adapter = METHODS[name].adapter
    training = train(name, adapter, 1e-3, Size(NUM_PAIRS, 1, (1,)), prepared)
    trained = training.num_trained
    assert training.work["steps"] == 1  # it ends at the last look, within an epoch
    if adapter is None:
        assert trained == sum(weight.numel() for weight in model.parameters())
        return
    assert trained == sum(_as_said(adapter, *shape) for shape in shapes)
    assert trained == num_trained(prepared.base, adapter, "test")


def _as_said(adapter: AdapterKnobs, wide: int, high: int) -> int:
    assert adapter.rank is not None
    if adapter.method == "lora":
        return adapter.rank * (wide + high) + (high if adapter.dora else 0)
    side = min(int((adapter.rank * (wide + high)) ** 0.5 + 0.5), max(wide, high))
    return (side - side % 2 if adapter.type == "rotation" else side) ** 2


def test_the_update_of_a_lora_has_no_more_than_its_rank(found: Memorisation) -> None:
    ranks = {curve.method: curve.update_rank.value for curve in found.curves}
    assert 0 < ranks["lora-8"] <= 8 < ranks["full"]


def test_the_learning_rate_is_taken_that_is_best_over_all_looks(found: Memorisation) -> None:
    late, early, other = (
        found.sweep[0].model_copy(
            update={"method": method, "learning_rate": rate, "accuracies": accuracies}
        )
        for method, rate, accuracies in (
            ("one", 1e-3, (0.1, 0.1, 1.0)),
            ("one", 1e-2, (0.1, 0.9, 0.9)),
            ("other", 1e-1, (1.0, 1.0, 1.0)),
        )
    )
    assert best_rate([late, early, other], "one") == 1e-2
    assert [t.learning_rate for t in found.sweep if t.method == "lora-8"] == [1e-4, 1e-2]
    for curve in found.curves:
        assert curve.learning_rate == best_rate(found.sweep, curve.method)


def test_what_is_known_after_some_steps_does_not_depend_on_where_one_looks(
    prepared: Prepared,
) -> None:
    often, seldom = (
        train("full", None, 1e-2, Size(NUM_PAIRS, 2, looks), prepared)
        for looks in ((5, 15, 50, 60), (50, 60))
    )
    assert often.accuracies[2:] == seldom.accuracies


def test_looks_are_evenly_spaced_and_the_last_is_at_the_end() -> None:
    assert looks_of(360) == (45, 90, 135, 180, 225, 270, 315, 360)
    assert looks_of(3) == (1, 2, 3)


def test_singular_values_below_a_thousandth_do_not_count() -> None:
    assert rank_of(torch.diag(torch.tensor([2.0, 0.02, 0.0019, 0.0]))) == 2


def test_the_interval_of_three_seeds_is_that_of_student() -> None:
    mean = mean_of([0.0, 0.5, 1.0])
    assert mean.value == 0.5
    assert mean.half_width == pytest.approx(4.30265 * 0.5 / 3**0.5, rel=1e-5)
    assert mean_of([0.25]) == (0.25, None)


def test_the_picture_is_drawn_and_the_json_has_the_curves(
    found: Memorisation, tmp_path: Path
) -> None:
    write_figure(found, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    said = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert said["curves"][0]["accuracies"][-1]["value"] == found.curves[0].accuracies[-1].value
    assert [Training.model_validate(one) for one in said["sweep"]] == [*found.sweep]


def test_the_table_has_every_method_and_the_last_look(found: Memorisation) -> None:
    console = Console(file=StringIO(), width=200)
    show(console, found)
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    assert all(f"{curve.num_trained:,}" in shown for curve in found.curves)
    assert " 20 " in shown
    assert " 80 " in shown
    assert " 70 " not in shown
    last = found.curves[0].accuracies[-1]
    assert f"{last.value:.2f} ± {last.half_width:.2f}" in shown


def test_a_method_that_there_is_not_is_refused() -> None:
    ended = wit("bench", "memorisation", "--only", "lora-7")
    assert ended.returncode == 2
    assert "lora-7" in ended.stderr
    assert "lora-64" in ended.stderr


def test_a_picture_that_could_not_be_written_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    ended = wit("bench", "memorisation", "--figure", tmp_path / "nowhere" / "curve.png")
    assert ended.returncode == 2
    assert "nowhere" in ended.stderr
