"""The trainer itself: against TRL's, its weights, and all that it refuses."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaForCausalLM, PrinterCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from wit.config import Runtime
from wit.data.prepare import HELD_OUT, TRAIN, read_split
from wit.errors import ConfigError, TrainingError
from wit.likelihood import held_out_nll
from wit.models import load_model
from wit.recipes import SFTRecipe
from wit.roles import Role
from wit.tokenizers import load_tokenizer
from wit.training.arguments import training_arguments
from wit.training.callbacks import MAX_SKIPPED, History
from wit.training.sft import check_packing, make_trainer
from wit.training.trainer import WeightedSFTTrainer
from wit.weights import RoleWeights, TokenWeights

ROWS = 20  # not a multiple of a step's 8: the last step of an epoch is short
Parts = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def parts(base: Path, instructions: Path, tokenizer_folder: Path) -> Parts:
    return base, instructions, tokenizer_folder


def recipe(prompt: float = 0.2, response: float = 1.0, **knobs: object) -> SFTRecipe:
    defaults = {"learning_rate": 1e-2, "num_epochs": 2, "examples_per_step": 8, "seed": 0}
    weights = TokenWeights(prompt=prompt, response=response)
    return SFTRecipe(**{"weights": weights, **defaults, **knobs})


def weighted(
    parts: Parts, folder: Path, recipe: SFTRecipe, rows: Dataset | None = None, **runtime: object
) -> WeightedSFTTrainer:
    base, instructions, tokenizer = parts
    rows = rows or read_split(instructions, TRAIN).select(range(ROWS))
    where = Runtime(device="cpu", **runtime)
    return make_trainer(recipe, base, rows, load_tokenizer(tokenizer), folder, where)


def trained(trainer: SFTTrainer) -> list[dict[str, float]]:
    """What it logged at each step."""
    seen: list[dict[str, float]] = []

    class Collect(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in logs:
                seen.append({name: float(value) for name, value in logs.items()})

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Collect())
    trainer.train()
    return seen


def losses(figures: list[dict[str, float]]) -> list[float]:
    return [logged["loss"] for logged in figures]


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


def test_what_is_logged_of_roles_is_unweighted_and_of_the_whole_step(
    parts: Parts, tmp_path: Path
) -> None:
    """At the first step the model is the base, whose likelihoods are measured elsewhere too."""
    base, instructions, _ = parts
    rows = read_split(instructions, HELD_OUT)
    expected = held_out_nll(load_model(base), instructions, batch_size=7)
    for weights in ((0, 1), (0.3, 0)):
        chosen = recipe(*weights, examples_per_step=len(rows), num_epochs=1)
        first = trained(weighted(parts, tmp_path, chosen, rows, micro_batch_size=3))[0]
        found = {name for name in first if name.startswith("train_nll_")}
        assert found == {f"train_nll_{role}" for role in expected}
        for role, figure in expected.items():
            assert first[f"train_nll_{role}"] == pytest.approx(figure.nll, rel=1e-6)
            assert first[f"train_tokens_{role}"] == figure.num_tokens
        assert 0 <= first["train_accuracy_response"] <= 1
        assert first["train_entropy"] > 0
        assert first["tokens_per_second"] > 0
        assert first["peak_memory_bytes"] > 2**20


def test_the_first_token_of_a_packed_row_is_not_measured_either(
    parts: Parts, tmp_path: Path
) -> None:
    rows = read_split(parts[1], TRAIN).select(range(ROWS)).to_list()
    without_bos = [
        {**row, "input_ids": row["input_ids"][1:], "roles": row["roles"][1:]} for row in rows
    ]
    padded, packed = (
        trained(weighted(parts, tmp_path, recipe(0, 1), Dataset.from_list(without_bos), packing=p))
        for p in (False, True)
    )
    for name, value in padded[0].items():
        if name.startswith(("train_", "loss", "grad")):
            assert packed[0][name] == pytest.approx(value, rel=1e-5), name
    assert "train_nll_prompt" in padded[0]


REFUSED: dict[str, dict[str, Any]] = {
    "label_smoothing_factor": {"label_smoothing_factor": 0.1},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    "packing": {"packing": True},
    "padding_free": {"padding_free": True},
    "assistant_only_loss": {"assistant_only_loss": True},
    "completion_only_loss": {"completion_only_loss": True},
    "loss_type": {"loss_type": "dft"},
    "max_length": {"max_length": 64},
    "max_steps": {"max_steps": 3},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_lose_weights_is_refused_by_name(
    name: str, parts: Parts, tmp_path: Path
) -> None:
    trainer = weighted(parts, tmp_path, recipe())
    arguments = {
        "output_dir": str(tmp_path),
        "max_length": None,
        "completion_only_loss": False,
        "activation_checkpointing": False,
        "use_cpu": True,
        "report_to": "none",
    }
    with pytest.raises(ConfigError, match=name):
        again(trainer, SFTConfig(**{**arguments, **REFUSED[name]}))


def test_a_loss_function_or_liger_is_refused_by_name(parts: Parts, tmp_path: Path) -> None:
    trainer = weighted(parts, tmp_path, recipe())
    with pytest.raises(ConfigError, match="compute_loss_func"):
        again(trainer, trainer.args, compute_loss_func=lambda *_: 0)
    trainer.args.use_liger_kernel = True
    with pytest.raises(ConfigError, match="liger"):
        again(trainer, trainer.args)


def again(trainer: WeightedSFTTrainer, args: SFTConfig, **kwargs: Any) -> WeightedSFTTrainer:
    kwargs = {"model": trainer.model, **kwargs}
    return WeightedSFTTrainer(
        args=args,
        train_dataset=trainer.train_dataset,
        processing_class=trainer.processing_class,
        collator=trainer.split.collator,
        examples_per_step=8,
        runtime=Runtime(device="cpu"),
        **kwargs,
    )


def lora_on_head(model: Any) -> Any:
    return get_peft_model(model, LoraConfig(target_modules=["lm_head"], task_type="CAUSAL_LM"))


def saved_head(model: Any) -> Any:
    config = LoraConfig(
        target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def prompt_tuning(model: Any) -> Any:
    return get_peft_model(model, PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))


@pytest.mark.parametrize("adapt", [lora_on_head, saved_head, prompt_tuning])
def test_an_adapter_that_the_loss_would_pass_by_is_refused(
    adapt: Callable[[Any], Any], parts: Parts, tmp_path: Path
) -> None:
    trainer = weighted(parts, tmp_path, recipe())
    with pytest.raises(ConfigError, match=r"LM head|prompts"):
        again(trainer, trainer.args, model=adapt(load_model(parts[0])))


def test_lora_trains_adapters_alone_and_refuses_modules_that_are_not_there(
    parts: Parts, tmp_path: Path
) -> None:
    trainer = weighted(parts, tmp_path, recipe(lora={"rank": 4}, num_epochs=6, learning_rate=5e-2))
    trainable = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert trainable
    assert all("lora_" in name and "lm_head" not in name for name in trainable)
    figures = losses(trained(trainer))
    assert sum(figures[-3:]) < sum(figures[:3]), "over the last epoch and over the first"
    for modules in (["nope"], ["lm_head"]):
        with pytest.raises(ConfigError, match="lora"):
            weighted(parts, tmp_path, recipe(lora={"modules": modules}))


def test_an_adapter_on_embeddings_that_are_the_head_is_refused(
    parts: Parts, tmp_path: Path
) -> None:
    model = load_model(parts[0])
    model.config.tie_word_embeddings = True
    model.tie_weights()
    config = LoraConfig(target_modules=["embed_tokens"], task_type="CAUSAL_LM")
    with pytest.warns(UserWarning, match="tied"):
        adapted = get_peft_model(model, config)
    trainer = weighted(parts, tmp_path, recipe())
    with pytest.raises(ConfigError, match="embeddings"):
        again(trainer, trainer.args, model=adapted)


def test_a_base_with_dropout_trains_without_it(parts: Parts, tmp_path: Path) -> None:
    """Else results would depend on how a step is split into forwards."""
    model = load_model(parts[0])
    model.config.attention_dropout = 0.5
    model.save_pretrained(tmp_path / "base")
    with_dropout = (tmp_path / "base", *parts[1:])
    chosen = recipe(num_epochs=1)
    assert losses(trained(weighted(with_dropout, tmp_path, chosen))) == losses(
        trained(weighted(parts, tmp_path, chosen))
    )


def test_float16_may_skip_steps_but_not_for_ever(tmp_path: Path) -> None:
    history = History(tmp_path, lambda *_: None)
    state = SimpleNamespace(global_step=1)

    def log(grad_norm: float, *, fp16: bool = True) -> None:
        logs = {"loss": 1.0, "grad_norm": grad_norm}
        history.on_log(SimpleNamespace(fp16=fp16), state, SimpleNamespace(), logs)

    for _ in range(3):
        for _ in range(MAX_SKIPPED):
            log(math.inf)
        log(1.0)
    with pytest.raises(TrainingError, match="grad_norm"):
        log(math.inf, fp16=False)
    with pytest.raises(TrainingError, match="grad_norm"):
        [log(math.inf) for _ in range(MAX_SKIPPED + 1)]


def test_packing_is_refused_for_a_model_whose_rows_would_see_each_other(parts: Parts) -> None:
    model = load_model(parts[0])
    check_packing(model, "float32")
    forward = model.forward

    def deaf(input_ids=None, position_ids=None, **kwargs):
        return forward(input_ids=input_ids, **kwargs)

    model.forward = deaf
    with pytest.raises(ConfigError, match="see each other"):
        check_packing(model, "float32")
    model.forward = lambda input_ids: forward(input_ids=input_ids)
    with pytest.raises(ConfigError, match="position_ids"):
        check_packing(model, "float32")


def test_activations_are_recomputed_if_asked_for_only(parts: Parts, tmp_path: Path) -> None:
    for is_asked in (False, True):
        trainer = weighted(parts, tmp_path, recipe(num_epochs=1), gradient_checkpointing=is_asked)
        trained(trainer)
        assert trainer.model.is_gradient_checkpointing == is_asked


def test_float16_needs_a_gpu(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float16"):
        weighted(parts, tmp_path, recipe(precision="float16"))
