"""The trainer itself: against TRL's, and its weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trainers import ROWS, Parts, losses, recipe, trained, weighted
from transformers import LlamaForCausalLM, PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.errors import ConfigError
from wit.models import load_model
from wit.recipes import SFTRecipe
from wit.roles import Role
from wit.tokenizers import load_tokenizer
from wit.training.arguments import training_arguments
from wit.weights import RoleWeights, TokenWeights


def plain(parts: Parts, folder: Path, recipe: SFTRecipe, **config: object) -> SFTTrainer:
    """TRL's own trainer on the same rows in the same order, with labels where ours has weights."""
    rows = read_split(parts[1], TRAIN).select(range(ROWS)).to_list()
    responses_only = recipe.weights.prompt == 0
    wanted = {Role.RESPONSE, Role.STOP} if responses_only else set(Role) - {Role.SPECIAL}
    labels = [
        [i if r in wanted else -100 for i, r in zip(row["input_ids"], row["roles"], strict=True)]
        for row in rows
    ]
    steps = weighted(parts, folder / "order", recipe).get_train_dataloader().batch_sampler

    class Ordered(SFTTrainer):
        def _get_train_sampler(self, train_dataset=None):
            class Rows(torch.utils.data.Sampler):
                def set_epoch(self, epoch):
                    steps.set_epoch(epoch)

                def __len__(self):
                    return ROWS

                def __iter__(self):
                    return (row for step in steps for row in step)

            return Rows()

    arguments = training_arguments(recipe, 0, Runtime(device="cpu"), folder / "trl", ROWS)
    ids = [row["input_ids"] for row in rows]
    return Ordered(
        model=load_model(parts[0]),
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}, **config),
        train_dataset=Dataset.from_dict({"input_ids": ids, "labels": labels}),
        processing_class=load_tokenizer(parts[2]),
    )


@pytest.mark.parametrize(("prompt", "loss"), [(0.0, "nll"), (1.0, "nll"), (0.0, "dft")])
def test_usual_weights_equal_trl_step_for_step(
    prompt: float, loss: str, parts: Parts, tmp_path: Path
) -> None:
    chosen = recipe(prompt, 1, loss=loss)
    ours = losses(trained(weighted(parts, tmp_path / "ours", chosen)))
    theirs = losses(trained(plain(parts, tmp_path / "trl", chosen, loss_type=loss)))
    assert len(ours) == len(theirs) == 6
    assert ours == pytest.approx(theirs, rel=2e-5)


def test_half_the_weights_are_half_the_loss(parts: Parts, tmp_path: Path) -> None:
    full, half = (
        trained(weighted(parts, tmp_path / str(w), recipe(w, w, num_epochs=1)))[0] for w in (1, 0.5)
    )
    assert half["loss"] == pytest.approx(full["loss"] / 2, rel=1e-6)
    assert half["grad_norm"] == pytest.approx(full["grad_norm"] / 2, rel=1e-5)


def test_a_model_that_takes_no_count_is_normalised_by_it_all_the_same(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of some models Trainer knows that, and would hand no count to the loss."""
    monkeypatch.setattr(LlamaForCausalLM, "accepts_loss_kwargs", False, raising=False)
    first = [
        losses(trained(weighted(parts, tmp_path, recipe(num_epochs=1), micro_batch_size=size)))[0]
        for size in (8, 1)
    ]
    assert first == pytest.approx([first[0]] * 2, rel=1e-5)


def test_factors_and_sources_reach_the_loss(parts: Parts, tmp_path: Path) -> None:
    rows = read_split(parts[1], TRAIN).select(range(ROWS)).to_list()
    by_factor = [{**row, "factors": [0.5] * len(row["roles"])} for row in rows]
    by_source = [{**row, "source": "code"} for row in rows]
    halves = TokenWeights(
        prompt=1, response=1, sources={"code": RoleWeights(prompt=0.5, response=0.5)}
    )

    def first_loss(rows: list[Any], **knobs: object) -> float:
        chosen = recipe(1, 1, num_epochs=1, **knobs)
        return losses(trained(weighted(parts, tmp_path, chosen, Dataset.from_list(rows))))[0]

    whole = first_loss([{**row, "factors": [1.0] * len(row["roles"])} for row in rows])
    assert first_loss(by_factor) == pytest.approx(whole / 2, rel=1e-6)
    sourced = [{**row, "factors": [1.0] * len(row["roles"])} for row in by_source]
    assert first_loss(sourced, weights=halves) == pytest.approx(whole / 2, rel=1e-6)


@pytest.mark.parametrize("column", ["roles", "source", "factors"])
def test_a_lost_column_is_an_error(column: str, parts: Parts, tmp_path: Path) -> None:
    rows = read_split(parts[1], TRAIN).remove_columns(column)
    with pytest.raises(ConfigError, match=column):
        weighted(parts, tmp_path, recipe(), rows)


def test_a_micro_batch_without_targets_is_a_finite_zero_in_the_graph(
    parts: Parts, tmp_path: Path
) -> None:
    trainer = weighted(parts, tmp_path, recipe(0, 1))
    roles = [int(Role.PROMPT)] * 3
    row = {"input_ids": [5, 6, 7], "roles": roles, "source": "", "factors": None}
    for rows in ([row], []):
        batch = trainer.split.collator(rows)
        totals = torch.tensor([10.0, 10.0], dtype=torch.float64)
        loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=totals)
        loss.backward()
        assert loss.item() == 0
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)


def update(parts: Parts, folder: Path, weights: tuple[float, float], **knobs: Any) -> torch.Tensor:
    """What a training adds to all weights together."""
    before = load_model(parts[0]).state_dict()
    trainer = weighted(parts, folder, recipe(*weights, **knobs))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    after = trainer.model.state_dict()
    return torch.cat([(after[name] - before[name]).flatten() for name in before])


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / a.norm())


def test_cells_on_one_ray_end_in_the_same_weights_unless_gradients_are_clipped(
    parts: Parts, tmp_path: Path
) -> None:
    """arXiv 2507.07817 has 35 cells, and 21 objectives."""

    def run(*weights: float, **knobs: Any) -> torch.Tensor:
        return update(parts, tmp_path, weights, learning_rate=1e-3, **knobs)

    response = run(0, 1)
    assert distance(response, run(0, 0.2)) < 1e-2
    assert distance(run(0.2, 0.4), run(0.4, 0.8)) < 1e-2
    assert distance(response, run(1, 1)) > 0.1
    clipped = {"max_grad_norm": 0.1}
    assert distance(run(0.2, 0.4, **clipped), run(0.04, 0.08, **clipped)) > 1e-2
    by_sum = {"normaliser": "weight_sum", **clipped}
    assert distance(run(0.2, 0.4, **by_sum), run(0.04, 0.08, **by_sum)) < 1e-3


def test_activations_are_recomputed_if_asked_for_only(parts: Parts, tmp_path: Path) -> None:
    for is_asked in (False, True):
        trainer = weighted(parts, tmp_path, recipe(num_epochs=1), gradient_checkpointing=is_asked)
        trained(trainer)
        assert trainer.model.is_gradient_checkpointing == is_asked


@pytest.mark.parametrize("adapter", [None, "lora", "qlora"])
def test_attention_is_what_the_runtime_asks_for(
    adapter: str | None, parts: Parts, tmp_path: Path
) -> None:
    trainer: Any = weighted(parts, tmp_path, recipe(adapter=adapter), attention="eager")
    assert trainer.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("adapter", [None, "lora", "qlora"])
def test_what_is_trained_is_float32(adapter: str | None, parts: Parts, tmp_path: Path) -> None:
    """Most steps are smaller than the resolution of less."""
    trainer: Any = weighted(parts, tmp_path, recipe(adapter=adapter))
    assert {w.dtype for w in trainer.model.parameters() if w.requires_grad} == {torch.float32}
