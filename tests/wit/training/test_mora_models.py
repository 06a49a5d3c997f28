"""PEFT treats MoRA like a method of its own: made, switched, saved, loaded, merged."""

import importlib
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from mora_models import TOKENS, layers, llama, logits, train
from peft import PeftConfig, PeftModel, get_model_status, get_peft_model
from torch import nn
from transformers import LlamaForCausalLM

from wit.training import mora
from wit.training.mora import MoraConfig, MoraLinear, matrix_size
from wit.training.mora.operators import MORA_TYPES, MoraType

TYPES = pytest.mark.parametrize("mora_type", MORA_TYPES)


@TYPES
def test_a_model_starts_as_its_base_and_trains_the_matrices_only(mora_type: MoraType) -> None:
    plain = logits(llama())
    model = get_peft_model(llama(), MoraConfig(r=2, mora_type=mora_type))
    assert torch.equal(logits(model), plain)
    assert len(layers(model)) == 14  # all linear layers but the head
    trained = {name for name, values in model.named_parameters() if values.requires_grad}
    assert len(trained) == 14
    assert all(name.endswith("mora_matrix.default") for name in trained)
    sizes = [
        matrix_size(layer.in_features, layer.out_features, 2, mora_type) for layer in layers(model)
    ]
    assert model.get_nb_trainable_parameters()[0] == sum(size**2 for size in sizes)
    model(TOKENS, labels=TOKENS).loss.backward()
    for layer in layers(model):
        gradient = layer.mora_matrix["default"].grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_two_adapters_of_different_types_and_sizes(tmp_path: Path) -> None:
    model: Any = get_peft_model(
        llama(), MoraConfig(r=4, mora_type="rotation"), adapter_name="turned"
    )
    model.add_adapter("shared", MoraConfig(r=1, mora_type="sharing", target_modules=["v_proj"]))
    train(model, "turned")
    both = [layer for layer in layers(model) if "shared" in layer.mora_matrix]
    assert len(both) == 2
    for layer in both:
        layer.mora_matrix["shared"].data += 0.3
        assert layer.mora_matrix["shared"].shape != layer.mora_matrix["turned"].shape
        assert not layer.mora_matrix["shared"].requires_grad  # not active yet
    turned = logits(model)
    model.set_adapter("shared")
    shared = logits(model)
    assert all(layer.mora_matrix["shared"].requires_grad for layer in both)
    assert not any(layer.mora_matrix["turned"].requires_grad for layer in layers(model))
    with model.disable_adapter():
        plain = logits(model)
    assert torch.equal(plain, logits(llama()))
    for one, other in ((turned, shared), (shared, plain), (plain, turned)):
        assert not torch.allclose(one, other)
    model.set_adapter("turned")
    assert torch.equal(logits(model), turned)

    model.base_model.set_adapter(["turned", "shared"])
    at_once = logits(model)
    assert not torch.allclose(at_once, turned)
    model.merge_adapter()
    torch.testing.assert_close(logits(model), at_once, atol=1e-5, rtol=0)
    with model.disable_adapter():  # takes them off
        torch.testing.assert_close(logits(model), plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits(model), at_once, atol=1e-5, rtol=0)

    model.save_pretrained(str(tmp_path), save_embedding_layers=False)
    loaded = PeftModel.from_pretrained(llama(), str(tmp_path / "turned"), adapter_name="turned")
    loaded.load_adapter(str(tmp_path / "shared"), adapter_name="shared")
    torch.testing.assert_close(logits(loaded), turned)
    loaded.set_adapter("shared")
    torch.testing.assert_close(logits(loaded), shared)
    loaded.delete_adapter("turned")
    torch.testing.assert_close(logits(loaded), shared)
    assert not any("turned" in layer.mora_matrix for layer in layers(loaded))


def test_a_further_adapter_changes_nothing_until_it_is_active() -> None:
    model: Any = get_peft_model(llama(), MoraConfig(target_modules=["q_proj"]))
    train(model)
    one = logits(model)
    model.add_adapter("other", MoraConfig(target_modules=["up_proj"]))
    others = [layer for layer in layers(model) if "other" in layer.mora_matrix]
    assert [layer.out_features for layer in others] == [46, 46]
    for layer in others:
        layer.mora_matrix["other"].data += 1
    assert torch.equal(logits(model), one)
    trained = [name for name, values in model.named_parameters() if values.requires_grad]
    assert len(trained) == 2
    assert all(name.endswith("q_proj.mora_matrix.default") for name in trained)


@TYPES
def test_saved_loaded_and_merged_it_is_the_same_model(mora_type: MoraType, tmp_path: Path) -> None:
    config = MoraConfig(r=3, mora_type=mora_type, dropout=0.1, task_type="CAUSAL_LM")
    model = get_peft_model(llama(), config).eval()
    train(model)
    trained = logits(model)
    model.save_pretrained(str(tmp_path), save_embedding_layers=False)
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (said["peft_type"], said["mora_type"], said["r"]) == ("MORA", mora_type, 3)
    assert said["target_modules"] == sorted(said["target_modules"])
    read = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(read, MoraConfig)
    assert (read.mora_type, read.dropout) == (mora_type, 0.1)
    assert get_model_status(model).peft_types == {"default": "MORA"}
    for low_cpu_mem_usage in (False, True):
        loaded: Any = PeftModel.from_pretrained(
            llama(), str(tmp_path), low_cpu_mem_usage=low_cpu_mem_usage
        )
        assert torch.equal(logits(loaded), trained)
        merged = loaded.merge_and_unload()
        assert isinstance(merged, LlamaForCausalLM)
        assert not layers(merged)
        torch.testing.assert_close(logits(merged), trained, atol=1e-5, rtol=0)


def test_transformers_puts_it_on_too() -> None:
    model = llama()
    plain = logits(model)
    model.add_adapter(MoraConfig(target_modules=["q_proj"]), adapter_name="own")
    train(model, "own")
    assert not torch.allclose(logits(model), plain)
    model.delete_adapter("own")
    assert torch.equal(logits(model), plain)


def test_adapters_go_where_they_are_told_to() -> None:
    def named(**settings: Any) -> set[str]:
        model = get_peft_model(llama(), MoraConfig(**settings))
        names = {name for name, module in model.named_modules() if isinstance(module, MoraLinear)}
        return {name.removeprefix("base_model.model.model.layers.") for name in names}

    both = ["q_proj", "down_proj"]
    assert named(target_modules=both, layers_to_transform=[1]) == {
        "1.self_attn.q_proj",
        "1.mlp.down_proj",
    }
    assert named(target_modules=both, layers_to_transform=0, layers_pattern="layers") == {
        "0.self_attn.q_proj",
        "0.mlp.down_proj",
    }
    assert named(target_modules=".*v_proj") == {"0.self_attn.v_proj", "1.self_attn.v_proj"}
    assert len(named(exclude_modules=["q_proj"])) == 12


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"r": 0}, "whole number"),
        ({"r": 2.5}, "whole number"),
        ({"r": True}, "whole number"),
        ({"mora_type": 6}, "sharing, rotation"),
        ({"dropout": 1.0}, "dropout"),
        ({"layers_to_transform": [0]}, "list of names"),
        ({"target_modules": ["q_proj"], "layers_pattern": "h"}, "without layers_to_transform"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MoraConfig(**settings)


def test_what_is_no_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="embed_tokens, a Embedding"):
        get_peft_model(llama(), MoraConfig(target_modules=["embed_tokens"]))


@TYPES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("upcast", [True, False])
def test_a_base_in_half_precision(mora_type: MoraType, dtype: torch.dtype, upcast: bool) -> None:
    config = MoraConfig(r=2, mora_type=mora_type)
    model: Any = get_peft_model(llama(dtype), config, autocast_adapter_dtype=upcast)
    matrices = [layer.mora_matrix["default"] for layer in layers(model)]
    assert {matrix.dtype for matrix in matrices} == {torch.float32 if upcast else dtype}
    assert torch.equal(logits(model), logits(llama(dtype)))
    train(model)
    found = logits(model)
    assert found.dtype == dtype
    model(TOKENS, labels=TOKENS).loss.backward()
    assert all(layer.mora_matrix["default"].grad is not None for layer in layers(model))
    exact = get_peft_model(llama(), MoraConfig(r=2, mora_type=mora_type))
    assert not torch.allclose(logits(exact), found.float(), atol=0.05, rtol=0.05)
    train(exact)
    torch.testing.assert_close(found.float(), logits(exact), atol=0.05, rtol=0.05)
    merged = model.merge_and_unload()
    assert merged.dtype == dtype
    torch.testing.assert_close(logits(merged).float(), found.float(), atol=0.05, rtol=0.05)


def test_registering_again_changes_nothing(tmp_path: Path) -> None:
    model = get_peft_model(llama(), MoraConfig(r=2))
    importlib.reload(mora)
    model.save_pretrained(str(tmp_path), save_embedding_layers=False)
    assert isinstance(PeftConfig.from_pretrained(str(tmp_path)), MoraConfig)
    assert get_peft_model(llama(), mora.MoraConfig(r=2)).peft_type == model.peft_type == "MORA"


def test_a_method_of_that_name_elsewhere_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    other = type("MoraConfig", (PeftConfig,), {"__module__": "peft.tuners.mora"})
    mapping: dict[Any, Any] = mora.PEFT_TYPE_TO_CONFIG_MAPPING
    monkeypatch.setitem(mapping, "MORA", other)
    with pytest.raises(ImportError, match=r"peft\.tuners\.mora has registered"):
        importlib.reload(mora)


def sizes_in_a_process(config: MoraConfig, folder: str) -> list[tuple[int, str]]:
    """Reading it back needs what importing registered."""
    config.save_pretrained(folder)
    read = PeftConfig.from_pretrained(folder)
    model = get_peft_model(nn.Sequential(nn.Linear(6, 6)), read)  # pyright: ignore
    return [(len(x.mora_matrix["default"]), x.mora_type["default"]) for x in layers(model)]


def test_a_spawned_process_knows_it_too(tmp_path: Path) -> None:
    config = MoraConfig(r=3, mora_type="sharing", target_modules=["0"])
    with ProcessPoolExecutor(1, get_context("spawn")) as worker:
        found = worker.submit(sizes_in_a_process, config, str(tmp_path)).result()
    assert found == [(6, "sharing")]
