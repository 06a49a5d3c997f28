"""What a trainer refuses because weights would be lost."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from trainers import Parts, losses, recipe, trained, weighted
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)
from trl.trainer.sft_config import SFTConfig

from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.errors import ConfigError, TrainingError
from wit.models import load_model
from wit.training.callbacks import MAX_SKIPPED, History
from wit.training.packing import problem_with_packing
from wit.training.trainer import WeightedSFTTrainer

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
    "fsdp": {"fsdp": True},
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


def test_what_accelerate_would_shard_is_refused_before_a_model_is_loaded(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as its --use_fsdp does
    with pytest.raises(ConfigError, match="set runtime sharding: fsdp"):
        weighted((tmp_path / "nowhere", *parts[1:]), tmp_path, recipe())


def test_a_precision_of_accelerate_that_the_recipe_has_not_is_refused(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(ConfigError, match="mixed_precision"):
        weighted(parts, tmp_path, recipe())
    same = weighted(parts, tmp_path, recipe(precision="bfloat16"))
    assert same.args.mixed_precision == "bf16"


def test_weights_of_messages_that_leave_nothing_to_learn_are_refused(
    parts: Parts, tmp_path: Path
) -> None:
    rows = read_split(parts[1], TRAIN).select(range(4)).to_list()
    masked = [{**row, "factors": [0.0] * len(row["roles"])} for row in rows]
    with pytest.raises(ConfigError, match="weights p0-r1: no token of any row has a weight above"):
        weighted(parts, tmp_path, recipe(0, 1), Dataset.from_list(masked))
    assert weighted(parts, tmp_path, recipe(0, 1), Dataset.from_list([*masked[1:], rows[0]]))


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
    chosen = recipe(adapter={"rank": 4, "tokens": "none"}, num_epochs=6, learning_rate=5e-2)
    trainer = weighted(parts, tmp_path, chosen)
    trainable = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert trainable
    assert all("lora_" in name and "lm_head" not in name for name in trainable)
    figures = losses(trained(trainer))
    assert sum(figures[-3:]) < sum(figures[:3]), "over the last epoch and over the first"
    for modules in (["nope"], ["lm_head"]):
        with pytest.raises(ConfigError, match="adapter"):
            weighted(parts, tmp_path, recipe(adapter={"modules": modules}))


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


def test_packing_is_for_models_whose_rows_do_not_see_each_other(parts: Parts) -> None:
    model = load_model(parts[0])
    assert problem_with_packing(model, "float32") is None
    forward = model.forward

    def deaf(input_ids=None, position_ids=None, **kwargs):
        return forward(input_ids=input_ids, **kwargs)

    model.forward = deaf
    assert "see each other" in str(problem_with_packing(model, "float32"))
    model.forward = lambda input_ids: forward(input_ids=input_ids)
    assert "position_ids" in str(problem_with_packing(model, "float32"))


def test_rows_are_packed_if_the_model_can_and_refused_if_it_is_asked_to_and_cannot(
    parts: Parts, tmp_path: Path
) -> None:
    assert weighted(parts, tmp_path, recipe()).split.collator.packing
    base, instructions, tokenizer = parts
    size = load_model(base).config.vocab_size
    bloom = BloomForCausalLM(BloomConfig(vocab_size=size, hidden_size=16, n_layer=1, n_head=2))
    bloom.save_pretrained(tmp_path / "bloom")  # its positions are distances, and never given
    parts = (tmp_path / "bloom", instructions, tokenizer)
    assert not weighted(parts, tmp_path, recipe()).split.collator.packing
    with pytest.raises(ConfigError, match=r"packing: BloomForCausalLM takes no position_ids; set"):
        weighted(parts, tmp_path, recipe(), packing=True)


def test_logits_that_are_capped_in_a_way_of_their_own_are_refused(
    parts: Parts, tmp_path: Path
) -> None:
    base, instructions, tokenizer = parts
    config = RecurrentGemmaConfig(
        vocab_size=load_model(base).config.vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    RecurrentGemmaForCausalLM(config).save_pretrained(tmp_path / "capped")
    with pytest.raises(ConfigError, match="logits_soft_cap"):
        weighted((tmp_path / "capped", instructions, tokenizer), tmp_path, recipe())


def test_float16_needs_a_gpu(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float16"):
        weighted(parts, tmp_path, recipe(precision="float16"))
